"""An uploader's entry in its upstreams' lists of readers: how far its targets are, so that retention waits for them.

Written from what a target has committed: it may lag, it never leads. A table is registered before its first load, at slot 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from anchovies.core.errors import AnchovyError
from anchovies.core.retry import Retry
from anchovies.engine.services import Services, phrase
from anchovies.sdk.stream import Position
from anchovies.store import cursors
from anchovies.store.cursors import Cursor, Seen
from anchovies.store.keys import Home

_ABSENT = "@absent"  # how a target is called whose database file is not made yet; afterwards it has another name


class Place(msgspec.Struct, frozen=True):
    """Where one target of one table stands: `target` is how the uploader's own log calls it."""

    tbl: str
    target: str
    at: Position

    @property
    def key(self) -> tuple[str, str]:
        return self.tbl, self.target


class Registration:
    """One batch's dealings with the cursor of one upstream, whose log is `store_uuid`. Advisory: what fails is a warning.

    A cursor that could not be read is not written either: it may hold targets that this batch knows nothing of.
    """

    def __init__(self, services: Services, home: Home, store_uuid: str) -> None:
        self._s, self._home, self._uuid = services, home, store_uuid
        self._consumer = f"{services.session.user}/{services.session.anchovy_id}"
        self._retry = Retry(services.clock, services.ids, services.batch.time_left)
        self._lies_there: list[Seen] | None = None
        self._told = False

    def register(self, places: Iterable[Place]) -> None:
        """Before anything is loaded: the cursor has every target that is about to be filled."""
        places = list(places)
        if (there := self._read()) is not None and any(p.key not in {(x.tbl, x.target) for x in there} for p in places):
            self.advance(places)

    def advance(self, places: Iterable[Place]) -> None:
        """After the targets have committed: say so, if it is news. Targets that were not looked at stay where they were."""
        if (there := self._read()) is None:
            return
        news = {p.key: Seen(p.tbl, p.target, p.at.slot, p.at.cid) for p in places}
        made = {(tbl, f"{target.rpartition('@')[0]}{_ABSENT}") for tbl, target in news if not target.endswith(_ABSENT)}
        every = {key: x for x in there if (key := (x.tbl, x.target)) not in made} | news
        seen = [every[key] for key in sorted(every)]
        if seen != there:
            try:
                cursor = Cursor(self._consumer, self._uuid, seen)
                self._retry.call(lambda: cursors.write(self._s.store, self._home, cursor))
                self._lies_there = seen
            except AnchovyError as e:
                self._warn(e)

    def _read(self) -> list[Seen] | None:
        """What lies there, read once; nothing of another log. None: nobody knows."""
        if self._lies_there is None and not self._told:
            try:
                found = self._retry.call(lambda: cursors.read(self._s.store, self._home, self._consumer))
                self._lies_there = found.seen if found is not None and found.store == self._uuid else []
            except AnchovyError as e:
                self._warn(e)
        return self._lies_there

    def _warn(self, e: AnchovyError) -> None:
        self._told = True
        message = f"{self._home.root} could not be told how far {self._consumer} is, so it may keep data for longer: {phrase(e)}"
        self._s.tell("warning", message=message)
