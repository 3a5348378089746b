"""`batch_rows` and `batch_bytes`: cut at marks, said, and gone on with by the next batch."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from anchovies.core.errors import ConfigError
from anchovies.sdk import Downloader, Stream, Tbl, Uploader, context, sink, source


class Pages(Downloader):
    """Pages of ten rows, a mark after each."""

    total = 100
    form = "dicts"

    @source("t")
    def t(self) -> Any:
        cursor = context().checkpoint("t")
        for at in range(cursor.get(0), self.total, 10):
            rows = [{"n": n, "text": "x" * 100} for n in range(at, min(at + 10, self.total))]
            if self.form == "dicts":
                yield from rows
            else:
                yield pa.Table.from_pylist(rows) if self.form == "arrow" else rows
            cursor.set(at + 10)


@pytest.mark.parametrize("form", ["dicts", "lists", "arrow"])
@pytest.mark.parametrize(("most", "batches"), [(1, 10), (10, 10), (15, 5), (35, 3), (99, 1), (1000, 1)])
def test_each_batch_goes_on_where_the_one_before_was_cut(place: Any, form: str, most: int, batches: int) -> None:
    Pages.form = form
    for turn in range(batches):
        result = place.run(Pages, batch_rows=most)
        step = -(-most // 10) * 10
        assert place.checkpoint("t") == min(100, (turn + 1) * step)
        assert result.tables[0].rows == result.tables[0].kept
        assert len(place.rows("t")) == place.checkpoint("t")
        cut = most <= 100 and (turn + 1) * step <= 100
        said = f"t has come to its batch_rows of {most}: the next batch goes on from there"
        assert (said in result.warnings) is cut
        assert (result.tables[0].warnings == [said]) is cut
        assert result.exit_code == 0
    assert [r["n"] for r in place.rows("t")] == list(range(100))
    Pages.total = 100


def test_bytes_are_those_of_the_rows_in_memory(place: Any) -> None:
    Pages.form = "dicts"
    place.run(Pages, batch_bytes=3000)  # a row takes about 120
    assert 20 <= place.checkpoint("t") <= 40
    place.run(Pages, batch_bytes="1 GiB")
    assert [r["n"] for r in place.rows("t")] == list(range(100))


def test_a_table_has_limits_of_its_own_and_0_takes_one_away(place: Any) -> None:
    Pages.form = "dicts"
    place.run(Pages, batch_rows=50, tbls={"t": {"batch_rows": 20}})
    assert place.checkpoint("t") == 20
    place.run(Pages, tbls={"t": {"batch_bytes": 1}})
    assert place.checkpoint("t") == 30
    place.run(Pages, batch_rows=1, tbls={"t": {"batch_rows": 0}})
    assert place.checkpoint("t") == 100


def test_a_service_reads_one_limit_a_batch(place: Any) -> None:
    seen: list[int] = []

    class Served(Pages):
        form = "dicts"
        total = 100

    def heard(event: Any) -> None:
        if event.kind == "task_ended":
            seen.append(event.data["rows"])

    for _ in range(3):
        place.run(Served, batch_rows=40, listener=heard)
    assert seen == [40, 40, 20]
    assert [r.change.complete for r in place.records()] == [[], [], ["t"]]  # a cut task is not the whole of anything


def test_a_task_without_marks_that_passes_a_limit_is_an_error_and_nothing_of_it_is_kept(place: Any) -> None:
    class Unmarked(Downloader):
        @source("t")
        def t(self) -> Any:
            yield from ({"n": n} for n in range(11))

        @source("u")
        def u(self) -> Any:
            yield {"n": 1}

    with pytest.raises(ConfigError, match="batch_rows of 10") as caught:
        place.run(Unmarked, batch_rows=10)
    assert "tbls.t.batch_rows: 0" in str(caught.value.hint)
    assert place.rows("t") == []
    assert place.rows("u") == [{"n": 1}]
    place.run(Unmarked, batch_rows=11, enabled=["t"])
    assert len(place.rows("t")) == 11
    with pytest.raises(ConfigError, match="batch_bytes of 50"):
        place.run(Unmarked, batch_bytes=50, enabled=["t"])


def test_a_limit_without_a_mark_on_the_way_ends_with_the_task(place: Any) -> None:
    class Late(Downloader):
        @source("t")
        def t(self) -> Any:
            yield from ({"n": n} for n in range(5))
            context().checkpoint("t").set(5)
            yield from ({"n": n} for n in range(5, 50))

    result = place.run(Late, batch_rows=10)
    assert len(place.rows("t")) == 50
    assert result.warnings == []


def test_what_a_source_does_behind_the_cut_is_as_if_it_had_not_been(place: Any) -> None:
    class Tidy(Downloader):
        @source("t")
        def t(self) -> Any:
            cursor = context().checkpoint("t")
            try:
                for n in range(cursor.get(0), 10):
                    yield {"n": n}
                    cursor.set(n + 1)
            finally:
                context().checkpoint("tidied").set(n)

    for turn in range(1, 5):
        place.run(Tidy, batch_rows=2)
        assert [r["n"] for r in place.rows("t")] == list(range(2 * turn))
        assert place.checkpoint("tidied") is None
    place.run(Tidy)
    assert place.checkpoint("tidied") == 9


class Orders(Downloader):
    count = 30

    @source("orders")
    def orders(self) -> Any:
        cursor = context().checkpoint("orders")
        for n in range(cursor.get(0), self.count):
            yield {"n": n}
            cursor.set(n + 1)

    @source("lines")
    @sink("orders", streaming=True)
    def lines(self, stream: Stream) -> Any:
        for order in stream:
            yield from ({"n": order["n"]} for _ in range(3))


@pytest.mark.parametrize("held", [False, True])
def test_a_chain_is_cut_with_its_source(place: Any, held: bool) -> None:
    class Chain(Orders):
        if held:

            @sink("orders")
            def looks(self, stream: Stream) -> None:
                list(stream)

    for turn in range(1, 4):
        place.run(Chain, tbls={"orders": {"batch_rows": 10}})
        assert len(place.rows("lines")) == 3 * len(place.rows("orders")) == 30 * turn


def test_a_limit_of_a_chains_table_ends_the_source_that_feeds_it_and_no_other(place: Any) -> None:
    class Two(Orders):
        count = 30_000

        @source("other")
        def other(self) -> Any:
            cursor = context().checkpoint("other")
            for n in range(cursor.get(0), 50):
                yield {"n": n}
                cursor.set(n + 1)

        @source("all")
        @sink("lines", streaming=True)
        def a(self, stream: Stream) -> Any:
            yield from stream

        @source("all")
        @sink("other", streaming=True)
        def b(self, stream: Stream) -> Any:
            yield from stream

    place.run(Two, tbls={"lines": {"batch_rows": 10}})
    assert 10 <= len(place.rows("lines")) < 90_000
    assert len(place.rows("lines")) == 3 * place.checkpoint("orders")
    assert len(place.rows("other")) == 50


def test_what_has_to_be_whole_takes_no_limit(place: Any) -> None:
    class Whole(Pages):
        def discover_tbls(self) -> Any:
            return [Tbl("t", snapshot=True)]

    with pytest.raises(ConfigError, match="takes whole tasks"):
        place.run(Whole, batch_rows=10)


class Loading(Uploader):
    got: list[int]

    @sink("t")
    def take(self, stream: Stream) -> None:
        self.got.extend(r["n"] for r in stream)


def test_an_uploader_stops_between_two_commits(place: Any) -> None:
    Pages.form, Loading.got = "dicts", []
    place.run(Pages, commit_bytes=1, commit_seconds=0)
    commits = len(place.records())
    assert commits >= 1
    for most in (10, 10):
        place.run(Pages, batch_rows=most)
    Pages.total = 160
    for _ in range(6):
        place.run(Pages, batch_rows=10)
    Pages.total = 100
    result = place.run(Loading, id="up", upstream=["a"], batch_rows=110)
    assert 100 <= len(Loading.got) < 160
    assert any("batch_rows of 110" in w for w in result.warnings)
    result = place.run(Loading, id="up", upstream=["a"], batch_rows=110)
    assert Loading.got == list(range(160))
    assert not result.warnings
    assert place.run(Loading, id="up", upstream=["a"], batch_rows=110).commits == 0
