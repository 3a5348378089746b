"""Tables that are discovered: checked, merged with what was kept and with the configuration, followed as they change."""

from __future__ import annotations

from typing import Any

import pytest

from anchovies.core.errors import ConfigError
from anchovies.core.shape import join_types
from anchovies.core.types import parse_type
from anchovies.sdk import Column, Downloader, Stream, Tbl, Uploader, batch, sink, source


def tbl(name: str, **columns: str) -> Tbl:
    return Tbl(name, tuple(Column(n, parse_type(t)) for n, t in columns.items()))


def finds(*tbls: Tbl, rows: Any = ()) -> type[Downloader]:
    """An operator that discovers these tables; each has these rows."""

    class Found(Downloader):
        seen: list[Any] = []

        def discover_tbls(self) -> Any:
            return iter(tbls)

        @source()
        def any(self, table: str) -> Any:
            self.seen.append((table, list(batch().tbls), self.sources))
            yield from rows

        @source("never")
        def other(self) -> Any:
            yield from ()

    return Found


@pytest.mark.parametrize(
    ("tbls", "message"),
    [
        (["t"], "yielded a str"),
        ([Tbl("t"), Tbl("t")], "yielded table 't' twice"),
        ([Tbl("../t")], "table"),
        ([Tbl("t", mask={"a": "sha1"})], r"discover_tbls\(\): t.mask.a: unknown mask 'sha1'"),
        ([Tbl("t", mask={"a": "redact"}, unique_by=("a",))], "is redacted"),
    ],
)
def test_what_is_discovered_is_checked(place: Any, tbls: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        place.run(finds(*tbls))


def test_batch_tbls_are_the_active_ones_and_sources_those_that_run(place: Any) -> None:
    operator = finds(Tbl("a"), Tbl("b"), Tbl("c"))
    place.run(operator, enabled=["a", "c"])
    assert operator.seen == [("a", ["a", "c"], ("any",)), ("c", ["a", "c"], ("any",))]
    assert operator().sources == ("any", "other")


def test_the_configuration_wins_over_what_is_discovered(place: Any) -> None:
    found = tbl("t", id="int", at="str").with_(unique_by=("at",), properties={"x-owner": "db", "path": "hidden"})
    place.run(finds(found, rows=[{"id": 1, "at": "2026-01-01"}]), tbls={"t": {"columns": {"at": "date"}, "unique_by": "id"}})
    published = place.state().tables["t"]
    assert published["columns"] == [["id", "int"], ["at", "date"]]
    assert published["unique_by"] == ["id"]
    assert published["free"] == {"x-owner": "db"}
    assert "hidden" not in str(published)


def test_schema_changes_that_are_discovered_are_followed(place: Any) -> None:
    place.run(finds(tbl("t", id="int", n="int"), rows=[{"id": 1, "n": 1}]))
    place.run(finds(tbl("t", id="int", n="decimal(12,2)", new="str"), rows=[{"id": 2, "n": "1.5", "new": "x"}]))
    assert place.state().tables["t"]["columns"] == [["id", "int"], ["n", "decimal(21,2)"], ["new", "str"]]
    place.run(finds(tbl("t", id="int", n="int"), rows=[{"id": 3, "n": 7}]))
    assert place.state().tables["t"]["columns"][1] == ["n", "decimal(21,2)"], "a narrower type narrows nothing"
    place.run(finds(tbl("t", id="int", n="str"), rows=[{"id": 4, "n": "x"}]), tbls={"t": {"autodiscover": True}})
    assert place.state().tables["t"]["columns"][1] == ["n", "str"]


@pytest.mark.parametrize("schema", ["freeze", "reject"])
def test_a_schema_that_does_not_change_is_no_matter_of_discovery(place: Any, schema: str) -> None:
    place.run(finds(tbl("t", id="int"), rows=[{"id": 1}]))
    wider = finds(tbl("t", id="str", new="str"), rows=[{"id": "2", "new": None}, {"id": "x", "new": "y"}])
    tbls = {"t": {"schema": schema}}
    if schema == "freeze":
        with pytest.raises(ConfigError, match="new is new"):
            place.run(wider, tbls=tbls)
    else:
        result = place.run(wider, tbls=tbls)
        assert (result.tables[0].kept, result.tables[0].rejected) == (1, 1)
    assert place.state().tables["t"]["columns"] == [["id", "int"]]


def test_a_table_that_vanished_is_told_once_and_stays(place: Any, heard: Any) -> None:
    events, listener = heard
    place.run(finds(Tbl("a"), Tbl("b"), rows=[{"n": 1}]))
    place.run(finds(Tbl("a"), rows=[{"n": 2}]), listener=listener)
    said = [e.data["message"] for e in events if e.kind == "warning" and e.tbl == "b"]
    assert said == ["b was kept before and is not discovered any more: what was kept stays, and nothing new comes"]
    assert {"a", "b"} <= set(place.state().tables)

    class Marked(Downloader):
        @source("a")
        def a(self) -> Any:
            yield {"n": 3}

    events.clear()
    place.run(Marked, listener=listener)
    assert not [e for e in events if e.kind == "warning" and e.tbl == "b"], "one that discovers nothing misses nothing"


def test_what_a_downstream_sees_and_may_change(place: Any) -> None:
    seen: dict[str, Tbl] = {}

    class Down(Uploader):
        @sink()
        def any(self, stream: Stream, tbl: Tbl) -> None:
            seen[tbl.name] = tbl
            list(stream)

    place.run(finds(tbl("t", id="int").with_(unique_by=("id",)), tbl("u", id="int"), rows=[{"id": 1}]))
    place.run(Down, id="d", upstream=["a"], tbls={"u": {"unique_by": "id", "write": "merge"}})
    assert (seen["t"].unique_by, seen["u"].unique_by, seen["u"].write) == (("id",), ("id",), "merge")
    assert seen["t"].types == join_types({"id": parse_type("int")}, {})
