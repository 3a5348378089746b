"""The values of one checkpoint key. Nearly always there is one; where the tables that it fed were read apart, there are several.

Values are kept newest first, and no table is in two of them. One without tables was set outside of any table (by a hook, by
hand): every table that has none of its own sees it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from anchovies.store.record import Checkpoints, CheckpointValue

Values = Sequence[CheckpointValue]


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are one: as JSON, so 1 is not true."""
    return encoded(a) == encoded(b)


def encoded(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def seen(values: Values, tbls: Collection[str] = ()) -> CheckpointValue | None:
    """What somebody sees who reads for `tbls`, which all see the same. Outside of any table: the newest value."""
    if not tbls:
        return values[0] if values else None
    own = (v for v in values if not set(tbls).isdisjoint(v.tbls))
    return next(own, None) or next((v for v in values if not v.tbls), None)


def with_value(values: Values, new: CheckpointValue) -> Values:
    """`values` after `new` was set: for its tables, which leave the others; without tables for everybody."""
    if not new.tbls or not values or (len(values) == 1 and values[0].tbls == new.tbls):
        return [new]
    rest = _without(values, new.tbls)
    alike = [v for v in rest if v.tbls and same(v.value, new.value)]
    tbls = sorted({t for v in [new, *alike] for t in v.tbls})
    return [replace(new, tbls=tbls) if alike else new, *(v for v in rest if v not in alike)]


def forgotten(values: Values, tbls: Collection[str]) -> Values:
    """`values` when `tbls` have none any more; neither do those that have none of their own."""
    return [v for v in _without(values, tbls) if v.tbls]


def _without(values: Values, tbls: Collection[str]) -> list[CheckpointValue]:
    left = [replace(v, tbls=[t for t in v.tbls if t not in tbls]) if v.tbls else v for v in values]
    return [now for was, now in zip(values, left, strict=True) if now.tbls or not was.tbls]


def after(values: Values, key: str, change: Checkpoints) -> Values:
    """The values of `key` after `change`: it is deleted, then forgotten for tables, then set, then others are put behind."""
    if key in change.delete:
        values = []
    if key in change.forget:
        values = forgotten(values, change.forget[key])
    if key in change.set:
        values = with_value(values, change.set[key])
    return [*values, *change.behind.get(key, ())]


def keys_of(change: Checkpoints) -> dict[str, None]:
    """The keys that `change` is about."""
    return dict.fromkeys([*change.delete, *change.forget, *change.set, *change.behind])


def towards(key: str, have: Values, want: Values) -> Checkpoints:
    """What makes the one the other."""
    if list(have) == list(want):
        return Checkpoints()
    if not want:
        return Checkpoints(delete=[key])
    plain = Checkpoints(set={key: want[0]})
    if list(after(have, key, plain)) == list(want):
        return plain
    behind = {key: list(want[1:])} if want[1:] else {}
    return Checkpoints(delete=[key] if have else [], set={key: want[0]}, behind=behind)


def joined(changes: Iterable[Checkpoints]) -> Checkpoints:
    """Changes of different keys as one."""
    every = list(changes)
    return Checkpoints(
        set={k: v for c in every for k, v in c.set.items()},
        delete=[k for c in every for k in c.delete],
        behind={k: v for c in every for k, v in c.behind.items()},
        forget={k: v for c in every for k, v in c.forget.items()},
    )


def shown(values: Values) -> Any:
    """For people: the value; of several each with its tables."""
    if len(values) <= 1:
        return values[0].value if values else None
    return {", ".join(v.tbls) or "(other tables)": v.value for v in values}


def mirror(key: str, values: Values) -> dict[str, Any] | None:
    """What the readable copy of a key says; None: it is not there."""
    if not values:
        return None
    newest, *others = ({"value": v.value, "tbls": v.tbls} for v in values)
    return {"key": key, **newest, **({"others": others} if others else {})}
