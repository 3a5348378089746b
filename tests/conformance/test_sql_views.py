"""`current_view: true`: a view of the rows that are current, which follows its table and is in nobody's way."""

from __future__ import annotations

from typing import Any

import pytest

from anchovies.core.tbl import Tbl
from anchovies.sdk import ConfigError, Position
from anchovies.testing.sql import Unit
from anchovies.testing.sqlsubject import Subject, table


def viewed(columns: dict[str, str] | None = None, **kwds: Any) -> Tbl:
    return table(columns=columns or {"k": "int", "x": "int"}, unique_by=("k",), current_view=True, **kwds)


def current(subject: Subject, name: str = "t_current") -> list[tuple[object, ...]]:
    return sorted(subject.sql(f"SELECT * FROM {subject.relation(name)}"), key=repr)


def test_it_shows_the_current_rows_without_history(subject: Subject) -> None:
    subject.load(viewed(), Unit(10, [{"k": 1, "x": 1}, {"k": 2, "x": 1}]))
    subject.load(viewed(), Unit(20, [{"k": 1, "x": 5}]), first=1)
    assert current(subject) == [(1, 5), (2, 1)]
    plan = list(subject.operator.plan_load(subject.one(viewed(), Unit(30, [])).target))
    assert plan == [f"{subject.relation('t')} is there with all its columns"]


def test_it_comes_to_a_table_that_is_there_and_the_plan_says_so(subject: Subject) -> None:
    subject.load(table(columns={"k": "int", "x": "int"}, unique_by=("k",)), Unit(10, [{"k": 1, "x": 1}]))
    load = subject.one(viewed(), Unit(20, [{"k": 1, "x": 2}]), first=1)
    assert any("VIEW" in line for line in subject.operator.plan_load(load.target))
    subject.operator.load(load)
    assert current(subject) == [(1, 2)]


def test_it_follows_new_columns_and_wider_types(subject: Subject) -> None:
    subject.load(viewed(), Unit(10, [{"k": 1, "x": 1}]))
    wider = viewed({"k": "int", "new": "str", "x": "int"})
    subject.load(wider, Unit(20, [{"k": 2, "x": 2, "new": "n"}]), first=1)
    assert current(subject) == [(1, 1, None), (2, 2, "n")]
    widest = viewed({"k": "int", "new": "str", "x": "float", "more": "int"})
    subject.load(widest, Unit(30, [{"k": 3, "x": 0.5, "more": 7}]), first=2)
    assert current(subject) == [(1, 1.0, None, None), (2, 2.0, "n", None), (3, 0.5, None, 7)]


def test_where_it_is_not_wanted_any_more_it_stays_and_is_not_in_the_way(subject: Subject) -> None:
    subject.load(viewed(), Unit(10, [{"k": 1, "x": 1}]))
    plain = table(columns={"k": "int", "x": "float"}, unique_by=("k",))
    subject.load(plain, Unit(20, [{"k": 2, "x": 0.5}]), first=1)
    assert current(subject) == [(1, 1.0), (2, 0.5)]


def test_a_table_that_is_made_anew_has_it_again(subject: Subject) -> None:
    subject.load(viewed(), Unit(10, [{"k": 1, "x": 1}]))
    anew = subject.one(viewed({"k": "int", "y": "str"}), Unit(20, [{"k": 2, "y": "z"}]))
    anew.replaces = Position(1, "c1")
    subject.operator.load(anew)
    assert current(subject) == [(2, "z")]


def test_a_table_that_is_made_anew_without_history_loses_it(subject: Subject) -> None:
    subject.load(viewed(), Unit(10, [{"k": 1, "x": 1}]))
    anew = subject.one(table("merge", columns={"k": "int", "x": "int"}, unique_by=("k",)), Unit(20, [{"k": 2, "x": 3}]))
    anew.replaces = Position(1, "c1")
    subject.operator.load(anew)
    assert subject.table(anew.target.tbl) == [(2, 3)]
    with subject.operator.connections["db"].database() as db:
        assert db.view(subject.schema, "t_current") is None


@pytest.mark.parametrize("what", ["TABLE", "VIEW"])
def test_what_somebody_else_made_is_left_alone(subject: Subject, what: str) -> None:
    plain = table(columns={"k": "int", "x": "int"}, unique_by=("k",))
    subject.load(plain, Unit(10, [{"k": 1, "x": 1}]))
    subject.run(f"CREATE {what} {subject.relation('t_current')} AS SELECT k FROM {subject.relation('t')}")
    with pytest.raises(ConfigError, match=r"t_current.* is there already.*current_view"):
        subject.load(viewed(), Unit(20, [{"k": 1, "x": 2}]), first=1)
    assert current(subject) == [(1,)]
    assert subject.load(plain, Unit(20, [{"k": 1, "x": 2}]), first=1) == {"changed": 1}


def test_a_table_that_has_the_name_of_a_view_is_refused(subject: Subject) -> None:
    subject.load(viewed(), Unit(10, [{"k": 1, "x": 1}]))
    with pytest.raises(ConfigError, match="t_current.* is a view, so it cannot be loaded"):
        subject.load(viewed(name="t_current"), Unit(10, [{"k": 1, "x": 1}]))
    assert current(subject) == [(1, 1)]


@pytest.mark.parametrize("name", ["x" * 300, 'select"; DROP TABLE t; --', "T" * 56])
def test_names_of_every_kind(subject: Subject, name: str) -> None:
    odd = viewed({"k": "int", "_seq": "int", 'a"b': "str"}, name=name)
    subject.load(odd, Unit(10, [{"k": 1, "_seq": 5, 'a"b': "c"}]))
    assert current(subject, f"{name}_current") == [(1, 5, "c")]
    assert subject.load(odd, Unit(20, [{"k": 1, "_seq": 6}]), first=1) == {"changed": 1}
    assert current(subject, f"{name}_current") == [(1, 6, None)]


@pytest.mark.parametrize("write", ["merge", "append", "replace"])
def test_without_history_there_is_nothing_to_leave_out(subject: Subject, write: str) -> None:
    with pytest.raises(ConfigError, match="`current_view: true` is of tables with history"):
        subject.load(viewed(write=write), Unit(10, [{"k": 1, "x": 1}]))


def test_a_view_of_the_users_own_stays_or_is_named(subject: Subject) -> None:
    subject.load(viewed(), Unit(10, [{"k": 1, "x": 1}]))
    subject.run(f"CREATE VIEW {subject.relation('mine')} AS SELECT k, x FROM {subject.relation('t')}")
    wide = viewed({"k": "int", "x": "float", "new": "str"})
    if subject.kind == "postgres":
        with pytest.raises(ConfigError, match=r"mine depends on column \"x\""):
            subject.load(wide, Unit(20, [{"k": 2, "x": 0.5}]), first=1)
        assert current(subject) == [(1, 1)]
        subject.run(f"DROP VIEW {subject.relation('mine')}")
    subject.load(wide, Unit(20, [{"k": 2, "x": 0.5}]), first=1)
    assert current(subject) == [(1, 1.0, None), (2, 0.5, None)]


def test_a_view_of_the_view_lives_through_new_columns(subject: Subject) -> None:
    subject.load(viewed(), Unit(10, [{"k": 1, "x": 1}]))
    subject.run(f"CREATE VIEW {subject.relation('mine')} AS SELECT k FROM {subject.relation('t_current')}")
    subject.load(viewed({"new": "str", "k": "int", "x": "int"}), Unit(20, [{"k": 2, "x": 2}]), first=1)
    assert current(subject, "mine") == [(1,), (2,)]
