"""`sql.Uploader` does the same in every database: history, types, columns that come and widen, positions, clear errors."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anchovies.core.tbl import SortKey, Tbl
from anchovies.plugins.sql import Uploader
from anchovies.sdk import ConfigError, Position, PositionMoved, RowError
from anchovies.testing.sql import Model, Unit
from anchovies.testing.sqlsubject import Subject
from anchovies.testing.sqlsubject import table as tbl

# ---- history is a function of the log

ROW = st.fixed_dictionaries(
    {
        "k": st.integers(1, 3),
        "s": st.integers(1, 2),
        "o": st.sampled_from([None, 1, 2, 3]),
        "v": st.sampled_from([None, "", "a"]),
        "f": st.sampled_from([None, 0.5, float("nan")]),
        "d": st.sampled_from([None, False, False, False, True]),
    }
)
COMMITS = st.lists(st.lists(st.lists(ROW, max_size=5), min_size=1, max_size=3), min_size=1, max_size=4)
KEYS = st.sampled_from(["u", "us", "s", "so", "uo", "uso"])
MODES = st.sampled_from(["scd", "scd", "merge", "replace"])
EXAMPLES = {"sqlite": 200, "duckdb": 60, "postgres": 40, "mariadb": 40}


def history_of(rows: list[list[list[dict[str, Any]]]]) -> list[list[Unit]]:
    seq, out = 1_000, []
    for commit in rows:
        units = []
        for unit in commit:
            units.append(Unit(seq, unit))
            seq += len(unit)
        out.append(units)
        seq += 7
    return out


def keyed(keys: str, write: str, descending: bool, *, snapshot: bool = False, deletes: bool = False) -> Tbl:
    return tbl(
        write,
        columns={"k": "int", "s": "int", "o": "int", "v": "str", "f": "float", "d": "bool"},
        snapshot=snapshot,
        deleted_by="d" if deletes else None,
        unique_by=("k",) if "u" in keys else (),
        set_by=("s",) if "s" in keys else (),
        sort_by=(SortKey("o", descending),) if "o" in keys else (),
    )


def without_nan_for(kind: str, rows: Any) -> Any:
    """MariaDB has no NaN: another number takes its place."""
    if kind != "mariadb":
        return rows
    return [[[r | {"f": 7.25} if r["f"] != r["f"] else r for r in unit] for unit in commit] for commit in rows]


def without_nan(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted((tuple("NaN" if v != v else int(v) if isinstance(v, bool) else v for v in row) for row in rows), key=repr)


def test_random_histories_give_what_row_by_row_would(sql_kind: str, subject_of: Callable[[str], Subject]) -> None:
    kind = sql_kind

    @settings(max_examples=EXAMPLES[kind], deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        COMMITS, KEYS, MODES, st.booleans(), st.sets(st.integers(1, 3)), st.booleans(), st.sampled_from(["", "", "s", "d", "sd"])
    )
    def check(rows: Any, keys: str, write: str, descending: bool, cuts: set[int], parquet: bool, more: str) -> None:
        subject = subject_of(kind)
        rows = without_nan_for(kind, rows)
        table = keyed(keys, write, descending, snapshot="s" in more, deletes="d" in more)
        history = history_of(rows)
        model = Model(table)
        for commit in history:
            model.apply(commit)
        every: Counter[str] = Counter()
        try:
            for load in subject.loads(table, history, cuts, parquet):
                assert (subject.operator.position(load.target) or Position()) == load.start
                counts = subject.operator.load(load)
                assert sum(n for what, n in counts.items() if what != "expired") == load.rows
                every.update(counts)
            there = len(subject.table(table))
            assert there == every["inserted"] + every["changed"] + every["late"] if write == "scd" else True
            gone = every["expired"] + every["deleted"]
            assert there == every["inserted"] - gone if write != "scd" else True
            assert without_nan(subject.table(table)) == without_nan(model.table())
        finally:
            subject.close()

    check()


def test_a_load_says_what_it_did(subject: Subject) -> None:
    table = tbl(unique_by=("k",), sort_by=(SortKey("o", True),))
    assert subject.load(table, Unit(10, [{"k": 1, "o": 1}, {"k": 2, "o": 5}])) == {"inserted": 2}
    second = Unit(20, [{"k": 1, "o": 2}, {"k": 2, "o": 5}, {"k": 2, "o": 4}, {"k": 3}])
    assert subject.load(table, second, first=1) == {"inserted": 1, "changed": 1, "unchanged": 1, "late": 1}
    again = Unit(30, [{"k": 1, "o": 1}, {"k": 2, "o": 4}, {"k": 1, "o": 2}])
    assert subject.load(table, again, first=2) == {"unchanged": 3}
    assert [(r[0], r[2], r[4], r[5]) for r in subject.table(table)] == [
        (1, 1, 10, 20), (1, 2, 20, None), (2, 4, 22, 11), (2, 5, 11, None), (3, None, 23, None)
    ]  # fmt: skip


def test_a_set_is_replaced_whole(subject: Subject) -> None:
    table = tbl(set_by=("s",), unique_by=("k",))
    subject.load(table, Unit(10, [{"s": 1, "k": 1}, {"s": 1, "k": 2}, {"s": 2, "k": 3}]))
    assert subject.load(table, Unit(20, [{"s": 1, "k": 2}, {"s": 1, "k": 4}]), first=1) == {
        "inserted": 1,
        "unchanged": 1,
        "expired": 1,
    }
    assert [(r[0], r[4], r[5]) for r in subject.table(table)] == [(1, 10, 20), (2, 11, None), (3, 12, None), (4, 21, None)]


def test_append_keeps_every_row(subject: Subject) -> None:
    table = tbl("append")
    subject.load(table, Unit(10, [{"k": 1}, {"k": 1}]))
    subject.load(table, Unit(20, [{"k": 1}]), first=1)
    assert [r[0] for r in subject.table(table)] == [1, 1, 1]


def test_repeated_keys_in_the_first_load_go_the_long_way(subject: Subject) -> None:
    table = tbl(unique_by=("k",))
    assert subject.load(table, Unit(10, [{"k": 1, "v": "a"}, {"k": 1, "v": "b"}])) == {"inserted": 1, "changed": 1}
    assert [(r[3], r[4], r[5]) for r in subject.table(table)] == [("a", 10, 11), ("b", 11, None)]


# ---- types

VALUES: dict[str, tuple[str, list[Any]]] = {
    "b": ("bool", [True, False]),
    "i": ("int", [2**63 - 1, -(2**63)]),
    "f": ("float", [1.1, float("inf")]),
    "t": ("str", ["", "a,\"b'\n\t\\N é 😀"]),
    "raw": ("bytes", [b"\x00\xff", b""]),
    "d": ("date", [date(1969, 12, 31), date(9999, 12, 31)]),
    "clock": ("time", [time(23, 59, 59, 999_999), time(0)]),
    "at": ("datetime", [datetime(1900, 1, 1, 0, 0, 0, 1), datetime(2500, 1, 1)]),
    "zoned": ("datetime(tz)", [datetime(2020, 6, 1, 12, tzinfo=UTC), datetime(1960, 1, 1, tzinfo=UTC)]),
    "u": ("uuid", ["123e4567-e89b-12d3-a456-426614174000", "00000000-0000-0000-0000-000000000000"]),
    "j": ("json", ['{"a":  [1, null]}', '"x"']),
    "money": ("decimal(18,2)", [Decimal("-1234567890123456.78"), Decimal("0.10")]),
    "wide": ("decimal(60,5)", [Decimal("1234567890123456789012345678901234567890.12345"), Decimal("-0.00001")]),
    "l": ("list[int]", [[1, None, 3], []]),
}
TEXT_TOO = ("wide", "l", "zoned", "u")


def told(value: Any) -> Any:
    """A value as text that two databases agree on."""
    if isinstance(value, str) and value[:1] in "-0123456789" and value.replace(".", "").lstrip("-").isdigit():
        value = Decimal(value)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, datetime):
        naive = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return naive.isoformat(" ", "microseconds")
    if isinstance(value, timedelta):  # MariaDB's word for a time of day
        value = (datetime.min + value).time()
    if isinstance(value, time):
        return value.isoformat("microseconds")
    if isinstance(value, list):
        return str(value).replace("None", "null").replace(" ", "")
    text = str(value).removesuffix("+00:00") if not isinstance(value, bytes | int | float) else value
    return text.replace(" ", "") if isinstance(text, str) and text[:1] == "[" else text


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_types_stay_what_they_are(subject: Subject, name: str, parquet: bool) -> None:
    kind, values = VALUES[name]
    if subject.kind == "mariadb" and name == "f":
        values = [1.1, -1.7976931348623157e308]
    table = tbl(unique_by=("k",), columns={"k": "int", "x": kind})
    rows = [{"k": i, "x": v} for i, v in enumerate([*values, None])]
    history = [[Unit(10, rows)], [Unit(20, rows)]]
    first, again = subject.loads(table, history, (1,), parquet)
    assert subject.operator.load(first)["inserted"] == 3
    assert subject.operator.load(again)["unchanged"] == 3
    expr = {"duckdb": {"zoned": "x AT TIME ZONE 'UTC'", "j": "CAST(x AS VARCHAR)"}, "postgres": {"j": "x::text"}}
    pick = expr.get(subject.kind, {}).get(name, "x")
    got = [r[0] for r in subject.sql(f"SELECT {pick} FROM {subject.relation('t')} ORDER BY k")]
    assert got[2] is None
    for have, want in zip(got, values, strict=False):
        have, want = told(have), told(want)
        assert have == want, (name, have, want)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_a_database_has_no_word_for_is_refused(subject: Subject, value: float) -> None:
    table = tbl(unique_by=("k",), columns={"k": "int", "x": "float"})
    if subject.kind == "mariadb":
        with pytest.raises(RowError, match="'x' has a number that is NaN or infinite"):
            subject.load(table, Unit(10, [{"k": 1, "x": value}]))
        assert subject.load(table, Unit(10, [{"k": 1, "x": 1.5}])) == {"inserted": 1}
    else:
        assert subject.load(table, Unit(10, [{"k": 1, "x": value}])) == {"inserted": 1}
        assert subject.load(table, Unit(20, [{"k": 1, "x": value}]), first=1) == {"unchanged": 1}


@pytest.mark.parametrize(
    "kinds",
    [("int", "decimal(38,0)"), ("int", "float"), ("decimal(10,2)", "decimal(14,4)"), ("str", "json")],
)
def test_columns_come_and_widen_in_place(subject: Subject, kinds: tuple[str, str]) -> None:
    values = {"int": 7, "float": 7.0, "decimal(38,0)": Decimal(7), "decimal(10,2)": Decimal("1.50"), "decimal(14,4)": Decimal("1.5000"),
              "str": "x", "json": '"x"'}  # fmt: skip
    narrow = tbl(unique_by=("k",), columns={"k": "int", "x": kinds[0]})
    wide = tbl(unique_by=("k",), columns={"k": "int", "x": kinds[1], "new": "str"})
    subject.load(narrow, Unit(10, [{"k": 1, "x": values[kinds[0]]}]))
    (load,) = subject.loads(wide, [[Unit(20, [{"k": 1, "x": values[kinds[1]]}, {"k": 2, "new": "n"}])]])
    load.start, load.end = Position(1, "c1"), Position(2, "c2")
    plan = list(subject.operator.plan_load(load.target))
    assert any("ADD COLUMN" in line for line in plan), plan
    assert {k: v for k, v in subject.operator.load(load).items() if v} == {"inserted": 1, "unchanged": 1}
    subject.load(narrow, Unit(30, [{"k": 5}]), first=2) if kinds[0] != "str" else None
    assert subject.sql(f"SELECT count(*) FROM {subject.relation('t')} WHERE k = 1 AND _del IS NULL") == [(1,)]


def test_a_column_whose_type_is_unknown_waits(subject: Subject) -> None:
    early = tbl(unique_by=("k",), columns={"k": "int", "x": "null"}, sort_by=(SortKey("x"),))
    subject.load(early, Unit(10, [{"k": 1}]))
    later = tbl(unique_by=("k",), columns={"k": "int", "x": "int"}, sort_by=(SortKey("x"),))
    assert subject.load(later, Unit(20, [{"k": 1, "x": 5}]), first=1) == {"changed": 1}
    assert subject.table(later) == [(1, 5, 20, None), (1, None, 10, 20)]


def test_names_of_every_kind(subject: Subject) -> None:
    odd = ['a"b', "sel;ect", "_seq", "_k", "rowid", "ctid", "é" * 150, "$1 ?", "%s", "c0"]
    table = tbl(unique_by=('a"b',), columns=dict.fromkeys(odd, "int"), name='t"; DROP TABLE x; --')
    row = {n: i for i, n in enumerate(odd)}
    assert subject.load(table, Unit(10, [row])) == {"inserted": 1}
    assert subject.load(table, Unit(20, [row | {"_k": 99}]), first=1) == {"changed": 1}
    assert subject.sql(f'SELECT "a""b", "_k", "_seq" FROM {subject.relation(table.name)} ORDER BY "_seq"') == [
        (0, 3, 10),
        (0, 99, 20),
    ]


# ---- positions


def test_a_position_counts_only_with_its_table(subject: Subject) -> None:
    table = tbl(unique_by=("k",))
    (load,) = subject.loads(table, [[Unit(10, [{"k": 1}])]])
    assert subject.operator.position(load.target) is None
    subject.operator.load(load)
    assert subject.operator.position(load.target) == load.end
    with subject.operator._db.database() as db:
        db.run(f"DROP TABLE {subject.relation('t')}")
    assert subject.operator.position(load.target) is None
    subject.operator.load(load)
    assert len(subject.table(table)) == 1


def test_asking_for_a_position_makes_nothing(subject: Subject, tmp_path: Path) -> None:
    (load,) = subject.loads(tbl(), [[Unit(10, [{"k": 1}])]])
    assert subject.operator.position(load.target) is None
    assert list(subject.operator.plan_load(load.target))
    assert not (tmp_path / "target.db").exists()
    if subject.kind == "postgres":
        assert subject.sql(f"SELECT 1 FROM pg_namespace WHERE nspname = '{subject.schema}'") == []


@pytest.mark.parametrize("write", ["scd", "merge", "append"])
def test_the_plan_is_what_a_load_issues(subject: Subject, write: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tbl(write, unique_by=() if write == "append" else ("k",))
    load = subject.one(table, Unit(10, [{"k": 1}, {"k": 2}]))
    planned = [line.removeprefix("issue: ") for line in subject.operator.plan_load(load.target) if line.startswith("issue: ")]
    issued: list[str] = []
    with subject.operator._db.database() as db:
        for name in ("run", "attempt"):
            real = getattr(db, name)
            monkeypatch.setattr(db, name, lambda sql, *more, real=real: (issued.append(sql), real(sql, *more))[1])
        subject.operator.load(load)
    made = [sql for sql in issued if sql.startswith("CREATE ") and "_anchovies_stage" not in sql and "TEMP" not in sql]
    assert list(dict.fromkeys(made)) == planned
    assert any("_anchovies" in sql for sql in planned) and any('"k"' in sql for sql in planned)
    assert list(subject.operator.plan_load(load.target)) == [f"{subject.relation('t')} is there with all its columns"]


@pytest.mark.parametrize("shared", [True, False])
def test_of_two_who_load_the_same_one_is_told_that_the_position_moved(subject: Subject, shared: bool) -> None:
    table = tbl("append")
    (load,) = subject.loads(table, [[Unit(10, [{"k": i} for i in range(50)])]])
    operators = [subject.operator, subject.operator if shared else subject.another()]
    outcomes: list[str] = []
    start = threading.Barrier(2)

    def go(operator: Uploader) -> None:
        start.wait(5)
        for _ in range(20):
            try:
                operator.load(load)
                outcomes.append("loaded")
            except PositionMoved:
                outcomes.append("moved")
            except Exception as e:
                if type(e).__name__ == "RetryableError":
                    continue
                outcomes.append(repr(e))
            return

    threads = [threading.Thread(target=go, args=(o,)) for o in operators]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    operators[1]._db.ensure_closed()
    assert sorted(outcomes) == ["loaded", "moved"]
    assert len(subject.table(table)) == 50


def test_a_failed_load_leaves_nothing(subject: Subject) -> None:
    table = tbl(unique_by=("k",))
    subject.load(table, Unit(10, [{"k": 1}]))
    with pytest.raises(RowError, match=r"_seq 21.*'k'"):
        subject.load(table, Unit(20, [{"k": 2}, {"v": "no key"}]), first=1)
    assert len(subject.table(table)) == 1
    (load,) = subject.loads(table, [[]])
    assert subject.operator.position(load.target) == Position(1, "c1")
    assert subject.load(table, Unit(20, [{"k": 2}]), first=1) == {"inserted": 1}


# ---- clear errors


@pytest.mark.parametrize("parquet", [False, True])
def test_text_that_looks_like_numbers_is_no_order(subject: Subject, parquet: bool) -> None:
    table = tbl(unique_by=("k",), sort_by=(SortKey("v"),))
    (load,) = subject.loads(table, [[Unit(10, [{"k": 1, "v": "9"}, {"k": 2, "v": "10"}, {"k": 3}])]], (), parquet)
    with pytest.raises(ConfigError, match="look like numbers"):
        subject.operator.load(load)
    (load,) = subject.loads(table, [[Unit(10, [{"k": 1, "v": "9"}, {"k": 2, "v": "x10"}])]], (), parquet)
    subject.operator.load(load)


@pytest.mark.parametrize("parquet", [False, True])
def test_a_row_without_its_key_is_named(subject: Subject, parquet: bool) -> None:
    table = tbl(unique_by=("k", "s"))
    (load,) = subject.loads(table, [[Unit(10, [{"k": 1, "s": 2}, {"k": 4}])]], (), parquet)
    with pytest.raises(RowError, match=r"_seq 11 \(k = 4\).*'s'"):
        subject.operator.load(load)


@pytest.mark.parametrize(
    ("kwds", "words"),
    [
        ({"snapshot": True}, "append"),
        ({"deleted_by": "v", "write": "append"}, "append"),
        ({"deleted_by": "v", "write": "replace"}, "needs to know"),
        ({"write": "merge"}, "needs to know"),
        ({"unique_by": ("nope",)}, "no column 'nope'"),
        ({"columns": {"ID": "int", "id": "int"}}, "'ID' and 'id'"),
    ],
)
def test_what_cannot_be_is_refused(subject: Subject, kwds: dict[str, Any], words: str) -> None:
    table = tbl(**kwds)
    with pytest.raises(ConfigError, match=words):
        subject.load(table, Unit(10, [{"k": 1}]))


def test_another_write_mode_is_refused(subject: Subject) -> None:
    subject.load(tbl(unique_by=("k",)), Unit(10, [{"k": 1}]))
    with pytest.raises(ConfigError, match="_seq and _del"):
        subject.load(tbl("append"), Unit(20, [{"k": 1}]), first=1)
