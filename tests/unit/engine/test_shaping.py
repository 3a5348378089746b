"""Hop 3 in runs: what is left out, renamed, masked; what a schema lets through; what nobody may ever see."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from anchovies.core.config import config_from
from anchovies.core.errors import ConfigError, RowError
from anchovies.core.settings import resolve
from anchovies.engine import look
from anchovies.engine.rejected import rejected
from anchovies.sdk import Column, Downloader, Stream, Tbl, Uploader, context, parse_type, sink, source
from anchovies.store.keys import Home

KEY = "a key that is long enough"


def yields(*items: Any, tbl: str = "t") -> type[Downloader]:
    """An operator whose source yields these items; a function among them is called instead."""

    class Some(Downloader):
        @source(tbl)
        def some(self) -> Any:
            for item in items:
                if callable(item):
                    item()
                else:
                    yield item

    return Some


def rejects(place: Any, id: str = "a") -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k not in ("at", "slot")} for r in rejected(place.store, Home("tester", id))]


def everything(place: Any) -> str:
    """All bytes of a datastore, gzip undone; rows have to lie in JSON lines for that."""
    found = [place.store.get(e.key) for e in place.store.list("")]
    return "\n".join((gzip.decompress(d) if d[:2] == b"\x1f\x8b" else d).decode("latin-1") for d in found)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACHVY_MASK_KEY", KEY)


ROWS = [{"nr": 1, "mail": "a@x", "junk": "j"}, {"nr": 2, "mail": None, "junk": "j"}, {"nr": 3, "mail": "a@x", "junk": "j"}]
SHAPE = {"exclude": "junk", "rename": {"nr": "id", "mail": "email"}, "mask": {"email": "sha256"}}


@pytest.mark.parametrize("items", [ROWS, [ROWS], [pa.Table.from_pylist(ROWS)]], ids=["dicts", "list", "arrow"])
def test_rows_are_kept_in_their_shape(place: Any, items: list[Any]) -> None:
    place.run(yields(*items), tbls={"t": {**SHAPE, "unique_by": "id"}})
    rows = place.rows("t")
    assert [list(r) for r in rows] == [["id", "email"]] * 3
    assert [r["id"] for r in rows] == [1, 2, 3]
    assert rows[1]["email"] is None
    assert rows[0]["email"] == rows[2]["email"]
    assert re.fullmatch("[0-9a-f]{64}", rows[0]["email"])
    assert place.state().tables["t"]["columns"] == [["id", "int"], ["email", "str"]]


def test_what_says_nothing_of_its_shape_is_not_touched(place: Any) -> None:
    from anchovies.engine import shaping

    def refuse(*args: Any) -> None:
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shaping.Shaper, "__init__", refuse)
        place.run(yields(*ROWS))
    assert place.rows("t") == ROWS


def test_columns_that_are_not_masked_are_not_copied() -> None:
    from anchovies.engine.shaping import Shaper

    batch = pa.RecordBatch.from_pylist(ROWS)
    out, bad = Shaper(Tbl("t", exclude=("junk",), rename={"nr": "id"}, mask={"mail": "redact"}), None).shape(batch)
    assert out.schema.names == ["id", "mail"]
    assert out.column(0).buffers()[1].address == batch.column(0).buffers()[1].address
    assert out.column(1).to_pylist() == ["***", None, "***"]
    assert not bad


def test_sinks_and_chains_see_rows_as_they_are_kept_and_shape_their_own(place: Any) -> None:
    seen: list[Any] = []

    class Chain(Downloader):
        @source("t")
        def t(self, tbl: Tbl) -> Any:
            assert list(tbl.types) == ["nr", "mail"]
            yield from ROWS

        @sink("t")
        def look(self, stream: Stream, tbl: Tbl) -> None:
            assert "mail" not in tbl.types
            seen.extend(stream)

        @source("u")
        @sink("t")
        def u(self, stream: Stream) -> Any:
            for row in stream:
                yield {"id": row["id"], "mail": row["email"], "extra": 1}

    tbls = {"t": {**SHAPE, "columns": {"id": "int"}}, "u": {"exclude": "extra", "mask": {"mail": "redact"}}}
    place.run(Chain, tbls=tbls)
    assert [list(r) for r in seen] == [["id", "email"]] * 3
    assert place.rows("u") == [{"id": 1, "mail": "***"}, {"id": 2, "mail": None}, {"id": 3, "mail": "***"}]


@pytest.mark.parametrize(
    ("tbl", "message", "hint"),
    [
        ({"mask": {"mial": "redact"}}, "tbls.t.mask: there is no column 'mial'", "did you mean 'mail'?"),
        ({"mask": {"zzz": "redact"}}, "tbls.t.mask: there is no column 'zzz'", "if it comes later, declare it"),
        ({"exclude": "Junk"}, "tbls.t.exclude: there is no column 'Junk'", "did you mean 'junk'?"),
        ({"rename": {"NR": "id"}}, "tbls.t.rename: there is no column 'NR'", "did you mean 'nr'?"),
        ({"rename": {"mail": "nr"}}, "tbls.t.rename: there is a column 'nr' already", "rename or exclude"),
        ({"exclude": "nr, mail, junk"}, "table 't': no column of nr, mail, junk is kept", "keep one"),
    ],
)
def test_names_that_rows_do_not_have(place: Any, tbl: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as e:
        place.run(yields(*ROWS), tbls={"t": tbl})
    assert e.value.message.startswith(message)
    assert (e.value.hint or "").startswith(hint)
    assert not place.named("/data/")


def test_a_masked_column_may_be_absent_where_it_is_known(place: Any) -> None:
    tbl = {"columns": {"mail": "str"}, "mask": {"mail": "redact"}}
    place.run(yields({"nr": 1}), tbls={"t": tbl})
    assert place.rows("t") == [{"mail": None, "nr": 1}]


def test_a_name_that_never_came_is_warned_of_once(place: Any) -> None:
    result = place.run(yields({"nr": 1}, lambda: context().checkpoint("c").set(1), {"nr": 2}), tbls={"t": {"exclude": "old"}})
    assert result.tables[0].warnings == ["t: no column 'old' came, which exclude names"]


def test_a_missing_key_stops_before_anything_is_read(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACHVY_MASK_KEY")
    read: list[int] = []
    with pytest.raises(ConfigError, match="ACHVY_MASK_KEY is not set"):
        place.run(yields(lambda: read.append(1)), tbls={"t": {"mask": {"a": "sha256"}}})
    assert not read


def test_a_shape_that_comes_later_holds_from_then_on(place: Any) -> None:
    place.run(yields({"nr": 1, "mail": 5, "junk": "j"}))
    place.run(yields({"nr": 2, "mail": 5, "junk": "j"}), tbls={"t": {"mask": {"mail": "redact"}, "exclude": "junk"}})
    assert place.rows("t")[1] == {"nr": 2, "mail": "***"}
    assert place.state().tables["t"]["columns"] == [["nr", "int"], ["mail", "str"]]


def test_downstreams_see_the_shape_and_the_free_properties(place: Any) -> None:
    seen: list[Tbl] = []

    class Down(Uploader):
        @sink("t")
        def t(self, stream: Stream, tbl: Tbl) -> None:
            seen.append(tbl)
            list(stream)

    class Found(Downloader):
        def discover_tbls(self) -> Any:
            yield Tbl("t", (Column("nr", parse_type("int")),), unique_by=("nr",))

        @source()
        def any(self) -> Any:
            yield from ROWS

    place.run(Found, tbls={"t": {**SHAPE, "x-owner": "sales"}})
    place.run(Down, id="down", upstream=["a"], tbls={"t": {"write": "merge"}})
    assert (seen[0].unique_by, seen[0].write, seen[0].properties) == (("id",), "merge", {"x-owner": "sales"})
    assert seen[0].mask == {"email": "sha256"}
    with pytest.raises(ConfigError, match="was kept in another shape"):
        place.run(Down, id="down", upstream=["a"], tbls={"t": {"mask": {"id": "redact"}}})


# schema policies


def test_freeze_stops_and_reject_sets_aside(place: Any) -> None:
    place.run(yields({"nr": 1, "qty": 5}))
    more = [{"nr": 2, "qty": 6}, {"nr": 3, "qty": 7, "new": 1}, {"nr": 4, "qty": "many"}, {"nr": 5, "qty": 8, "new": None}]
    with pytest.raises(ConfigError, match="frozen"):
        place.run(yields(*more), tbls={"t": {"schema": "freeze"}})
    result = place.run(yields(*more), tbls={"t": {"schema": "reject"}})
    assert (result.tables[0].rows, result.tables[0].kept, result.tables[0].rejected) == (4, 2, 2)
    assert place.state().tables["t"]["columns"] == [["nr", "int"], ["qty", "int"]]
    assert [(r["column"], r["reason"], r["row"]) for r in rejects(place)] == [
        ("new", "column 'new' is new (schema: reject)", {"nr": 3, "qty": 7, "new": 1}),
        ("qty", "column 'qty': 'many' (str) does not fit int", {"nr": 4, "qty": "many"}),
    ]


def test_reject_keeps_marks_where_they_were(place: Any) -> None:
    def mark(n: int) -> Callable[[], None]:
        return lambda: context().checkpoint("c").set(n)

    place.run(yields({"n": 0}))
    rows = [{"n": i, **({"new": 1} if i % 3 == 0 else {})} for i in range(1, 13)]
    items = [x for i, row in enumerate(rows) for x in ((row, mark(i)) if i % 4 == 3 else (row,))]
    place.run(yields(*items), tbls={"t": {"schema": "reject"}})
    assert place.units("t")[1:] == [[1, 2, 4], [5, 7, 8], [10, 11]]
    assert [r["row"]["n"] for r in rejects(place)] == [3, 6, 9, 12]


def test_the_first_rows_of_a_table_are_its_schema(place: Any) -> None:
    place.run(yields({"n": 1}, {"n": "x"}), tbls={"t": {"schema": "reject"}})
    assert place.state().tables["t"]["columns"] == [["n", "json"]]


# what plan and preview say


def test_plan_says_it_and_preview_shows_it_masked(place: Any) -> None:
    config = config_from({"tbls": {"t": {**SHAPE, "on_bad_row": "reject"}}}, "test")
    settings = resolve({"id": "a", "user": "tester", "datastore": place.url}, {}, config)
    env = {"ACHVY_MASK_KEY": KEY}
    said = dict(look.plan(yields(*ROWS), settings, config, env))["t"]
    assert "email is kept as a keyed hash (sha256)" in said
    assert "left out: junk" in said
    ((tbl, table),) = look.preview(yields(*ROWS), settings, config, env)
    assert list(tbl.types) == ["id", "email"]
    assert "a@x" not in str(table.to_pylist())
    with pytest.raises(ConfigError, match="ACHVY_MASK_KEY"):
        look.plan(yields(*ROWS), settings, config, {})


# no masked value anywhere


@pytest.mark.parametrize("bad", ["secret-\ud800", object()], ids=["half a pair", "no type"])
@pytest.mark.parametrize("policy", ["fail", "reject"])
def test_a_bad_value_of_a_masked_column_is_never_shown(place: Any, bad: Any, policy: str) -> None:
    bad = type("Secret", (), {"__repr__": lambda self: "secret-thing"})() if not isinstance(bad, str) else bad
    tbls = {"t": {"rename": {"m": "mail"}, "mask": {"mail": "sha256"}, "on_bad_row": policy}}
    operator = yields({"n": 1, "m": "secret-one"}, {"n": 2, "m": bad})
    if policy == "fail":
        with pytest.raises(RowError) as e:
            place.run(operator, tbls=tbls)
        assert "row 2" in e.value.message
        assert "on_bad_row: reject" in (e.value.hint or "")
        assert "secret" not in str(e.value.where) + e.value.message
    else:
        place.run(operator, tbls=tbls, data_buffer_cls="jsonl")
        assert rejects(place)[0]["row"] == {"n": 2, "mail": "***"}
    assert "secret" not in everything(place)


def test_what_waits_in_a_temporary_file_is_masked_already(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from anchovies.engine.spool import Spool

    spooled: list[str] = []
    put = Spool.put

    def look(self: Any, batch: Any, also: Any) -> None:
        spooled.append(str(batch.to_pylist()) if batch is not None else repr(also))
        put(self, batch, also)

    monkeypatch.setattr(Spool, "put", look)

    class Cached(Downloader):
        @source("t", cache=True)
        def t(self) -> Any:
            yield from ({"n": n, "mail": f"hush{n}", "junk": "hush"} for n in ["1", "x", "3"])

        @source("u", cache=True)
        @sink("t")
        def u(self, stream: Stream) -> Any:
            for row in stream:
                yield {"n": row["n"], "phone": "hush again"}

    tbl = {"columns": {"n": "int"}, "on_bad_row": "reject", "exclude": "junk", "mask": {"mail": "sha256"}}
    place.run(Cached, tbls={"t": tbl, "u": {"mask": {"phone": "redact"}}}, data_buffer_cls="jsonl")
    assert len(spooled) >= 2
    assert "hush" not in str(spooled)
    assert [r["phone"] for r in place.rows("u")] == ["***"] * 2
    assert [r["row"] for r in rejects(place)] == [{"n": "x", "mail": "***"}]
    assert "hush" not in everything(place)


def test_nothing_comes_after_a_row_that_fails_on_its_way(place: Any) -> None:
    """A column that is found missing stops the table; rows that were gathered meanwhile, and what they stand for, go with it."""
    items = [x for n in range(6000) for x in ({"n": str(n)}, lambda n=n: context().checkpoint("c").set(n))]
    with pytest.raises(ConfigError, match="no column 'mail'"):
        place.run(yields(*items), tbls={"t": {"mask": {"mail": "redact"}}}, commit_bytes=1)
    assert place.checkpoint("c") is None
    assert not place.named("/data/")


values = st.one_of(st.none(), st.integers(-9, 99), st.integers(-9, 99).map(str), st.sampled_from(["many", "", "1.5"]))
texts = st.one_of(st.none(), st.integers(0, 999).map(lambda n: f"hush{n}"))
rows_ = st.lists(st.fixed_dictionaries({"qty": values, "mail": texts, "junk": texts}, optional={"new": values}), max_size=20)


def _int(value: Any) -> int | None:
    """The model: what a declared int makes of a value. Raises ValueError."""
    if isinstance(value, str) and not re.fullmatch(r"[+-]?\d+", value):
        raise ValueError
    return None if value is None else int(value)


@given(
    rows_,
    st.sampled_from(["dicts", "list", "marks"]),
    st.booleans(),
    st.sampled_from(["sha256", "redact"]),
    st.sampled_from(["evolve", "reject"]),
)
@hypothesis_settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kept_and_rejected_are_all_rows_and_nothing_masked_is_anywhere(
    new_place: Any, rows: list[dict[str, Any]], way: str, renamed: bool, mask: str, schema: str
) -> None:
    place = new_place()
    name = "email" if renamed else "mail"
    tbl = {
        "columns": {"qty": "int"}, "exclude": "junk", "rename": {"mail": "email"} if renamed else {}, "mask": {name: mask},
        "on_bad_row": "reject", "schema": schema,
    }  # fmt: skip
    first = {"qty": 0, "mail": "hush", "junk": "hush"}
    place.run(yields(first), tbls={"t": tbl}, data_buffer_cls="jsonl")
    numbered = [{**row, "i": i} for i, row in enumerate(rows)] if schema == "evolve" else rows
    items: list[Any] = [numbered] if way == "list" else list(numbered)
    if way == "marks":
        items = [x for i, r in enumerate(items) for x in (r, lambda i=i: context().checkpoint("c").set(i))]
    place.run(yields(*items), tbls={"t": tbl}, data_buffer_cls="jsonl")
    kept, bad = [], 0
    for row in numbered:
        try:
            if schema == "reject" and row.get("new") is not None:
                raise ValueError
            kept.append({"qty": _int(row["qty"]), name: row["mail"] is not None, "new": row.get("new")})
        except ValueError:
            bad += 1
    records = list(place.reader().records(0, ""))
    found = [r for record in records[1:] for r in place.rows_of(record, "t")]
    seen = [{"qty": r["qty"], name: r[name] is not None, "new": r.get("new")} for r in found]
    assert Counter(map(str, seen)) == Counter(map(str, kept))
    assert len(rejects(place)) == bad
    for record in records:
        for said in (x for x in record.change.receipts.values() if "rows" in x):
            assert said["rows"] == said["kept"] + said["rejected"]
    text = everything(place)
    assert "hush" not in text
    assert KEY not in text


def test_secrets_do_not_get_into_rejects(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACHVY_CNXN__API__PASSWORD", "hunter2-hunter2")
    row = {"qty": "hunter2-hunter2"}
    place.run(yields(row), tbls={"t": {"columns": {"qty": "int"}, "on_bad_row": "reject"}})
    assert rejects(place)[0]["row"] == {"qty": "***"}
    assert "hunter2" not in json.dumps(rejects(place))
