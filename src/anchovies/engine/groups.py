"""Which tables of a part are read together: those that see the same checkpoint values.

Mostly that is all of them. A table that was enabled later, or ran alone for a while, stands elsewhere: its source runs once more
for it, from where it stands, and the two are one again as soon as they have come to the same value.
"""

from __future__ import annotations

from msgspec.structs import replace

from anchovies.engine.graph import Graph, Part, build
from anchovies.engine.routes import Routes
from anchovies.store.checkpoints import encoded, seen
from anchovies.store.state import State


def parts_of(part: Part, routes: Routes, graph: Graph, state: State) -> list[Part]:
    """The part itself, or, where its tables stand at different values, one for each of these."""
    groups = groups_of(part, state)
    if len(groups) <= 1:
        return [part]
    rest = tuple(t.name for t in part.tables if t.picked and not t.fed)
    graphs = [build(routes, graph.tbls, (*g, *(() if i else rest))) for i, g in enumerate(groups)]
    return [replace(p, called=part.name) for g in graphs for p in g.parts]


def groups_of(part: Part, state: State) -> list[tuple[str, ...]]:
    """The tables that the part feeds, those together that see the same value of every key that one of them has of its own."""
    keys = _keys(part, state)
    groups: dict[tuple[bytes, ...], list[str]] = {}
    for table in part.tables:
        if table.fed:
            groups.setdefault(tuple(_view(state, k, table.name) for k in keys), []).append(table.name)
    return [tuple(g) for g in groups.values()]


def differing(part: Part, state: State) -> list[str]:
    """The keys of which the tables of a part see different values."""
    return [k for k in _keys(part, state) if len({_view(state, k, tbl) for tbl in part.fed}) > 1]


def _view(state: State, key: str, tbl: str) -> bytes:
    found = seen(state.values(key), (tbl,))
    return b"" if found is None else encoded(found.value)


def _keys(part: Part, state: State) -> list[str]:
    """The keys that tables of the part have values of, but not the same one all of them."""
    fed = frozenset(part.fed)
    if len(fed) < 2:
        return []
    found = []
    for key, newest in state.checkpoints.items():
        if not fed <= set(newest.tbls) and any(not fed.isdisjoint(v.tbls) for v in state.values(key)):
            found.append(key)
    return found
