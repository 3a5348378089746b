"""Looking after a log: what `anchovy maintain` does, and what a session that has committed does at its end now and then."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from anchovies.core.clock import Clock, SystemClock
from anchovies.core.env import Redactor
from anchovies.core.ids import Ids, SystemIds
from anchovies.engine.edits import edit_log, who_edits
from anchovies.store import cursors
from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.lease import Maintained, Remembered
from anchovies.store.maintain import EVERY, Maintainer, Report
from anchovies.store.record import Change, Note, Record

DAY = 86_400


def look_after(
    store: Store,
    home: Home,
    retain: float | None,
    *,
    deep: bool = False,
    clock: Clock | None = None,
    ids: Ids | None = None,
) -> Report:
    """Snapshots, segments, retention (`retain` seconds; None: for ever), garbage. Safe at any time, by any number at once."""
    clock, ids = clock or SystemClock(), ids or SystemIds()
    who = edit_log(store, home, clock, ids).writer
    return Maintainer(store, home, clock, ids, who).run(retain, deep=deep)


def is_due(seen: Maintained, slot: int, now: int, retain: float | None) -> bool:
    """Whether a session looks after its log: every 256 commits, and once a day where data are to be retired.

    The clock decides when it is done, never what may go.
    """
    return slot // EVERY > seen.slot // EVERY or (retain is not None and abs(now - seen.at) >= DAY)


def noted(remembered: Remembered, slot: int, now: int) -> Remembered:
    """What the next session has to know of it."""
    return replace(remembered, maintained=Maintained(slot=slot, at=now))


def forget_consumer(store: Store, home: Home, consumer: str, user: str) -> bool:
    """Take an uploader (`id`, or `user/id`) off the list of readers that retention waits for. False: it was not on it."""
    return cursors.forget(store, home, consumer if "/" in consumer else f"{user}/{consumer}")


def forget_target(store: Store, home: Home, target: str) -> list[str]:
    """Take one target (a database that was replaced) off the lists that retention waits for; the uploaders that had it."""
    return cursors.forget_target(store, home, target)


def targets(store: Store, home: Home) -> list[str]:
    """What the registered readers load into."""
    return sorted({s.target for c in cursors.read_all(store, home) if c is not None for s in c.seen})


def consumers(store: Store, home: Home) -> list[str]:
    """The registered readers, as `user/id`; those that cannot be read are left out."""
    return sorted(c.consumer for c in cursors.read_all(store, home) if c is not None)


def reset(store: Store, home: Home, why: str, env: Mapping[str, str]) -> Record:
    """Fence every session of the anchovy. For a person who has mended or brought back a datastore."""
    log = edit_log(store, home, SystemClock(), SystemIds())
    log.load()
    record = log.reset(Change(note=Note(who=who_edits(env), why=Redactor.of(env)(why))))
    log.finish()
    return record
