"""Who reads what, where several workers share an anchovy: tables fall to one worker each, by name; of a table whose source offers
splits, each split does.

Nobody asks anybody: what falls to whom follows from the names alone, so no two workers have the same, on any machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from anchovies.core import values
from anchovies.core.errors import AnchovyError, ConfigError, StaleSession
from anchovies.core.words import count
from anchovies.engine.calls import call
from anchovies.engine.graph import Part
from anchovies.engine.services import Services

MOST = 1_000_000


def begin(services: Services) -> None:
    """Before anything is read: where another number of workers shared the log until now, this number takes over.

    Raises StaleSession if it does: what hooks and plans have seen by now is of before.
    """
    if services.log.begin():
        many = services.worker.of
        raise StaleSession(f"{services.home.root} is shared by {many} worker{'s' * (many > 1)} from now on, not as it was")


def falls_to(services: Services, part: Part) -> bool:
    """Whether this worker has something to read of a part of the graph."""
    return services.worker.owns(part.name) or has_splits(services, part)


def has_splits(services: Services, part: Part) -> bool:
    return any(services.routes.splits(root.name) is not None for root in part.roots)


def is_shared(services: Services, part: Part) -> bool:
    """Whether several workers read it: then no one of them can say that a table is complete."""
    return services.worker.of > 1 and has_splits(services, part)


def check(services: Services, part: Part) -> None:
    """Raises ConfigError for a table that has to be read whole, and is not."""
    for table in part.tables if is_shared(services, part) else ():
        tbl = table.tbl
        if tbl.snapshot or tbl.write_mode == "replace":
            what = "snapshot: true" if tbl.snapshot else "write: replace"
            raise ConfigError(
                f"table {tbl.name!r} is `{what}`, but {services.worker.of} workers share its splits: none reads the whole",
                hint=f"run {part.name} by one worker, or leave out the splits of its source: then one of the workers reads it",
                tbl=tbl.name,
            )


def reads(services: Services, part: Part, table: str, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each call of the source of `table` that falls to this worker: what it is given beside the rest. `given`: what a method that
    lists the splits may name. Raises ConfigError for splits that cannot be told apart, and what the author's code raises."""
    offered = services.routes.splits(table)
    if offered is None:
        if services.worker.owns(part.name):
            yield {}
        return
    for name, split in named_splits(table, _listed(services, offered, given)):
        if services.worker.owns(f"{table}:{name}"):
            yield {"split": split}


def describe(services: Services, part: Part, table: str, given: Mapping[str, Any]) -> list[str]:
    """In sentences, what of `table` falls to this worker."""
    worker, offered = services.worker, services.routes.splits(table)
    if offered is None or table not in {root.name for root in part.roots}:
        return [] if falls_to(services, part) else [f"another of the {worker.of} workers reads it"]
    every = named_splits(table, _listed(services, offered, given))
    mine = sum(worker.owns(f"{table}:{name}") for name, _ in every)
    share = f", {mine:,} of them for worker {worker.num} of {worker.of}" if worker.of > 1 else ""
    return [f"{count(len(every), 'split')}{share}"]


def _listed(services: Services, offered: object, given: Mapping[str, Any]) -> Iterable[object]:
    """The splits themselves: a list, or what a method or function gives."""
    if isinstance(offered, str):
        method = getattr(services.operator, offered, None)
        if not callable(method):
            raise ConfigError(
                f"@source(splits={offered!r}): {type(services.operator).__name__} has no method of that name",
                hint="splits is a list, a function, or the name of a method that gives one",
            )
        offered = method
    if callable(offered):
        with services.stop.guard():
            offered = call(offered, {**given, "self": services.operator})
    if isinstance(offered, str | bytes | Mapping) or not isinstance(offered, Iterable):
        raise ConfigError(
            f"splits are a list of values, got {values.short(offered)}", hint="a list of texts, dates, or [from, to] pairs"
        )
    return offered


def named_splits(table: str, splits: Iterable[object]) -> list[tuple[str, object]]:
    """Each split with its name: a text is its own, others are their JSON. Raises ConfigError for two of one name."""
    found: dict[str, object] = {}
    for split in splits:
        name = _name(table, split)
        if name in found:
            raise ConfigError(f"table {table!r} has two splits {name}", hint="each split is read once: leave one out", tbl=table)
        if len(found) >= MOST:
            raise ConfigError(f"table {table!r} has more than {MOST:,} splits", hint="make ranges of them", tbl=table)
        found[name] = split
    return list(found.items())


def _name(table: str, split: object) -> str:
    if isinstance(split, str):
        return split
    try:
        return json.dumps(values.encode(split), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    except AnchovyError as e:
        raise ConfigError(f"table {table!r}: a split is plain data: {e.message}", hint=e.hint, tbl=table) from None
