"""What a session writes beside the truth: readable copies of what was committed, and the hint how far its log is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from anchovies.core.clock import Clock
from anchovies.core.errors import AnchovyError
from anchovies.engine.parts import Parts, Warn
from anchovies.store import heads
from anchovies.store.base import Store
from anchovies.store.checkpoints import keys_of, mirror
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.record import Record

HINT_EVERY = 5.0  # seconds: in a batch that goes on for hours, too, and never one for each of many commits


class Copies:
    """Of one session, whose log is `log`."""

    def __init__(self, store: Store, home: Home, clock: Clock, log: Log, parts: Parts, warn: Warn) -> None:
        self._store, self._home, self._clock, self._log, self._parts, self._warn = store, home, clock, log, parts, warn
        self._dirty: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        self._hinted = 0
        self._hinted_at = clock.monotonic()

    def committed(self, record: Record) -> None:
        """Note what has to be copied."""
        tables, checkpoints = self._dirty
        tables.update(record.change.tables)
        checkpoints.update({k: mirror(k, self._log.state.values(k)) for k in keys_of(record.change.checkpoints)})

    def write(self) -> None:
        """Copies of what was committed since the last time."""
        if self._dirty != ({}, {}):
            self._parts.mirror(*self._dirty, self._warn)
            self._dirty = ({}, {})

    def hint(self) -> None:
        """Say how far the log is, for those who look at many heads at once: a service's end, when the log says so itself, may be
        weeks away."""
        if self._log.committed and self._hinted != (slot := self._log.state.slot):
            with suppress(AnchovyError):
                heads.write(self._store, self._home, slot)
                self._hinted = slot
        self._hinted_at = self._clock.monotonic()

    def hint_now_and_then(self) -> None:
        if self._clock.monotonic() - self._hinted_at >= HINT_EVERY:
            self.hint()
