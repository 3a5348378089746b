"""Tables of `config.yaml`: every key, every mistake; merging, publishing, picking."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from anchovies.core.config import parse_config
from anchovies.core.errors import ConfigError
from anchovies.core.tbl import Column, SortKey, Tbl
from anchovies.core.tblconfig import match_tables, merge_tbl, tbl_from_config, tbl_from_json, tbl_to_json
from anchovies.core.types import INT, STR, decimal

PROPERTIES = {"path": "where the files are", "delimiter": "between fields"}


def refused(raw: dict[str, Any], properties: dict[str, str] | None = PROPERTIES) -> ConfigError:
    with pytest.raises(ConfigError) as e:
        tbl_from_config("sales", raw, properties)
    return e.value


def test_every_key() -> None:
    text = """
tbls:
  sales:
    columns: {order_num: int, total: "decimal(18,2)"}
    unique_by: order_num, line_item_num
    set_by: [order_num]
    sort_by: -trans_num, line_item_num
    autodiscover: true
    write: merge
    schema: freeze
    allow_failure: yes
    snapshot: false
    on_bad_row: fail
    path: /sales/*.tsv
    x-note: free
"""
    tbl = tbl_from_config("sales", parse_config(text, {}).tbls["sales"], PROPERTIES)
    assert tbl == Tbl(
        "sales",
        (Column("order_num", INT), Column("total", decimal(18, 2))),
        ("order_num", "line_item_num"),
        ("order_num",),
        (SortKey("trans_num", True), SortKey("line_item_num")),
        True,
        "merge",
        "freeze",
        allow_failure=True,
        properties={"path": "/sales/*.tsv", "x-note": "free"},
        declared=frozenset({"order_num", "total"}),
    )


@pytest.mark.parametrize(
    ("raw", "message", "hint"),
    [
        ({"uniqe_by": "a"}, "tbls.sales.uniqe_by: unknown key", "did you mean 'unique_by'?"),
        ({"pth": "a"}, "tbls.sales.pth: unknown key", "did you mean 'path'?"),
        ({"zzz": "a"}, "tbls.sales.zzz: unknown key", "keys: "),
        ({"unique_by": 5}, "tbls.sales.unique_by: expected column names", ""),
        ({"sort_by": "a,-"}, "tbls.sales.sort_by: a '-' without", ""),
        ({"columns": {"a": "nit"}}, "tbls.sales.columns.a: unknown column type", "types: "),
        ({"columns": "a"}, "tbls.sales.columns: expected a map", ""),
        ({"autodiscover": "maybe"}, "tbls.sales.autodiscover: expected true or false", ""),
        ({"write": "mrge"}, "tbls.sales.write: expected one of", "did you mean 'merge'?"),
    ],
)
def test_mistakes_are_named(raw: dict[str, Any], message: str, hint: str) -> None:
    found = refused(raw)
    assert found.message.startswith(message)
    assert (found.hint or "").startswith(hint)


@pytest.mark.parametrize(
    "raw",
    [
        {"expect": {}},
    ],
    ids=str,
)
@pytest.mark.parametrize("properties", [PROPERTIES, None], ids=["declared", "others'"])
def test_what_is_not_built_says_so(raw: dict[str, Any], properties: dict[str, str] | None) -> None:
    assert "is not built yet (see CHANGELOG)" in refused(raw, properties).message


def test_a_mistake_has_its_line() -> None:
    raw = parse_config("tbls:\n  sales:\n    uniqe_by: a\n", {}, "config.yaml").tbls["sales"]
    assert refused(dict(raw)).message == "tbls.sales.uniqe_by: unknown key"
    with pytest.raises(ConfigError, match=r"^config.yaml:3:5: tbls.sales.uniqe_by: unknown key"):
        tbl_from_config("sales", raw, PROPERTIES)


def test_others_properties_pass_but_near_misses_do_not() -> None:
    assert tbl_from_config("sales", {"path": "/x"}).properties == {"path": "/x"}
    assert refused({"uniqe_by": "a"}, None).hint == "did you mean 'unique_by'?"


@pytest.mark.parametrize("name", ["../../x", "", ".", "a/b", "a\\b", "a\nb"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError, match="table"):
        tbl_from_config(name, {})


def test_the_configuration_wins() -> None:
    upstream = Tbl("t", (Column("a", STR), Column("b", STR)), ("a",), properties={"path": "/1", "x": 1})
    merged = merge_tbl(upstream, {"columns": {"b": "int", "c": "int"}, "write": "append", "path": "/2", "unique_by": None})
    assert merged.types == {"a": STR, "b": INT, "c": INT}
    assert (merged.unique_by, merged.write, merged.properties) == (("a",), "append", {"path": "/2", "x": 1})
    assert upstream.write is None


FULL = Tbl(
    "t",
    (Column("a", INT), Column("d", decimal(18, 2))),
    ("a",),
    ("a", "b"),
    (SortKey("c", True), SortKey("e")),
    True,
    "scd",
    "freeze",
    allow_failure=True,
    properties={"path": "secret-value"},
)


def test_through_json_and_back() -> None:
    data = msgspec.json.decode(msgspec.json.encode(tbl_to_json(FULL)))
    assert tbl_from_json(data) == FULL.with_(properties={})
    assert "secret-value" not in str(data)
    assert tbl_from_json({**tbl_to_json(Tbl("t")), "of_later": 1}) == Tbl("t")


@pytest.mark.parametrize("data", [{}, {"name": "../x"}, {"name": "t", "columns": [1]}, {"name": "t", "columns": [["a", "nit"]]}])
def test_json_that_is_no_table(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tbl_from_json(data)


TABLES = ["sales", "sales_lines", "stock"]


@pytest.mark.parametrize(
    ("enabled", "disabled", "taken"),
    [
        ([], [], TABLES),
        (["sales*"], [], ["sales", "sales_lines"]),
        ([], ["st?ck"], ["sales", "sales_lines"]),
        (["stock", "sales"], ["sales"], ["stock"]),
        (["*"], ["*"], []),
    ],
)
def test_picking(enabled: list[str], disabled: list[str], taken: list[str]) -> None:
    assert match_tables(TABLES, enabled, disabled) == taken


def test_picking_from_upstreams() -> None:
    pairs = [("sftp.a", "sales"), ("b", "sales"), ("b", "stock")]
    assert match_tables(pairs, ["sales"], []) == pairs[:2]
    assert match_tables(pairs, ["b.*"], ["b.stock"]) == [("b", "sales")]
    assert match_tables(pairs, ["sftp.a.sales"], []) == pairs[:1]


@pytest.mark.parametrize(("enabled", "disabled"), [(["slaes"], []), ([], ["slaes"])])
def test_a_pattern_that_matches_nothing(enabled: list[str], disabled: list[str]) -> None:
    with pytest.raises(ConfigError, match="'slaes' matches no table") as e:
        match_tables(TABLES, enabled, disabled)
    assert e.value.hint == "did you mean 'sales'?"
    assert e.value.exit_code == 2
