"""preview and plan: the same code as a run, and nothing is stored."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from anchovies.core.config import Config, config_from
from anchovies.core.errors import ConfigError
from anchovies.core.settings import resolve
from anchovies.engine import look
from anchovies.sdk import Downloader, Position, Stream, Target, Uploader, context, sink, source


class Many(Downloader):
    """A table of dicts, one of Arrow data, a chain. None of them ends by itself."""

    closed: list[str] = []

    @source("rows")
    def rows(self) -> Any:
        try:
            n = context().checkpoint("n").get(0)
            while True:
                yield {"n": n}
                n += 1
                context().checkpoint("n").set(n)
        finally:
            self.closed.append("rows")

    @source("arrow")
    def arrow(self) -> Any:
        while True:
            yield pa.table({"n": pa.array(range(1000), pa.int32())})

    @source("doubles")
    @sink("rows", streaming=True)
    def doubles(self, stream: Stream) -> Any:
        for row in stream:
            yield {"n": row["n"] * 2}


class Some(Downloader):
    @source("t")
    def t(self) -> Any:
        cursor = context().checkpoint("t.n")
        yield {"n": cursor.get(0)}
        cursor.set(cursor.get(0) + 1)

    def plan(self, tbl: Any) -> Any:
        yield f"reads {tbl.name}"


def settings(place: Any, **given: Any) -> Any:
    return resolve({"id": "a", "user": "tester", "datastore": place.url, **given}, {}, Config())


def test_a_preview_shows_the_first_rows_of_each_table_and_stores_nothing(place: Any) -> None:
    found = look.preview(Many, settings(place), Config(), {}, rows=5)
    shown = {tbl.name: table.column("n").to_pylist() for tbl, table in found}
    assert shown == {"rows": list(range(5)), "arrow": list(range(5)), "doubles": [0, 2, 4, 6, 8]}
    assert place.objects() == []
    assert Many.closed == ["rows"]


def test_a_preview_reads_values_as_a_run_would(place: Any) -> None:
    config = config_from({"tbls": {"t": {"columns": {"n": "str"}}}}, "test")
    with pytest.raises(Exception, match="n"):
        look.preview(Some, settings(place), config_from({"tbls": {"t": {"columns": {"n": "date"}}}}, "test"), {})
    ((tbl, table),) = look.preview(Some, settings(place), Config(), {})
    assert (tbl.name, table.to_pylist()) == ("t", [{"n": 0}])
    assert config.tbls


def test_a_plan_says_where_the_next_run_begins_and_stores_nothing(place: Any) -> None:
    assert look.plan(Some, settings(place), Config(), {}) == [
        ("t", ["no key: every row that arrives is appended", "nothing is kept of it yet", "reads t"])
    ]
    assert place.objects() == []
    place.run(Some)
    before = place.objects()
    ((_, said),) = look.plan(Some, settings(place), Config(), {})
    assert said[1:] == ["checkpoint t.n = 1", "1 row kept so far", "reads t"]
    assert place.objects() == before


def test_a_plan_of_an_uploader(place: Any) -> None:
    class Up(Uploader):
        def position(self, target: Target) -> Position | None:
            return None

        def load(self, load: Any) -> Any:
            raise AssertionError("a plan loads nothing")

        def plan_load(self, target: Target) -> Any:
            yield f"make {target.tbl.name}"

    place.run(Some)
    place.run(Some)
    before = place.objects()
    ((name, said),) = look.plan(Up, settings(place, id="up", upstream=["a"]), Config(), {})
    assert name == "t"
    assert said[0] == "from tester/a, into a__tester.t, write: append"
    assert said[-2:] == ["2 rows in 2 files to load, from commit 1 on", "make t"]
    assert place.objects() == before
    with pytest.raises(ConfigError, match="preview"):
        look.preview(Up, settings(place, id="up", upstream=["a"]), Config(), {})


def test_the_graph_of_a_downloader_and_of_an_uploader(place: Any) -> None:
    class Sinks(Uploader):
        @sink("t")
        def one(self, stream: Stream) -> None: ...

        @sink("t")
        def two(self, stream: Stream) -> None: ...

    class Loads(Uploader):
        def load(self, load: Any) -> Any: ...

    assert look.graph(Some, settings(place), Config(), {}) == "t()\n└─▶ t  [kept]"
    assert look.graph(Many, settings(place, disabled=["doubles"]), Config(), {}).splitlines()[-1] == "└─▶ arrow  [kept]"
    assert place.objects() == []
    place.run(Some)
    up = settings(place, id="up", upstream=["a"])
    assert look.graph(Sinks, up, Config(), {}) == "tester/a.t\n├─ one()\n└─ two()"
    assert look.graph(Loads, up, Config(), {}) == "tester/a.t\n└─ load()"
