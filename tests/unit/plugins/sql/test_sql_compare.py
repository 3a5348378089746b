"""`compare: true`: only what differs from the last run is kept, and what is gone is marked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anchovies.core.tbl import Tbl
from anchovies.plugins.sql import Downloader, SourceConnection, compare
from anchovies.sdk import ConfigError
from anchovies.sdk.context import entered
from anchovies.testing.context import FakeContext

Rows = dict[int, str | None]


class Source:
    def __init__(self, folder: Path) -> None:
        self.path, self.ctx = folder / "s.db", FakeContext()
        with closing(sqlite3.connect(self.path)) as con:
            con.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v TEXT)")
            con.execute("CREATE VIEW IF NOT EXISTS w AS SELECT id / 2 AS half, v FROM t")

    def hold(self, rows: Rows) -> None:
        with closing(sqlite3.connect(self.path)) as con:
            con.execute("DELETE FROM t")
            con.executemany("INSERT INTO t VALUES (?, ?)", list(rows.items()))
            con.commit()

    def read(self, name: str = "t", **more: Any) -> list[dict[str, Any]]:
        downloader = Downloader()
        with closing(SourceConnection(id="db", url=f"sqlite:///{self.path}")) as db, entered(self.ctx):
            downloader.connections = {"db": db}
            tbl = Tbl(name, properties={"compare": True}, **{"deleted_by": "gone", **more})
            return self.ctx.run(downloader.rows(tbl))


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Source]]:
    yield lambda: Source(tmp_path_factory.mktemp("source"))


ROWS = st.dictionaries(st.integers(0, 12), st.sampled_from(["a", "b", "", None]), max_size=12)


@given(st.lists(ROWS, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_run_brings_what_has_changed_and_nothing_else(
    fresh: Callable[[], Source], monkeypatch: pytest.MonkeyPatch, states: list[Rows]
) -> None:
    monkeypatch.setattr(compare, "FULL", 2)  # so that buckets are made anew
    monkeypatch.setattr(compare, "START", 1)
    source, was = fresh(), {}  # type: tuple[Source, Rows]
    for now in states:
        source.hold(now)
        rows = source.read()
        changed = {i: v for i, v in now.items() if i not in was or was[i] != v}
        assert {r["id"]: r["v"] for r in rows if not r.get("gone")} == changed
        assert sorted(r["id"] for r in rows if r.get("gone")) == sorted(was.keys() - now.keys())
        assert len(rows) == len(changed) + len(was.keys() - now.keys())
        assert source.read() == []
        was = now


def test_only_touched_buckets_are_written_again(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "START", 5)
    source.hold(dict.fromkeys(range(100), "a"))
    source.read()
    before = dict(source.ctx.ledgers["t"])
    assert len(before) > 10
    source.hold({i: "b" if i == 50 else "a" for i in range(100)})
    assert source.read() == [{"id": 50, "v": "b"}]
    after = source.ctx.ledgers["t"]
    assert sum(before[k] != after[k] for k in before) == 1


def test_without_a_mark_rows_that_are_gone_are_counted_only(source: Source) -> None:
    source.hold({1: "a", 2: "b"})
    assert len(source.read(deleted_by=None)) == 2
    source.hold({1: "a"})
    assert source.read(deleted_by=None) == []
    assert source.ctx.task.data["gone"] == 1


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("w", {}, "no key to tell its rows by"),
        ("w", {"unique_by": ("half",)}, "two rows have the key 0"),
        ("t", {"snapshot": True}, "does not go with `snapshot: true`"),
        ("t", {"properties": {"compare": True, "incremental": "id"}}, "does not go with `incremental`"),
        ("t", {"properties": {"compare": "often"}}, "expected true or false"),
    ],
)
def test_what_cannot_be_compared_is_said(source: Source, name: str, more: dict[str, Any], said: str) -> None:
    source.hold({0: "a", 1: "b"})
    downloader = Downloader()
    with closing(SourceConnection(id="db", url=f"sqlite:///{source.path}")) as db, entered(source.ctx):
        downloader.connections = {"db": db}
        with pytest.raises(ConfigError, match=said):
            list(downloader.rows(Tbl(name, **{"properties": {"compare": True}, **more})))


def test_a_table_that_is_too_large_is_refused(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "MOST", 1)
    source.hold({1: "a", 2: "b"})
    with pytest.raises(ConfigError, match="has 2 rows, and up to 1 can be compared"):
        source.read()
