"""Random graphs of sources, chains and sinks, random failures, any number of threads; a plain interpreter says what must come of it.

The interpreter knows no threads, queues or commits: it maps rows. A part of the graph that failed must stand at one of its marks,
with all of its tables and checkpoints; a second run without failures must bring every row exactly once. A watchdog ends a run
that hangs, and prints where every thread is. ANCHOVIES_EXAMPLES=5000 looks at more graphs.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from anchovies.engine import channel, consumer, rowpath
from anchovies.sdk import Downloader, Stream, context, sink, source

LONGEST = 60.0
EXAMPLES = int(os.environ.get("ANCHOVIES_EXAMPLES") or 0) or min(100, settings().max_examples)
Rows = list[tuple[str, int]]  # (way that the row has come, its number): what is kept of a row


class Broken(Exception):
    pass


# what a random graph is made of


@dataclass
class Root:
    """A table that is read. `units`: for each unit its items, (form, rows). `fails`: before which row."""

    name: str
    units: list[list[tuple[str, int]]]
    fails: int | None
    cached: bool = False

    @property
    def ends(self) -> list[int]:
        """How many rows there are at each mark, the beginning included."""
        found = [0]
        for unit in self.units:
            found.append(found[-1] + sum(n for _, n in unit))
        return found


@dataclass
class Taker:
    """A chain (`makes` some tables) or a sink. `fails`: at which row that it sees."""

    name: str
    reads: list[str]
    makes: list[str]
    does: str
    streaming: bool
    form: str
    fails: int | None
    cached: str = ""  # "in", "out", or both of them


@dataclass
class Graph:
    roots: list[Root]
    takers: list[Taker]
    unstored: set[str] = field(default_factory=set)

    @property
    def tables(self) -> list[str]:
        return list(dict.fromkeys([*(r.name for r in self.roots), *(m for t in self.takers for m in t.makes)]))

    def parts(self) -> list[set[str]]:
        """The tables that hang together."""
        groups = [{t} for t in self.tables]
        for taker in self.takers:
            for read in taker.reads if taker.makes else ():
                mine = [g for g in groups if g & {read, *taker.makes}]
                groups = [g for g in groups if g not in mine] + [set().union(*mine)]
        return groups


def each(does: str, way: str, row: tuple[str, int]) -> Rows:
    """What a chain makes of one row."""
    made = (f"{row[0]}>{way}", row[1])
    return {"copy": [made], "hold": [made], "double": [made, made], "odd": [made] if row[1] % 2 else []}[does]


# the interpreter


def rows_of(graph: Graph, counts: dict[str, int]) -> dict[str, Rows]:
    """Every table, after so many rows of each root."""
    found: dict[str, Rows] = {t: [] for t in graph.tables}
    for root in graph.roots:
        found[root.name] += [(root.name, n) for n in range(counts[root.name])]
    for taker in graph.takers:  # in the order in which tables can be made
        for read in taker.reads:
            made = [m for row in found[read] for m in each(taker.does, taker.name, row)]
            for name in taker.makes:
                found[name] += made
    return found


def fails(graph: Graph, part: set[str]) -> bool:
    whole = rows_of(graph, {r.name: r.ends[-1] for r in graph.roots})
    broken = any(r.name in part and r.fails is not None and r.fails < r.ends[-1] for r in graph.roots)
    return broken or any(t.fails is not None and t.fails < len(whole[x]) for t in graph.takers for x in t.reads if x in part)


def stands(graph: Graph, part: set[str], whole: bool, *, last: bool = False) -> Iterator[dict[str, int]]:
    """Where a part may stand: rows of each root. Roots of one part are read one after the other. `last`: after it has failed."""
    roots = [r for r in graph.roots if r.name in part]
    if whole:
        yield {r.name: r.ends[-1] for r in roots}
        return
    takers = [t for t in graph.takers if set(t.reads) & part]
    if not all(t.streaming and not t.cached for t in takers):
        yield {r.name: 0 for r in roots}
        return
    if not takers and last:
        (root,) = roots
        yield {root.name: max(e for e in root.ends if e <= (root.fails or 0))}
        return
    done = {r.name: 0 for r in roots}
    yield dict(done)
    for root in _in_order(graph, roots):
        for end in root.ends[1:]:
            done[root.name] = end
            yield dict(done)


def _in_order(graph: Graph, roots: list[Root]) -> list[Root]:
    """A root into which a chain leads is read after what feeds it; else they come as they are known."""
    fed = {m for t in graph.takers for m in t.makes}
    return sorted(roots, key=lambda r: r.name in fed)


# the operator


def operator(graph: Graph, got: dict[str, Rows], *, broken: bool) -> type[Downloader]:
    marked: dict[str, Any] = {f"read_{r.name}": _source(r, graph, broken) for r in graph.roots}
    marked |= {t.name: _taker(t, graph, got, broken) for t in graph.takers}
    return type("Random", (Downloader,), marked)


def _source(root: Root, graph: Graph, broken: bool) -> Any:
    def read(self: Any) -> Any:
        cursor = context().checkpoint(f"at.{root.name}")
        count = 0
        for unit, end in zip(root.units, root.ends[1:], strict=True):
            for form, n in unit:
                rows = [{"way": root.name, "n": count + i} for i in range(n)]
                count += n
                if end <= cursor.get(0):
                    continue
                if broken and root.fails is not None and root.fails < count:
                    yield rows[: max(0, root.fails - count + n)]
                    raise Broken(root.name)
                if form == "rows":
                    yield from rows
                else:
                    yield rows if form == "list" or not rows else pa.Table.from_pylist(rows)
            if end > cursor.get(0):
                cursor.set(end)
                context().checkpoint("shared").set([root.name, end])

    return source(root.name, store=root.name not in graph.unstored, cache=root.cached)(read)


def _taker(taker: Taker, graph: Graph, got: dict[str, Rows], broken: bool) -> Any:
    def take(self: Any, stream: Stream, table: str) -> Any:
        held: list[dict[str, Any]] = []
        rows = iter(stream) if taker.form != "arrow" else (r for b in stream.batches() for r in b.to_pylist())
        for i, row in enumerate(rows):
            if broken and taker.fails == i:
                raise Broken(taker.name)
            got.setdefault(f"{taker.name} {table}", []).append((row["way"], row["n"]))
            for way, n in each(taker.does, taker.name, (row["way"], row["n"])) if taker.makes else ():
                made = {"way": way, "n": n}
                if taker.does == "hold":
                    held.append(made)
                else:
                    yield made if taker.form == "rows" else [made]
            if taker.makes and taker.does != "hold":
                context().checkpoint(f"seen.{taker.name}.{table}").set(row["n"])
        if held:
            yield pa.Table.from_pylist(held) if taker.form == "arrow" else held

    def only(self: Any, stream: Stream, table: str) -> None:
        for _ in take(self, stream, table):
            raise AssertionError

    method: Any = take if taker.makes else only
    for name in taker.makes:
        method = source(name, store=name not in graph.unstored, cache="out" in taker.cached)(method)
    return sink(*taker.reads, streaming=taker.streaming, cache="in" in taker.cached)(method)


# random ones

CACHES = st.sampled_from(["", "", "", "", "in", "out", "in and out"])
ITEMS = st.tuples(st.sampled_from(["rows", "list", "arrow"]), st.integers(0, 5))

UNITS = st.lists(st.lists(ITEMS, max_size=3), min_size=1, max_size=4)


@st.composite
def graphs(draw: Any) -> Graph:
    roots = [
        Root(f"r{i}", draw(UNITS), draw(st.none() | st.integers(0, 20)), draw(st.integers(0, 3)) == 3)
        for i in range(draw(st.integers(1, 3)))
    ]
    made = [f"m{i}" for i in range(draw(st.integers(0, 3)))]
    order = [*(r.name for r in roots), *made]
    there = [r.name for r in roots]
    takers: list[Taker] = []
    for name in made:
        for _ in range(draw(st.integers(1, 2))):
            above = [t for t in there if order.index(t) < order.index(name)]
            reads = draw(st.lists(st.sampled_from(above), min_size=1, max_size=2, unique=True))
            also = draw(st.sampled_from([None, *(r.name for r in roots if order.index(r.name) > max(map(order.index, reads)))]))
            makes = [name, *([also] if also else [])]
            takers.append(draw(_takers(f"c{len(takers)}", reads, makes)))
        there.append(name)
    for i in range(draw(st.integers(0, 2))):
        reads = draw(st.lists(st.sampled_from(there), min_size=1, max_size=2, unique=True))
        takers.append(draw(_takers(f"s{i}", reads, [])))
    unstored = draw(st.sets(st.sampled_from(there), max_size=2))
    return Graph(roots, _makeable(takers), unstored)


def _takers(name: str, reads: list[str], makes: list[str]) -> st.SearchStrategy[Taker]:
    return st.builds(
        lambda does, streaming, *rest: Taker(name, reads, makes, does, streaming and does != "hold", *rest),
        st.sampled_from(["copy", "double", "odd", "hold"] if makes else ["copy"]),
        st.booleans(),
        st.sampled_from(["rows", "list", "arrow"]),
        st.none() | st.none() | st.integers(0, 12),
        CACHES if makes else st.sampled_from(["", "", "in"]),
    )


def _makeable(takers: list[Taker]) -> list[Taker]:
    """In an order in which every table is whole before it is read. A chain that would need a circle for it is left out."""
    done: list[Taker] = []
    left = list(takers)
    while left:
        ready = [t for t in left if not any(set(o.makes) & set(t.reads) for o in left)]
        if not ready:
            left.pop()
            continue
        done += ready
        left = [t for t in left if t not in ready]
    return done


# the test


def watched(work: Callable[[], None]) -> None:
    """Run it in a thread; one that hangs is a failure that says where each thread is."""
    error: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as e:
            error.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LONGEST)
    if thread.is_alive():
        where = "\n".join("".join(traceback.format_stack(f)) for f in sys._current_frames().values())
        pytest.fail(f"it hangs:\n{where}")
    if error:
        raise error[0]


@dataclass
class Kept:
    """What lies in the log up to some record."""

    rows: dict[str, Rows]
    values: dict[str, Any]

    @staticmethod
    def after_each_record(place: Any, tables: list[str]) -> Iterator[Kept]:
        now = Kept({t: [] for t in tables}, {})
        yield now
        for record in place.records():
            for table in {f.table for f in record.change.files}:
                now.rows[table] = now.rows[table] + [(r["way"], r["n"]) for r in place.rows_of(record, table)]
            now.values |= {k: v.value for k, v in record.change.checkpoints.set.items()}
            yield Kept(dict(now.rows), dict(now.values))


def compare(kept: Kept, graph: Graph, part: set[str], counts: dict[str, int]) -> str | None:
    """What differs where a part should stand there; None: nothing does."""
    every = rows_of(graph, {**{r.name: 0 for r in graph.roots}, **counts})
    for table in sorted(part - graph.unstored):
        have = kept.rows[table]
        if Counter(have) != Counter(every[table]):
            return f"{table}: {have} instead of {every[table]}"
        if have != every[table] and len({w for w, _ in have}) == 1:
            return f"{table}: another order, {have}"
    for name, count in counts.items():
        if kept.values.get(f"at.{name}") != (count or None):
            return f"at.{name}: {kept.values.get(f'at.{name}')} instead of {count}"
    for taker in graph.takers:
        for table in taker.reads if taker.makes and taker.does != "hold" else ():
            ways = {w for w, _ in every[table]}
            value, key = every[table][-1][1] if every[table] else None, f"seen.{taker.name}.{table}"
            if table in part and len(ways) < 2 and kept.values.get(key) != value:
                return f"{key}: {kept.values.get(key)} instead of {value}"
    return None


def where(kept: Kept, graph: Graph, part: set[str], may: Iterable[dict[str, int]]) -> dict[str, int]:
    """At which of the places where it may stand a part does."""
    tries = [(counts, compare(kept, graph, part, counts)) for counts in may]
    here = [counts for counts, wrong in tries if wrong is None]
    assert here, "\n".join(f"{counts}: {wrong}" for counts, wrong in tries)
    return here[0]


def run(place: Any, graph: Graph, got: dict[str, Rows], *, broken: bool, **given: Any) -> dict[str, str]:
    """One run; by table, the status of the task that made it."""
    events: list[Any] = []
    tbls = {t: {"columns": {"way": "str", "n": "int"}} for t in graph.tables}
    try:
        place.run(operator(graph, got, broken=broken), listener=events.append, tbls=tbls, **given)
    except Exception as e:
        errors = getattr(e, "errors", [e])
        assert all(isinstance(x, Broken) for x in errors), errors
    return {e.tbl: e.data["status"] for e in events if e.kind == "task_ended"}


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=EXAMPLES,
)
@given(
    graph=graphs(),
    threads=st.integers(1, 4),
    commit_bytes=st.sampled_from([1, 300, 1 << 30]),
    commit_seconds=st.sampled_from([0, 1000]),
    buffer=st.sampled_from(["parquet", "jsonl"]),
    tight=st.booleans(),
)
def test_what_is_kept_is_what_the_interpreter_says(
    new_place: Callable[[], Any], graph: Graph, threads: int, commit_bytes: int, commit_seconds: int, buffer: str, tight: bool
) -> None:
    given_ = {"threads": threads, "commit_bytes": commit_bytes, "commit_seconds": commit_seconds, "data_buffer_cls": buffer}
    event(f"{len(graph.parts())} parts, {sum(fails(graph, p) for p in graph.parts())} fail, {len(graph.takers)} takers")
    with pytest.MonkeyPatch.context() as patch:
        if tight:  # a row or two fill a queue, and whoever makes rows hands over a few at once
            patch.setattr(channel, "QUEUE_BYTES", 100)
            patch.setattr(consumer, "FLUSH_ROWS", 2)
            patch.setattr(rowpath, "gather", partial(rowpath.gather, max_rows=2))
        watched(lambda: _judge(new_place(), graph, given_))


def _judge(place: Any, graph: Graph, given_: dict[str, Any]) -> None:
    got: dict[str, Rows] = {}
    status = run(place, graph, got, broken=True, **given_)
    last: set[Any] = set()
    history = list(Kept.after_each_record(place, graph.tables))
    for part in graph.parts():
        failed = fails(graph, part)
        assert {status[t] for t in part if t in status} == {"ERR" if failed else "OK"}
        for kept in history:  # each record alone: it may be the last one
            where(kept, graph, part, [*stands(graph, part, False), *stands(graph, part, True)])
        here = where(history[-1], graph, part, stands(graph, part, not failed, last=True))
        last |= {(name, count) for name, count in here.items() if count}
        whole = rows_of(graph, {r.name: r.ends[-1] for r in graph.roots})
        for key, rows in got.items():
            table = key.split()[1]
            if table in part:
                assert not Counter(rows) - Counter(whole[table])
                assert failed or Counter(rows) == Counter(whole[table])
    shared = place.checkpoint("shared")
    assert shared is None if not last else tuple(shared) in last
    run(place, graph, {}, broken=False, **given_)
    *_, kept = Kept.after_each_record(place, graph.tables)
    for part in graph.parts():
        everything = next(stands(graph, part, True))
        assert (wrong := compare(kept, graph, part, everything)) is None or "seen." in wrong, wrong
    assert not [t for t in threading.enumerate() if t.name.startswith(("sink-", "tables-", "encode-"))]
