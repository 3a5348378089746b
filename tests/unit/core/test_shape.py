"""How tables grow, and what keys and order need of their columns."""

from __future__ import annotations

from typing import Any

import pytest

from anchovies.core.errors import ConfigError
from anchovies.core.schema import rows_to_batch
from anchovies.core.shape import check_keys, check_names, check_sort_values, evolve, join_types
from anchovies.core.tbl import SortKey, Tbl
from anchovies.core.types import ColType, parse_type


def types(**columns: str) -> dict[str, ColType]:
    return {n: parse_type(t) for n, t in columns.items()}


def test_columns_are_added_behind_and_widened_in_place() -> None:
    both = join_types(types(b="int", a="null"), types(c="str", a="date", b="float"))
    assert list(both.items()) == list(types(b="float", a="date", c="str").items())


def test_evolve_takes_what_comes() -> None:
    assert evolve(Tbl("t"), {}, types(a="int")) == types(a="int")
    assert evolve(Tbl("t"), types(a="int"), types(a="str", b="bool")) == types(a="json", b="bool")


def test_freeze_takes_the_first_and_then_nothing_new() -> None:
    frozen = Tbl("t", schema="freeze")
    assert evolve(frozen, {}, types(a="int")) == types(a="int")
    assert evolve(frozen, types(a="int", b="str"), types(a="null")) == types(a="int", b="str")
    with pytest.raises(ConfigError, match=r"'t' is frozen.*a would go from int to float; c is new \(str\)"):
        evolve(frozen, types(a="int"), types(a="float", c="str"))


@pytest.mark.parametrize("names", [["Id", "id"], ["a", "STRASSE", "straße"], [""]])
def test_names_that_databases_mix_up_are_refused(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="'t'"):
        check_names("t", names)


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"unique_by": ("order_nun",)}, "unique_by"),
        ({"set_by": ("order_nun",)}, "set_by"),
        ({"sort_by": (SortKey("order_nun", True),)}, "sort_by"),
        ({"deleted_by": "order_nun"}, "deleted_by"),
    ],
)
def test_keys_name_columns_that_exist(changes: dict[str, Any], setting: str) -> None:
    tbl = Tbl("sales").with_(**changes)
    check_keys(tbl, ["order_nun"])
    with pytest.raises(ConfigError, match=f"tbls.sales.{setting}: there is no column 'order_nun'") as e:
        check_keys(tbl, ["Order_Num", "other"])
    assert e.value.hint == "did you mean 'Order_Num'?"


def test_without_a_near_name_all_are_shown() -> None:
    with pytest.raises(ConfigError) as e:
        check_keys(Tbl("t", unique_by=("zzz",)), ["a", "b"])
    assert e.value.hint == "its columns are a, b"


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        (["9", "10", None], ("'10'", "'9'")),
        (["-1", "1.5", "+2"], ("'+2'", "'-1'")),
        (["2024", "2025"], ("'2024'", "'2025'")),
        (["1e3", "2"], ("'1e3'", "'2'")),
        (["9", "10", "n/a"], None),
        (["2026-01-01", "2026-01-02"], None),
        (["7", "7"], None),
        (["nan", "inf"], None),
        (["", "1", "2"], ("'1'", "'2'")),
        ([None], None),
        ([9, 10], None),
    ],
    ids=str,
)
def test_numbers_in_text_are_not_sorted_as_text(values: list[Any], refused: tuple[str, str] | None) -> None:
    tbl = Tbl("t", sort_by=(SortKey("missing"), SortKey("a", True)))
    batch = rows_to_batch([{"a": v} for v in values])
    if refused is None:
        check_sort_values(tbl, batch)
        return
    with pytest.raises(ConfigError, match="sort_by: 'a' is text, but its values look like numbers") as e:
        check_sort_values(tbl, batch)
    assert all(r in e.value.message for r in refused)
