"""The plan of a batch: which methods run over the rows of which tables. Built once, of marks, tables and what was picked.

Each node runs once, however many tables need it. Tables whose rows come together somewhere are one part: they are read one after
the other and committed together, so what is fed by several sources ends well, or fails, as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import msgspec

from anchovies.core.errors import ConfigError
from anchovies.core.suggest import did_you_mean
from anchovies.core.tbl import Tbl
from anchovies.engine.routes import Routes

MOST_LINES = 30  # of a graph in an error
Feeds = dict[str, list[tuple[str, str]]]
"""By table: (chain, table that it reads) of all that make it."""


class Node(msgspec.Struct, frozen=True):
    """A sink or chain as it runs over the rows of one table. `makes`: the tables it yields into; a sink makes none. `cached`: it
    begins when all rows of the table are there."""

    method: str
    reads: str
    makes: tuple[str, ...] = ()
    streaming: bool = False
    cached: bool = False


class Table(msgspec.Struct, frozen=True):
    """A table that runs. `source`: the method that reads it, None where chains alone make it.

    `kept`: its rows go to the datastore. `fed`: they are kept, or handed to a sink of its own: what a checkpoint stands for.
    `flowing`: marks come with the rows, because nothing above keeps rows back. `cached`: what makes it has to end before its rows
    go on; `late`: they come when the sources of the part have ended.
    """

    tbl: Tbl
    picked: bool
    kept: bool
    source: str | None
    feeders: tuple[Node, ...]
    takers: tuple[Node, ...]
    flowing: bool
    cached: bool = False
    late: bool = False

    @property
    def name(self) -> str:
        return self.tbl.name

    @property
    def fed(self) -> bool:
        return self.kept or (self.picked and any(not n.makes for n in self.takers))

    @property
    def is_fan_in(self) -> bool:
        return len(self.feeders) + (self.source is not None) > 1


class Part(msgspec.Struct, frozen=True):
    """What runs as one task. `roots`: the tables that are read, in order; `tables`: all of it, each after what it is made of."""

    roots: tuple[Table, ...]
    tables: tuple[Table, ...]
    called: str = ""

    @property
    def name(self) -> str:
        """What the task is called: the first table that is read, also where the part was taken apart."""
        return self.called or self.roots[0].name

    @property
    def fed(self) -> tuple[str, ...]:
        """The tables that a checkpoint value of this part stands for, sorted."""
        return tuple(sorted(t.name for t in self.tables if t.fed))

    @property
    def streams(self) -> bool:
        """Whether marks pass through all of it: then it may be committed at any of them."""
        return not any(t.late for t in self.tables) and all(n.streaming and not n.cached for t in self.tables for n in t.takers)


class Graph(msgspec.Struct, frozen=True):
    """`tbls`: every table that there is; `active`: those that were picked; `parts`: what runs for them."""

    tbls: Mapping[str, Tbl]
    active: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """The sources, chains among them, that run."""
        tables = [t for part in self.parts for t in part.tables]
        return tuple(dict.fromkeys([*(t.source for t in tables if t.source), *(n.method for t in tables for n in t.feeders)]))

    @property
    def tables(self) -> list[Table]:
        """Every table that runs."""
        return [t for part in self.parts for t in part.tables]


def build(routes: Routes, tbls: Mapping[str, Tbl], active: Iterable[str]) -> Graph:
    """The graph that makes the `active` ones of `tbls`. Raises ConfigError for a table that nothing makes, for two sources of one
    table, and for a circle, which it draws."""
    active = tuple(active)
    picked = frozenset(active)
    feeds: Feeds = {}
    for name in active:
        _need(name, routes, tbls, feeds)
    order = _ordered(feeds)
    makes: dict[tuple[str, str], list[str]] = {}
    for name in feeds:
        for feeder in feeds[name]:
            makes.setdefault(feeder, []).append(name)
    made: dict[str, Table] = {}
    for name in order:
        above = [made[t].takers for _, t in feeds[name]]
        feeders = tuple(dict.fromkeys(n for nodes in above for n in nodes if name in n.makes))
        made[name] = _table(tbls[name], name in picked, routes, makes, feeders, made)
    return Graph(tbls, active, tuple(_parts([made[n] for n in order])))


def check_names(routes: Routes, tbls: Mapping[str, Tbl]) -> None:
    """Raises ConfigError, with the graph, where a mark names a table that is not there."""
    for name, who in routes.asked_for().items():
        if name not in tbls:
            lost = ConfigError(f"{who}: there is no table {name!r}", hint=did_you_mean(name, tbls, else_list="tables"))
            raise with_graph(lost, routes, tbls)


def with_graph(error: ConfigError, routes: Routes, tbls: Mapping[str, Tbl]) -> ConfigError:
    """The same error, which also shows what there is."""
    lines = draw(build(routes, tbls, [t for t in tbls if _can_be(t, routes, tbls)])).split("\n")
    shown = [*lines[:MOST_LINES], *([f"… and {len(lines) - MOST_LINES} lines more"] if len(lines) > MOST_LINES else [])]
    return ConfigError("\n".join([error.message, *(f"  {line}" for line in shown if line)]), hint=error.hint)


def _can_be(tbl: str, routes: Routes, tbls: Mapping[str, Tbl]) -> bool:
    try:
        build(routes, tbls, [tbl])
    except ConfigError:
        return False
    return True


def _need(name: str, routes: Routes, tbls: Mapping[str, Tbl], feeds: Feeds) -> None:
    """Note what feeds a table, and what feeds that."""
    waiting = [name]
    while waiting:
        if (tbl := waiting.pop()) in feeds:
            continue
        feeds[tbl] = routes.feeders(tbl, tbls)
        if not feeds[tbl] and routes.source(tbl) is None:
            raise ConfigError(
                f"table {tbl!r} is configured, but no source serves it",
                hint=f"sources serve: {', '.join(routes.exact_tables()) or 'nothing by name'}",
                unserved=tbl,
            )
        waiting += [above for _, above in feeds[tbl]]


def _ordered(feeds: Feeds) -> list[str]:
    """Every table after those that it is made of, as far as possible in the order of `feeds`."""
    try:
        return list(TopologicalSorter({t: [above for _, above in feeds[t]] for t in feeds}).static_order())
    except CycleError as e:
        circle: list[str] = e.args[1]
        steps = [f"{by} ▶ {made}" for above, made in pairwise(circle) for by, t in feeds[made] if t == above]
        drawn = "\n".join(f"  {'   ' * i}└─ {step}" for i, step in enumerate(dict.fromkeys(steps)))
        raise ConfigError(
            f"the chain {' → '.join(circle)} goes in a circle:\n  {circle[0]}\n{drawn}  (again)",
            hint="look at the @source and @sink marks of these methods",
        ) from None


def _table(
    tbl: Tbl,
    picked: bool,
    routes: Routes,
    makes: Mapping[tuple[str, str], list[str]],
    feeders: tuple[Node, ...],
    made: Mapping[str, Table],
) -> Table:
    takers = routes.takers(tbl.name)
    nodes = [
        Node(m, tbl.name, tuple(makes.get((m, tbl.name), ())), st, routes.caches_for(m, tbl.name)) for m, st in takers.items()
    ]
    cached = routes.caches(tbl.name)
    late = any(cached or n.cached or made[n.reads].late for n in feeders)
    alone = len(feeders) + (routes.source(tbl.name) is not None) < 2
    return Table(
        tbl=tbl,
        picked=picked,
        kept=routes.stores(tbl.name) and picked,
        source=routes.source(tbl.name),
        feeders=feeders,
        # a chain runs for the tables that it makes, a sink for rows that were picked
        takers=tuple(n for n in nodes if n.makes or (picked and n.method not in routes.chains)),
        # where rows meet, nobody waits at a mark for those that come late
        flowing=all(n.streaming and made[n.reads].flowing for n in feeders) and (alone or not late),
        cached=cached,
        late=late,
    )


def _parts(tables: list[Table]) -> Iterator[Part]:
    """Tables that are linked, together."""
    group = {t.name: [t] for t in tables}
    for t in tables:
        for node in t.feeders:
            mine, other = group[t.name], group[node.reads]
            if mine is not other:
                mine += other
                group |= dict.fromkeys((x.name for x in other), mine)
    place = {t.name: i for i, t in enumerate(tables)}
    for found in {id(g): g for g in map(group.__getitem__, place)}.values():
        mine = sorted(found, key=lambda t: place[t.name])
        yield Part(tuple(t for t in mine if t.source is not None), tuple(mine))


def draw(graph: Graph) -> str:
    """The graph as text: every source, and below it what becomes of its rows."""
    lines: list[str] = []
    seen: set[str] = set()
    for part in graph.parts:
        by_name = {t.name: t for t in part.tables}
        for root in part.roots:
            lines.append(f"{root.source}()")
            _draw(root, by_name, "", True, lines, seen)
    return "\n".join(lines)


def _draw(table: Table, by_name: Mapping[str, Table], indent: str, last: bool, lines: list[str], seen: set[str]) -> None:
    said = "kept" if table.kept else "not kept"
    if table.is_fan_in:
        own = [f"{table.source}()"] if table.source else []
        said += ", fed by " + " and ".join([*own, *(f"{n.method}() of {n.reads}" for n in table.feeders)])
    again = table.name in seen
    lines.append(f"{indent}{'└' if last else '├'}─▶ {table.name}  [{'see above' if again else said}]")
    if again:
        return
    seen.add(table.name)
    indent += "    " if last else "│   "
    for node in table.takers:
        end, more = ("└", " ") if node is table.takers[-1] else ("├", "│")
        lines.append(f"{indent}{end}─ {node.method}()")
        for name in node.makes:
            _draw(by_name[name], by_name, f"{indent}{more}  ", name == node.makes[-1], lines, seen)
