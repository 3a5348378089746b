"""`incremental`: of random histories with ties and late commits, each version that a run could see is kept once, and once only."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchovies.core.tbl import Tbl
from anchovies.plugins.sql import Downloader, SourceConnection
from anchovies.plugins.sql.newrows import NewRows
from anchovies.plugins.sql.readers.lite import LiteReader
from anchovies.sdk.context import entered
from anchovies.testing.context import FakeContext

Op = tuple[str, int]
OPS = st.lists(
    st.tuples(st.sampled_from(["insert", "insert", "update", "commit", "commit", "tick", "run", "cut"]), st.integers(0, 5)),
    max_size=40,
)
KEYED = "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER, v INTEGER)"
KEYLESS = "CREATE TABLE t (id INTEGER, at INTEGER, v INTEGER)"


class Cut(Exception):
    """The run ends here."""


class World:
    """A source whose rows are stamped when they are made and committed up to `lag` ticks later, and a downloader of it."""

    def __init__(self, folder: Path, keyed: bool, lag: int) -> None:
        self.path, self.keyed, self.lag = folder / "source.db", keyed, lag
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.executescript(f"PRAGMA synchronous = off; PRAGMA journal_mode = memory; {KEYED if keyed else KEYLESS}")
        self.clock, self.made = 10, 0
        self.pending: list[tuple[int | None, int, int]] = []  # (id of an update or None, at, v)
        self.ctx = FakeContext()
        self.got: Counter[tuple[int, ...]] = Counter()
        self.must: Counter[tuple[int, ...]] = Counter()  # what whole runs could see
        self.may: Counter[tuple[int, ...]] = Counter()  # what any run could see
        self.late = 0

    def rows(self) -> Counter[tuple[int, ...]]:
        return Counter(self.db.execute("SELECT id, at, v FROM t").fetchall())

    def insert(self, n: int) -> None:
        self.made += 1
        self.pending += [(None, self.clock, self.made if self.keyed else n % 2)] * (1 if self.keyed else 1 + n % 3)

    def update(self, n: int) -> None:
        ids = [i for (i,) in self.db.execute("SELECT id FROM t WHERE at < ? ORDER BY id", [self.clock])]
        if self.keyed and ids:
            self.made += 1
            self.pending.append((ids[n % len(ids)], self.clock, self.made))

    def commit(self, n: int) -> None:
        if self.pending:
            self._commit(self.pending.pop(n % len(self.pending)))

    def _commit(self, row: tuple[int | None, int, int]) -> None:
        id, at, v = row
        if id is not None:
            self.db.execute("UPDATE t SET at = ?, v = ? WHERE id = ? AND at < ?", [at, v, id, at])
        elif self.keyed:
            self.db.execute("INSERT INTO t VALUES ((SELECT coalesce(max(id), 0) + 1 FROM t), ?, ?)", [at, v])
        else:
            self.db.execute("INSERT INTO t VALUES (7, ?, ?)", [at, v])

    def tick(self, n: int) -> None:
        self.clock += n
        overdue = [row for row in self.pending if row[1] < self.clock - self.lag]
        self.pending = [row for row in self.pending if row not in overdue]
        for row in overdue:
            self._commit(row)

    def run(self, n: int, cut: bool = False) -> None:
        there = self.rows()
        self.may |= there
        downloader = Downloader()
        with closing(SourceConnection(id="db", url=f"sqlite:///{self.path}")) as db:
            downloader.connections = {"db": db}
            tbl = Tbl("t", properties={"incremental": "at", "lag": self.lag})
            try:
                self.ctx.run(self._cut(downloader.rows(tbl), n) if cut else downloader.rows(tbl))
                self.must |= there
            except Cut:
                pass
        self.got.update((r["id"], r["at"], r["v"]) for r in self.ctx.rows)
        self.late += self.ctx.task.data.pop("late", 0)

    def cut(self, n: int) -> None:
        self.run(n, cut=True)

    def _cut(self, yields: Iterator[Any], n: int) -> Iterator[Any]:
        for i, item in enumerate(yields):
            if i == n:
                raise Cut
            yield item

    def check(self) -> None:
        lost, twice = self.must - self.got, self.got - self.may
        assert not lost, f"lost: {lost}"
        assert not twice, f"kept without being there, or twice: {twice}"


@contextmanager
def small_batches(rows: int = 2) -> Iterator[None]:
    was = LiteReader.most_rows
    LiteReader.most_rows = rows
    try:
        yield
    finally:
        LiteReader.most_rows = was


def play(ops: list[Op], keyed: bool, lag: int) -> World:
    with tempfile.TemporaryDirectory() as folder, small_batches():
        world = World(Path(folder), keyed, lag)
        with closing(world.db):
            for name, n in [*ops, ("tick", 100), ("run", 0), ("run", 0)]:
                getattr(world, name)(n)
                if name in ("run", "cut"):
                    world.check()
    return world


@given(OPS, st.booleans(), st.sampled_from([0, 3, 7]))
@settings(max_examples=150, deadline=None)
def test_none_is_lost_and_none_is_kept_twice(ops: list[Op], keyed: bool, lag: int) -> None:
    play(ops, keyed, lag)


def test_a_tie_that_goes_on_in_the_next_batch_is_no_place_to_go_on_from() -> None:
    ops: list[Op] = [("insert", 2), ("insert", 3), ("tick", 4), ("insert", 3), ("insert", 2), ("insert", 3), ("run", 1)]
    play([*ops, ("tick", 3), ("insert", 5), ("commit", 1), ("cut", 2)], False, 0)


LATE: list[Op] = [("insert", 0), ("tick", 2), ("insert", 0), ("commit", 1), ("run", 0), ("commit", 0), ("run", 0)]


@pytest.mark.parametrize("keyed", [True, False])
def test_what_came_late_is_counted(keyed: bool) -> None:
    assert play(LATE, keyed, 3).late == 1


def test_the_oracle_sees_a_row_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the stretch that is read again, the late row is lost."""
    monkeypatch.setattr(NewRows, "_settled", lambda self, top: str(int(top) + 1))
    with pytest.raises(AssertionError, match="lost"):
        play(LATE, True, 3)


