"""A simulated history told in words, for people who want to see what went wrong, or right."""

from __future__ import annotations

import re
from collections.abc import Callable

_PLACES: tuple[tuple[str, str], ...] = (
    (r"\$log/_format\.json$", "the format marker"),
    (r"\$log/log/\d+/0*(\d+)\.json$", r"slot \1 of the log"),
    (r"\$log/snap/(\d+)\.json\.gz$", "a snapshot"),
    (r"\$log/snap/$", "the snapshots"),
    (r"\$log/seg/ledger-[^/]*$", "the parts of ledgers"),
    (r"\$log/seg/.*$", "a segment"),
    (r"\$log/lease\.json$", "the lease"),
    (r"\$log/lease-(\d+)\.json$", r"the lease of worker \1"),
    (r"\$log/lock(-\d+)?$", "the lock"),
    (r"\$log/probe/.*$", "a probe"),
    (r"\$log/cursors/$", "the cursors"),
    (r"\$log/cursors/.*$", "a cursor"),
    (r"\$log/collected\.json$", "what was collected"),
    (r"\$log/man/.*$", "a manifest"),
    (r"\$heads/.*$", "the head"),
    (r"data/([^/]*)/(\d+-0*\d+)/(\w{4})\w*\.json$", r"data file \3 of table \1 (lane and epoch \2)"),
    (r"data/.*$", "data files"),
)
_VERBS = {"get": "reads", "create": "creates", "put": "writes", "delete": "deletes", "list": "lists"}
_FAULTS = {
    "before": "but the request fails before it has any effect",
    "after": "it takes effect, and the answer is lost",
    "later": "no answer comes, and the request will land at some later time",
}


def sentence(actor: str, what: tuple[object, ...]) -> str:
    """One event of the simulator as a line."""
    verb, *rest = (str(x) for x in what)
    who = f"{actor:<14} " if actor else f"{'—':<14} "
    if verb in _VERBS:
        return f"{who}{_VERBS[verb]} {place(rest[0])}"
    if verb in _FAULTS:
        return f"{who}{_VERBS[rest[0]]} {place(rest[1])}: {_FAULTS[verb]}"
    said: dict[str, Callable[[], str]] = {
        "start": lambda: f"{rest[0]} starts",
        "kill": lambda: f"{rest[0]} is killed",
        "pause": lambda: f"{rest[0]} is stopped for {rest[1]} turns",
        "ghost": lambda: "a request that was given up lands now",
        "ended": lambda: f"ends with {rest[0]}",
        "transaction": lambda: f"ends a transaction of its database, which stands at slot {_slot(rest[0])}",
        "heal": lambda: "all that still ran is killed, what was in flight has landed, and nothing fails any more",
        "end": lambda: f"everything has come together: {rest[0]}",
    }
    return who + (said[verb]() if verb in said else " ".join((verb, *rest)))


def place(key: str) -> str:
    """An object as a person would call it."""
    for pattern, words in _PLACES:
        if (found := re.search(pattern, key)) is not None:
            return found.expand(words)
    return key


def _slot(position: str) -> str:
    found = re.match(r"\((\d+),", position)
    return found[1] if found else position
