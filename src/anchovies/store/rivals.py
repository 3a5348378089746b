"""What a session is told when somebody else's record stands where it wanted to write, or changed what it rests on."""

from __future__ import annotations

from anchovies.core.errors import Fenced, StaleSession
from anchovies.store.keys import Home
from anchovies.store.record import Change, Record
from anchovies.store.state import State


def stale(slot: int, what: str) -> StaleSession:
    """The batch rests on what is no longer true; it begins again."""
    return StaleSession(what, hint="nothing of this batch landed; it begins again from there", slot=slot)


def taken_over(home: Home, slot: int, workers: int, mine: int) -> Fenced:
    """Another number of workers has shared the log out anew."""
    return Fenced(
        f"{home.root} is shared by {workers} worker{'s' * (workers != 1)} now; this session is one of {mine}, and stops",
        hint=f"nothing is lost: start it with --workers {workers}, or stop those and start all of yours again",
        slot=slot,
    )


def overtaken(home: Home, found: Record) -> Fenced:
    """A newer session of the same lane, or a reset."""
    w, slot = found.writer, found.slot
    if found.kind == "reset":
        return Fenced(
            f"{home.root} was reset by {w.session} on {w.host} (slot {slot}); this session stops",
            hint="nothing is lost: start it again",
            slot=slot,
        )
    return Fenced(
        f"a newer session of {home.root} has committed ({w.session} on {w.host}, pid {w.pid}, slot {slot}); this one stops",
        hint="nothing is lost: the newer session goes on",
        slot=slot,
    )


def describes_otherwise(theirs: Change, mine: Change, before: State) -> bool:
    """Whether both describe a table, and not alike: then ours was made without knowing what theirs has added."""
    both = ((said, mine.tables[tbl], before.tables.get(tbl)) for tbl, said in theirs.tables.items() if tbl in mine.tables)
    return any(said not in (ours, known) for said, ours, known in both)
