"""`lock_timeout` and `statement_timeout` of a connection, in every database."""

from __future__ import annotations

from typing import Any

import pytest

from anchovies.plugins.sql import DbConnection, Uploader
from anchovies.plugins.sql.source import SourceConnection
from anchovies.sdk import ConfigError, FatalError, RetryableError
from anchovies.testing.sql import Unit
from anchovies.testing.sqlsubject import Subject, table

SLEEP = {"postgres": "SELECT pg_sleep(30)", "mariadb": "SELECT SLEEP(30)"}
HOLD = {
    "sqlite": ["BEGIN EXCLUSIVE"],
    "postgres": ["BEGIN", "LOCK TABLE {t}"],
    "mariadb": ["BEGIN", "UPDATE {p} SET slot = slot + 1"],
}
WAITS = {
    "sqlite": ("PRAGMA busy_timeout", 250, 2**31 - 1),
    "postgres": ("SHOW lock_timeout", "250ms", "0"),
    "mariadb": ("SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout", 1, 100_000_000),
}


def limited(subject: Subject, **limits: Any) -> Uploader:
    operator = Uploader()
    operator.connections = {"db": DbConnection(id="db", url=subject.url, **limits)}
    return operator


def test_a_lock_is_waited_for_as_long_as_was_said(subject: Subject) -> None:
    tbl = table("append")
    subject.load(tbl, Unit(1, [{"k": 1}]))
    operator = limited(subject, lock_timeout=0.25)
    if subject.kind == "duckdb":
        with pytest.raises(ConfigError, match="no lock_timeout"):
            operator.load(subject.one(tbl, Unit(2, [{"k": 2}]), first=1))
        return
    asks, told, for_ever = WAITS[subject.kind]
    for value, wanted in ((0.25, told), (0, for_ever)):
        with limited(subject, lock_timeout=value)._db as cnxn, cnxn.database() as db:
            assert db.rows(asks)[0][0] == wanted
    with subject.operator._db.database() as holder:
        names = {"t": subject.relation("t"), "p": holder.relation(subject.schema, "_anchovies_position")}
        for statement in HOLD[subject.kind]:
            holder.run(statement.format(**names))
        with pytest.raises(RetryableError):
            operator.load(subject.one(tbl, Unit(2, [{"k": 2}]), first=1))
        holder.rollback()
    assert operator.load(subject.one(tbl, Unit(2, [{"k": 2}]), first=1))
    operator._db.ensure_closed()


def test_a_statement_takes_no_longer_than_was_said(subject: Subject) -> None:
    cnxn = limited(subject, statement_timeout=0.2)._db
    if subject.kind not in SLEEP:
        with pytest.raises(ConfigError, match="no statement_timeout"), cnxn, cnxn.database():
            pass
        return
    for made in (cnxn, SourceConnection(id="db", url=subject.url, statement_timeout=0.2)):
        with made:
            source: Any = made.reader() if isinstance(made, SourceConnection) else made.database()
            with pytest.raises(FatalError, match="(?i)time") as e, source as db:
                db.rows(SLEEP[subject.kind])
            assert e.value.hint is not None and "statement_timeout" in e.value.hint


@pytest.mark.parametrize("wrong", [{"lock_timeout": -1.0}, {"statement_timeout": 1e12}, {"lock_timeout": float("nan")}])
def test_a_limit_that_is_none_is_refused_with_its_variable(subject: Subject, wrong: dict[str, float]) -> None:
    cnxn = limited(subject, **wrong)._db
    with pytest.raises(ConfigError, match=next(iter(wrong))) as e, cnxn, cnxn.database():
        pass
    assert e.value.hint is not None and f"ACHVY_CNXN__DB__{next(iter(wrong)).upper()}" in e.value.hint
