"""Rows that the table does not take, because of constraints and triggers of somebody else's: the error names the row, nothing of
the load stays, and it goes in once the table takes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from anchovies.sdk import RetryableError, RowError
from anchovies.testing.sql import Unit
from anchovies.testing.sqlsubject import Subject, table

COLUMNS = {"k": "int", "s": "int", "o": "int", "v": "str"}
POISON = "bad \N{SKULL AND CROSSBONES}"


def forbid(subject: Subject, name: str) -> str:
    """Have the table refuse the value; what takes that back."""
    relation = subject.relation(name)
    if subject.kind == "sqlite":
        subject.run(
            f"CREATE TRIGGER no BEFORE INSERT ON {relation} WHEN new.v = '{POISON}' BEGIN SELECT RAISE(ABORT, 'not that one'); END"
        )
        return "DROP TRIGGER no"
    if subject.kind == "duckdb":  # it has no other constraint that comes later
        subject.run(f"ALTER TABLE {relation} ALTER COLUMN v SET NOT NULL")
        return f"ALTER TABLE {relation} ALTER COLUMN v DROP NOT NULL"
    subject.run(f"ALTER TABLE {relation} ADD CONSTRAINT no CHECK (v <> '{POISON}')")
    return f"ALTER TABLE {relation} DROP CONSTRAINT no"


def rows(first: int, last: int, bad: int | None = None, kind: str = "") -> list[dict[str, object]]:
    value = None if kind == "duckdb" else POISON
    return [{"k": i, "s": i % 7, "o": i, "v": value if i == bad else f"v{i}"} for i in range(first, last)]


@pytest.mark.parametrize("bad", [100, 137, 299])
@pytest.mark.parametrize("write", ["append", "merge", "scd"])
def test_the_row_is_named(subject: Subject, write: str, bad: int) -> None:
    tbl = table(write, columns=COLUMNS, **({} if write == "append" else {"unique_by": ("k",)}))
    subject.load(tbl, Unit(1, rows(0, 100)))
    before = subject.table(tbl)
    back = forbid(subject, tbl.name)
    units = [Unit(1001 + a, rows(a, a + 50, bad, subject.kind)) for a in range(100, 300, 50)]
    with pytest.raises(RowError, match="refuses a") as e:
        subject.load(tbl, *units, first=1)
    assert e.value.where["seq"] == 1001 + bad
    assert ("(k = " + str(bad) + ")" in e.value.message) == (write != "append")
    assert e.value.hint is not None and "nothing of this load was applied" in e.value.hint
    assert subject.table(tbl) == before
    subject.run(back)
    assert subject.load(tbl, *units, first=1) == {"inserted": 200}
    assert len(subject.table(tbl)) == 300


REFUSED = [("postgres", "v", "a\0b"), ("mariadb", "f", float("nan")), ("mariadb", "f", float("-inf"))]


@pytest.mark.server
@pytest.mark.parametrize(("kind", "column", "value"), REFUSED)
def test_a_value_that_it_has_no_word_for_is_told_with_its_row(
    subject_of: Callable[[str], Subject], kind: str, column: str, value: object
) -> None:
    subject, tbl = subject_of(kind), table("scd", columns={"k": "int", "v": "str", "f": "float"}, unique_by=("k",))
    some: list[dict[str, object]] = [{"k": i, "v": "x"} for i in range(9)]
    with pytest.raises(RowError, match=r"the row with _seq 5 \(k = 4\)") as e:
        subject.load(tbl, Unit(1, [*some[:4], {"k": 4, column: value}, *some[5:]]))
    assert (e.value.where["seq"], e.value.where.get("column")) == (5, column)
    subject.close()


def test_a_search_that_is_ended_tells_what_the_database_said(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is stopped, or the database is gone, while the row is looked for."""
    tbl = table("append", columns=COLUMNS)
    subject.load(tbl, Unit(1, rows(0, 10)))
    forbid(subject, tbl.name)
    tries: list[int] = []

    def gone() -> None:
        tries.append(1)
        if len(tries) == 3:
            raise RetryableError("the batch was told to stop")

    monkeypatch.setattr("anchovies.plugins.sql.uploader._stay", gone)
    with pytest.raises(RowError, match="refuses a") as e:
        subject.load(tbl, Unit(1001, rows(10, 90, 55, subject.kind)), first=1)
    assert "seq" not in e.value.where and len(tries) == 3


def test_what_is_refused_together_only_is_told_as_the_database_says_it(subject_of: Callable[[str], Subject]) -> None:
    subject, tbl = subject_of("sqlite"), table("append", columns=COLUMNS)
    subject.load(tbl, Unit(1, rows(0, 3)))
    some = subject.relation(tbl.name)
    when = f"WHEN (SELECT count(*) FROM {some}) > 9"
    subject.run(f"CREATE TRIGGER no BEFORE INSERT ON {some} {when} BEGIN SELECT RAISE(ABORT, 'enough'); END")
    with pytest.raises(RowError, match="enough") as e:
        subject.load(tbl, Unit(1001, rows(3, 20)), first=1)
    assert "seq" not in e.value.where
    subject.close()