def test_the_oracle_sees_a_row_that_is_kept_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.plugins.sql.newrows.Seen.take", lambda self, hash: False)
    with pytest.raises(AssertionError, match="twice"):
        play(LATE, True, 3)


# ---- one by one


def source(tmp_path: Path, script: str) -> tuple[Downloader, FakeContext, sqlite3.Connection]:
    db = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    db.executescript(script)
    downloader = Downloader()
    downloader.connections = {"db": SourceConnection(id="db", url=f"sqlite:///{tmp_path}/s.db")}
    return downloader, FakeContext(), db


def new(downloader: Downloader, ctx: FakeContext, **properties: Any) -> list[dict[str, Any]]:
    with entered(ctx):
        found = ctx.run(downloader.rows(Tbl("t", properties={"incremental": "at", **properties})))
    downloader.connections["db"].ensure_closed()
    return found


def test_rows_without_a_cursor_are_told_and_come_with_one(tmp_path: Path) -> None:
    d, ctx, db = source(tmp_path, "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER); INSERT INTO t VALUES (1, 1), (2, NULL)")
    with closing(db):
        assert [r["id"] for r in new(d, ctx)] == [1]
        assert ctx.task.data["without_cursor"] == 1
        assert "have no at" in ctx.warnings[0]
        db.execute("UPDATE t SET at = 5 WHERE id = 2")
        assert [r["id"] for r in new(d, ctx)] == [2]


def test_a_cursor_in_the_future_does_not_hide_what_comes_until_then(tmp_path: Path) -> None:
    script = "CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME); INSERT INTO t VALUES (1, '2999-01-01 00:00:00')"
    d, ctx, db = source(tmp_path, script)
    with closing(db):
        assert [r["id"] for r in new(d, ctx, lag="5m")] == [1]
        db.execute("INSERT INTO t VALUES (2, datetime('now', '+1 day'))")
        assert [r["id"] for r in new(d, ctx, lag="5m")] == [2]
        assert new(d, ctx, lag="5m") == []


def test_a_longer_lag_keeps_nothing_twice(tmp_path: Path) -> None:
    d, ctx, db = source(tmp_path, "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER); INSERT INTO t VALUES (1, 1), (2, 9)")
    with closing(db):
        assert len(new(d, ctx)) == 2
        assert new(d, ctx, lag=100) == []
        db.execute("INSERT INTO t VALUES (3, 10)")
        assert [r["id"] for r in new(d, ctx, lag=100)] == [3]


def test_the_memory_of_what_was_seen_stays_small(tmp_path: Path) -> None:
    d, ctx, db = source(tmp_path, "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER)")
    with closing(db):
        for n in range(100):
            db.execute("INSERT INTO t VALUES (?, ?)", [n, n])
            assert [r["id"] for r in new(d, ctx, lag=5)] == [n]
        assert sum(len(text) for text in ctx.ledgers["t"].values()) <= 16 * 20
        assert len(ctx.checkpoints["t.at"]["chunks"]) <= 20


def test_nothing_new_moves_nothing(tmp_path: Path) -> None:
    d, ctx, db = source(tmp_path, "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER); INSERT INTO t VALUES (1, 1)")
    with closing(db):
        new(d, ctx)
        before = dict(ctx.checkpoints), {k: dict(v) for k, v in ctx.ledgers.items()}
        assert new(d, ctx) == []
        assert before == (ctx.checkpoints, ctx.ledgers)
