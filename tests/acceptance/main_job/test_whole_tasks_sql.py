"""Tables of which each task is the whole: `snapshot: true` and `write: replace`, from a source that fails half way to SQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, ClassVar

import pytest

from anchovies import run
from anchovies.sdk import Downloader, context, source


class Stock(Downloader):
    """What there is, in two halves with a mark between them."""

    there: ClassVar[list[dict[str, Any]]] = []
    fails = False

    @source("stock")
    def stock(self) -> Any:
        half = len(self.there) // 2
        yield from self.there[:half]
        context().checkpoint("half").set(str(self.there[:half]))
        if self.fails:
            raise OSError("the shop has closed")
        yield from self.there[half:]


class Place:
    def __init__(self, folder: Path, **tbl: Any) -> None:
        self.store, self.db, self.tbl = str(folder / "store"), folder / "shop.db", tbl

    def read(self, *rows: tuple[str, int], fails: bool = False) -> None:
        Stock.there, Stock.fails = [{"sku": sku, "n": n} for sku, n in rows], fails
        settings: dict[str, Any] = {"id": "stock", "user": "prod", "datastore": self.store, "commit_seconds": 0}
        if fails:
            with pytest.raises(OSError, match="closed"):
                run(Stock, tbls={"stock": self.tbl}, **settings)
        else:
            run(Stock, tbls={"stock": self.tbl}, **settings)

    def load(self) -> dict[str, int]:
        cnxns = {"db": {"url": f"sqlite:///{self.db}"}}
        result = run("sql.Uploader", id="up", user="prod", datastore=self.store, upstream=["stock"], cnxns=cnxns)
        return {k: v for k, v in result.tables[0].counts.items() if v}

    def rows(self, what: str = "sku, n") -> list[tuple[Any, ...]]:
        return sorted(sqlite3.connect(self.db).execute(f"SELECT {what} FROM stock__stock"), key=repr)


def test_rows_that_are_missing_from_a_task_expire_and_half_a_task_is_none(tmp_path: Path) -> None:
    place = Place(tmp_path, snapshot=True, unique_by="sku")
    place.read(("ham", 1), ("egg", 2), ("jam", 3))
    assert place.load() == {"inserted": 3}
    place.read(("ham", 9), ("egg", 9), fails=True)
    assert place.load() == {}
    assert place.rows("sku, n, _del IS NULL") == [("egg", 2, 1), ("ham", 1, 1), ("jam", 3, 1)]
    place.read(("egg", 2), ("jam", 4))
    place.read(("egg", 2))
    assert place.load() == {"changed": 1, "unchanged": 2, "expired": 2}  # each task by itself, in one run
    assert place.rows("sku, n, _del IS NULL") == [("egg", 2, 1), ("ham", 1, 0), ("jam", 3, 0), ("jam", 4, 0)]


def test_a_task_without_rows_says_nothing(tmp_path: Path) -> None:
    """A source that found nothing new is no empty table."""
    place = Place(tmp_path, snapshot=True, unique_by="sku")
    place.read(("ham", 1), ("egg", 1))
    place.load()
    place.read()  # the checkpoint moves, so there is a commit, which ends the task
    assert place.load() == {}
    place.read(("ham", 1), ("jam", 1))
    assert place.load() == {"inserted": 1, "unchanged": 1, "expired": 1}


@pytest.mark.parametrize("key", [{}, {"unique_by": "sku"}])
def test_replace_takes_the_newest_whole_task_alone(tmp_path: Path, key: dict[str, str]) -> None:
    place = Place(tmp_path, write="replace", **key)
    place.read(("ham", 1), ("egg", 2))
    place.load()
    with sqlite3.connect(place.db) as db:
        db.execute("CREATE VIEW seen AS SELECT sku FROM stock__stock")
    place.read(("ham", 5), ("jam", 5))
    place.read(("jam", 6), ("egg", 2))
    place.read(("none", 0), ("none", 1), fails=True)
    loaded = place.load()
    assert loaded == ({"inserted": 1, "unchanged": 1, "expired": 1} if key else {"inserted": 2, "expired": 2})
    assert place.rows() == [("egg", 2), ("jam", 6)]
    assert sorted(sqlite3.connect(place.db).execute("SELECT sku FROM seen")) == [("egg",), ("jam",)]
    assert place.load() == {}


def test_a_marked_row_is_a_delete(tmp_path: Path) -> None:
    class Changes(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"k": 1, "gone": None}
            yield {"k": 2, "gone": None}
            yield {"k": 1, "gone": "2026-01-01"}

    store, url = str(tmp_path / "store"), f"sqlite:///{tmp_path}/x.db"
    run(Changes, id="t", user="prod", datastore=store, tbls={"t": {"unique_by": "k", "deleted_by": "gone"}})
    run("sql.Uploader", id="up", user="prod", datastore=store, upstream=["t"], cnxns={"db": {"url": url}})
    found = sqlite3.connect(tmp_path / "x.db").execute("SELECT k, _del IS NULL FROM t__t ORDER BY k").fetchall()
    assert found == [(1, 0), (2, 1)]
