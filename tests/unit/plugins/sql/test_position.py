"""The row that says where a target stands: read, claimed, checked and moved, by one loader at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anchovies.core.tbl import Column, Tbl
from anchovies.core.types import INT
from anchovies.plugins.sql import DbConnection, position
from anchovies.plugins.sql.database import Database
from anchovies.sdk import Position, PositionMoved, RetryableError, Target

TARGET = Target("store", "me", "sales", "shop", Tbl("t", (Column("k", INT),)))
FIRST, SECOND = Position(3, "c3"), Position(7, "c7")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with DbConnection(id="db", url=f"sqlite:///{tmp_path}/x.sqlite").database() as db:
        assert not position.exists(db, "shop")
        db.run(position.ddl(db, "shop"))
        yield db


def moved(db: Database, old: Position, new: Position, consumer: str | None = "me/loader") -> None:
    with db.transaction():
        position.claim(db, TARGET)
        position.advance(db, TARGET, old, new, consumer)


def test_before_the_first_load_there_is_none(db: Database) -> None:
    assert position.exists(db, "shop") and position.read(db, TARGET) is None


def test_a_claimed_target_stands_at_the_beginning(db: Database) -> None:
    with db.transaction():
        assert position.claim(db, TARGET) == Position()
        assert position.claim(db, TARGET) == Position(), "again, too"


def test_it_moves_from_where_it_was(db: Database) -> None:
    moved(db, Position(), FIRST)
    moved(db, FIRST, SECOND, None)
    assert position.read(db, TARGET) == SECOND
    assert db.rows(f"SELECT consumer FROM {position.relation(db, 'shop')}") == [("me/loader",)], "nobody is no news"


@pytest.mark.parametrize("old", [Position(), Position(3, "another"), Position(4, "c3"), SECOND])
def test_it_does_not_move_from_elsewhere(db: Database, old: Position) -> None:
    moved(db, Position(), FIRST)
    with pytest.raises(PositionMoved, match="its position changed while it was loaded"):
        moved(db, old, SECOND)
    assert position.read(db, TARGET) == FIRST


def test_each_target_has_its_own(db: Database) -> None:
    moved(db, Position(), FIRST)
    others = [
        Target("other", "me", "sales", "shop", TARGET.tbl),
        Target("store", "you", "sales", "shop", TARGET.tbl),
        Target("store", "me", "stock", "shop", TARGET.tbl),
        Target("store", "me", "sales", "store", TARGET.tbl),
        Target("store", "me", "sales", "shop", Tbl("u", (Column("k", INT),))),
    ]
    db.run(position.ddl(db, "store"))
    assert [position.read(db, t) for t in others] == [None] * 5


def test_a_row_that_vanishes_is_worth_another_try(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(db), "rows", lambda self, sql, *params: [])
    with pytest.raises(RetryableError, match="vanished") as e, db.transaction():
        position.claim(db, TARGET)
    assert not isinstance(e.value, PositionMoved)


@pytest.mark.parametrize(
    ("found", "start", "table", "may"),
    [
        (FIRST, FIRST, True, True),
        (Position(), Position(), False, True),
        (FIRST, SECOND, True, False),
        (FIRST, Position(), True, False),  # somebody loaded the table since it was looked at
        (FIRST, Position(), False, True),  # the table was dropped: everything comes again
        (FIRST, SECOND, False, False),
        (Position(3, "another"), FIRST, True, False),
    ],
)
def test_what_may_be_applied(found: Position, start: Position, table: bool, may: bool) -> None:
    if may:
        return position.check(TARGET, found, start, table)
    with pytest.raises(PositionMoved, match=f"stands at commit {found.slot} of me/sales, not at {start.slot}"):
        position.check(TARGET, found, start, table)
