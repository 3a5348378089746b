"""A file comes again: changed, unchanged, renamed, or not at all. What the table then says of its history."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

HEADER = ["order_num", "line_item_num", "trans_num", "item", "total"]
FIRST = ["1 1 100 herring 12.50", "1 2 100 salt 3.00", "2 1 101 bread 7.25"]
#: order 1 without its second line; order 2 dearer; order 3 new
SECOND = ["1 1 100 herring 12.50", "2 1 102 bread 7.75", "3 1 103 lemon 0.80"]
COLUMNS = {"order_num": "int", "line_item_num": "int", "trans_num": "int", "total": "decimal(18,2)"}
KEY = {"unique_by": "order_num, line_item_num", "sort_by": "-trans_num"}


class Shop:
    """A folder behind an SFTP server, a downloader of it, and uploaders into any number of databases."""

    def __init__(self, anchovy: Any, folder: Path, env: dict[str, str]) -> None:
        self._anchovy, self._sales, self._clock = anchovy, folder / "sales", 1_700_000_000
        anchovy.env = env

    def table(self, **spec: Any) -> None:
        table = {"path": "/sales/*.tsv", "delimiter": "/t", "columns": COLUMNS, **spec}
        self._anchovy.config(yaml.safe_dump({"tbls": {"sales": table}}))

    def put(self, name: str, rows: list[str]) -> None:
        """Write a file, at a time of its own."""
        text = "".join("\t".join(cells) + "\n" for cells in [HEADER, *(r.split() for r in rows)])
        (self._sales / name).write_text(text)
        self.touch(name)

    def touch(self, name: str) -> None:
        self._clock += 60
        os.utime(self._sales / name, (self._clock, self._clock))

    def rename(self, old: str, new: str) -> None:
        (self._sales / old).rename(self._sales / new)

    def delete(self, name: str) -> None:
        (self._sales / name).unlink()

    def download(self) -> dict[str, Any]:
        done = self._anchovy.ok("start", "-op", "sftp.CsvDownloader", "--id", "sales_sftp", "--json")
        found: dict[str, Any] = json.loads(done.stdout)["tables"][0]
        return found

    def load(self, database: Any, uploader: str = "warehouse") -> None:
        env = {"ACHVY_CNXN__DB__URL": database.url}
        self._anchovy.ok("start", "-op", "sql.Uploader", "--id", uploader, "-U", "sales_sftp", env=env)

    def all(self, database: Any) -> list[tuple[Any, ...]]:
        """Every row of the table, by key and age; SQLite keeps decimals as texts, without zeros at their end."""
        columns = [*HEADER[:4], database.text("total"), *(["_seq", "_del"] if self._has_history(database) else [])]
        order = "_seq" if len(columns) > 5 else "3, 5"
        rows = database.query(f"SELECT {', '.join(columns)} FROM {database.table} ORDER BY 1, 2, {order}")
        return [(*r[:4], f"{Decimal(r[4]):.2f}", *r[5:]) for r in rows]

    def _has_history(self, database: Any) -> bool:
        try:
            database.query(f"SELECT _seq FROM {database.table}")
        except Exception:
            return False
        return True


@pytest.fixture
def shop(anchovy, job, tmp_path):  # type: ignore[no-untyped-def]
    root = tmp_path / "root"
    (root / "sales").mkdir(parents=True)
    with job.serving("asyncssh-password", root) as (_, env):
        yield Shop(anchovy, root, env)


@pytest.fixture
def database(request: pytest.FixtureRequest, job: Any) -> Any:
    return job.database(request.param)


def current(rows: list[tuple[Any, ...]]) -> list[str]:
    """The rows without an end, as the files write them."""
    return [" ".join(map(str, r[:5])) for r in rows if r[6] is None]


@pytest.mark.everywhere
def test_a_changed_row_gets_a_version_and_an_equal_one_none(shop, database, anchovy) -> None:  # type: ignore[no-untyped-def]
    shop.table(**KEY)
    shop.put("a.tsv", FIRST)
    shop.download()
    shop.load(database)
    first = shop.all(database)
    assert current(first) == FIRST and len(first) == 3
    shop.put("a.tsv", SECOND)
    shop.download()
    shop.load(database)
    rows = shop.all(database)
    assert current(rows) == ["1 1 100 herring 12.50", "1 2 100 salt 3.00", "2 1 102 bread 7.75", "3 1 103 lemon 0.80"]
    old, new = [r for r in rows if r[0] == 2]
    assert old[:6] == first[2][:6] and old[6] == new[5] > old[5] and new[6] is None
    assert [r for r in rows if r[0] == 1] == first[:2], "rows whose values did not change"
    assert len({r[5] for r in rows}) == len(rows) == 5
    before = anchovy.objects()
    assert (shop.download()["rows"], shop.load(database), shop.all(database)) == (0, None, rows)
    assert anchovy.objects() == before


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(KEY, id="key", marks=pytest.mark.slow),
        pytest.param({"set_by": "order_num"}, id="set", marks=pytest.mark.slow),
        pytest.param({**KEY, "set_by": "order_num"}, id="key and set"),
        pytest.param({**KEY, "write": "merge"}, id="merge", marks=pytest.mark.slow),
        pytest.param({}, id="append", marks=pytest.mark.slow),
    ],
)
def test_history_does_not_depend_on_when_it_is_loaded(shop, job, database, tmp_path, spec) -> None:  # type: ignore[no-untyped-def]
    """One database follows each version, another loads everything in one go: the same to the last `_seq`."""
    late = type(database)(f"sqlite:///{tmp_path}/late.sqlite", "sales_sftp__me__sales")
    shop.table(**spec)
    for version in (FIRST, SECOND, FIRST[:1], [*FIRST, "9 1 200 ice 1.00"]):
        shop.put("a.tsv", version)
        assert shop.download()["kept"] == len(version)
        shop.load(database)
    shop.load(late, "late")
    assert shop.all(late) == shop.all(database)


@pytest.mark.everywhere
def test_a_set_is_replaced_as_a_whole(shop, database) -> None:  # type: ignore[no-untyped-def]
    shop.table(set_by="order_num", **KEY)
    shop.put("a.tsv", FIRST)
    shop.download()
    shop.load(database)
    shop.put("a.tsv", SECOND)
    shop.download()
    shop.load(database)
    rows = shop.all(database)
    assert current(rows) == SECOND
    salt = next(r for r in rows if r[3] == "salt")
    assert salt[6] is not None and salt[6] > max(r[5] for r in rows if r[4] in ("12.50", "3.00", "7.25")), (
        "expired by the second file"
    )
    assert [r[3] for r in rows] == ["herring", "salt", "bread", "bread", "lemon"]


def test_merge_keeps_one_row_a_key(shop, database) -> None:  # type: ignore[no-untyped-def]
    shop.table(write="merge", **KEY)
    for version in (FIRST, SECOND):
        shop.put("a.tsv", version)
        shop.download()
        shop.load(database)
    assert [" ".join(map(str, r[:5])) for r in shop.all(database)] == [SECOND[0], FIRST[1], *SECOND[1:]]


def test_append_keeps_what_came(shop, database) -> None:  # type: ignore[no-untyped-def]
    shop.table(write="append")
    for version in (FIRST, SECOND):
        shop.put("a.tsv", version)
        shop.download()
        shop.load(database)
    assert sorted(" ".join(map(str, r[:5])) for r in shop.all(database)) == sorted(FIRST + SECOND)


@pytest.mark.everywhere
def test_the_same_file_at_a_new_time_is_dropped_once_it_was_read(shop, database, anchovy) -> None:  # type: ignore[no-untyped-def]
    shop.table(write="append")
    shop.put("a.tsv", FIRST)
    shop.download()
    shop.load(database)
    rows, files = shop.all(database), [k for k in anchovy.objects() if "/data/" in k]
    shop.touch("a.tsv")
    again = shop.download()
    assert (again["rows"], again["kept"], again["status"]) == (0, 0, "ok")
    shop.load(database)
    assert shop.all(database) == rows
    assert [k for k in anchovy.objects() if "/data/" in k] == files
    assert shop.download()["rows"] == 0, "its new time is remembered"


def test_a_renamed_file_makes_no_new_version(shop, database) -> None:  # type: ignore[no-untyped-def]
    shop.table(**KEY)
    shop.put("a.tsv", FIRST)
    shop.download()
    shop.load(database)
    rows = shop.all(database)
    shop.rename("a.tsv", "b.tsv")
    shop.download()
    shop.load(database)
    assert shop.all(database) == rows


def test_rows_of_a_deleted_file_stay(shop, database) -> None:  # type: ignore[no-untyped-def]
    shop.table(set_by="order_num", **KEY)
    shop.put("a.tsv", FIRST)
    shop.put("b.tsv", SECOND[2:])
    shop.download()
    shop.load(database)
    rows = shop.all(database)
    shop.delete("a.tsv")
    assert shop.download()["rows"] == 0
    shop.load(database)
    assert shop.all(database) == rows and current(rows) == [*FIRST, *SECOND[2:]]
