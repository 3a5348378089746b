"""What ends a service's pause early: the next slot of an upstream's log is there. The slot is the signal; nobody has to send one.

In a folder, file events tell when to look; of other machines on a network drive nothing is told, so every two seconds a look is
taken anyway. In a bucket each look is one GET of one small object that is not there yet, for each upstream: every second after
something came, then more and more seldom, up to every five seconds (about 17,000 a day).
"""

from __future__ import annotations

import os
import select
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from anchovies.core.errors import AnchovyError, NotFound
from anchovies.core.retry import Retry
from anchovies.engine.limits import StopSignal
from anchovies.engine.services import Services
from anchovies.store.base import Store
from anchovies.store.follow import Reader
from anchovies.store.keys import Home

#: seconds between two looks: (at first, at most)
EVENTS, FOLDER, MEMORY, BUCKET = (2.0, 2.0), (0.1, 0.1), (0.02, 0.02), (1.0, 5.0)
SLOWER = 1.2


class Waker:
    """Watches the logs of `homes` (by `user/id`). `close()` it."""

    def __init__(self, services: Services, homes: Mapping[str, Home]) -> None:
        self._store: Store = services.store
        self._stop: StopSignal = services.stop
        self._clock = services.clock
        self._retry = Retry(services.clock, services.ids, services.batch.time_left)
        self._homes = dict(homes)
        self._seen: dict[str, int] = {}
        self._watches: dict[str, tuple[str, int]] = {}
        self._events: Any = import_module("anchovies.engine.inotify").open_inotify() if homes and self._is_folder else None
        self._every = self._rate()
        self._pause = self._every[0]
        self._bell = os.pipe()
        os.set_blocking(self._bell[1], False)
        self._stop.also(self._ring)

    @property
    def _is_folder(self) -> bool:
        return "://" not in self._store.url

    def _rate(self) -> tuple[float, float]:
        if self._events is not None:
            return EVENTS
        if self._is_folder:
            return FOLDER
        return MEMORY if self._store.url.startswith("memory://") else BUCKET

    def close(self) -> None:
        self._stop.no_more(self._ring)
        for fd in self._bell:
            os.close(fd)
        if self._events is not None:
            self._events.close()

    def _ring(self) -> None:
        with suppress(OSError):
            os.write(self._bell[1], b"!")

    # what is known

    def begin(self) -> None:
        """Before a batch: everything up to now is its business. Asks for what no batch has told (see `note`)."""
        for source, home in self._homes.items():
            with suppress(AnchovyError):
                if source not in self._seen:
                    self._seen[source] = Reader(self._store, home, self._retry).state().slot
                while self._has(home, self._seen[source] + 1):
                    self._seen[source] += 1

    def note(self, seen: Mapping[str, int]) -> None:
        """Up to which slot a batch has read the logs."""
        self._seen.update({source: slot for source, slot in seen.items() if source in self._homes})

    # waiting

    def wait(self, seconds: float) -> set[str]:
        """Sleep, at most so long; the upstreams that have moved end it, and so does a stop. No look is taken where there is no
        pause."""
        end = self._clock.monotonic() + seconds
        while not self._stop.is_set():
            left = end - self._clock.monotonic()
            if left <= 0:
                break
            self._watch()  # before the look: what comes after it is told
            if moved := self._moved():
                self._pause = self._every[0]
                return moved
            self._sleep(min(left, self._pause) if self._homes else left)
            self._pause = min(self._every[1], self._pause * SLOWER)
        return set()

    def _moved(self) -> set[str]:
        found = set()
        for source, home in self._homes.items():
            with suppress(AnchovyError):  # what does not answer has nothing to say; the interval ends all the same
                if self._has(home, self._seen.get(source, 0) + 1):
                    found.add(source)
        return found

    def _has(self, home: Home, slot: int) -> bool:
        try:
            self._store.get(home.slot(slot))
        except NotFound:
            return False
        return True

    def _watch(self) -> None:
        """A watch on the folder in which the next slot of each log will appear, or on the one in which that folder will."""
        if self._events is None:
            return
        for source, home in self._homes.items():
            folder = self._folder(home, self._seen.get(source, 0) + 1)
            have, number = self._watches.get(source, ("", -1))
            if folder is not None and folder != have and (new := self._events.watch(folder)) is not None:
                if number >= 0 and number != new:
                    self._events.forget(number)
                self._watches[source] = (folder, new)

    def _folder(self, home: Home, slot: int) -> str | None:
        path = self._store.local_path(home.format)
        if path is None:
            return None  # no log yet: looks will find it
        root = path[: path.rindex(home.format)]
        page = root + home.slot(slot).rpartition("/")[0]
        return page if os.path.isdir(page) else os.path.dirname(page)

    def _sleep(self, seconds: float) -> None:
        """Until an event, or a stop."""
        waiting = select.poll()
        waiting.register(self._bell[0], select.POLLIN)
        if self._events is not None:
            waiting.register(self._events.fd, select.POLLIN)
        if waiting.poll(seconds * 1000) and self._events is not None:
            self._events.drain()
