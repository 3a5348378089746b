"""What was there after any commit comes back: into a second database, or into the same one, whatever ends it half way."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import anchovies
from anchovies.core.config import Config, config_from
from anchovies.core.errors import StoreUnavailable
from anchovies.core.settings import resolve
from anchovies.engine import polls
from anchovies.engine.api import Hooks, run_session
from anchovies.engine.replay import Wanted, replaying
from anchovies.plugins.sql import DbConnection, Uploader
from anchovies.plugins.sql.database import Database
from anchovies.sdk import Downloader, SessionResult, source
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.open import open_store
from anchovies.testing.postgres import missing, postgres

KINDS = ["duckdb", "sqlite", pytest.param("postgres", marks=pytest.mark.server)]
RUNS = 4
TBLS: dict[str, Any] = {
    "orders": {"unique_by": "k", "sort_by": "-o"},
    "latest": {"unique_by": "k", "write": "merge"},
    "days": {"set_by": "s", "unique_by": "k"},
    "events": {},
}
Dump = list[tuple[Any, ...]]
_schemas = itertools.count()


class Shop(Downloader):
    """Random rows, the same whenever a run of that number is asked for."""

    number = 0

    @source("*", store=True)
    def rows(self, tbl: Any, **kwds: Any) -> Iterator[dict[str, Any]]:
        r = random.Random(f"{tbl.name} {type(self).number}")
        for _ in range(r.randrange(1, 12)):
            yield {"k": r.randrange(6), "o": r.randrange(4), "s": r.randrange(3), "v": r.choice("abc")}


class World:
    """A datastore, databases of one kind, and what was in the first of them after each upload."""

    def __init__(self, kind: str, folder: Path, server: str) -> None:
        self.kind, self.folder, self.server = kind, folder, server
        self.store = str(folder / "store")
        self.schema = f"s{next(_schemas)}"
        self.after: dict[int, dict[str, Dump]] = {}

    def url(self, name: str) -> str:
        """Another database of a server is another schema here, which is as far away."""
        return self.server if self.kind == "postgres" else f"{self.kind}:///{self.folder}/{name}.db"

    def download(self, number: int, id: str = "shop") -> None:
        Shop.number = number
        anchovies.run(Shop, id=id, user="me", datastore=self.store, tbls=TBLS)

    def env(self, name: str) -> dict[str, str]:
        return {"ACHVY_CNXN__DB__URL": self.url(name), "ACHVY_CNXN__SCHEMAS__SHOP": f"{self.schema}_{name}"}

    def _settings(self, name: str, upstream: list[str], more: dict[str, Any]) -> Any:
        given = {"id": f"to_{name}", "user": "me", "datastore": self.store, "upstream": upstream, "log_level": "error", **more}
        return resolve(given, self.env(name), Config())

    def upload(self, name: str) -> SessionResult:
        return run_session(Uploader, self._settings(name, ["shop"], {}), Config(), self.env(name))

    def replay(
        self,
        name: str,
        as_of: dict[str, int] | None = None,
        *,
        yes: bool = False,
        tbls: Any = None,
        ups: Any = ("shop",),
        **more: Any,
    ) -> SessionResult:
        config = config_from({"tbls": tbls}, "tbls") if tbls else Config()
        hooks = Hooks(make_work=replaying(Wanted(as_of or {}, yes)))
        return run_session(Uploader, self._settings(name, list(ups), more), config, self.env(name), hooks=hooks)

    def query(self, name: str, sql: str) -> Dump:
        operator = Uploader()
        operator.connections = {"db": DbConnection(id="db", url=self.url(name))}
        try:
            with operator._db.database() as db:
                return db.rows(sql)
        finally:
            operator._db.ensure_closed()

    def relation(self, name: str, tbl: str, schema: str | None = None) -> str:
        schema = schema or f"{self.schema}_{name}"
        return f'"{schema}__{tbl}"' if self.kind == "sqlite" else f'"{schema}"."{tbl}"'

    def dump(self, name: str, schema: str | None = None) -> dict[str, Dump]:
        """Every table, `_seq` and `_del` included."""
        found = {}
        for tbl in TBLS:
            history = ", _seq, _del" if tbl in ("orders", "days") else ""
            rows = self.query(name, f"SELECT k, o, s, v{history} FROM {self.relation(name, tbl, schema)}")
            found[tbl] = sorted(rows, key=repr)
        return found

    def build(self) -> None:
        """Runs of downloader and uploader in turn."""
        for number in range(1, RUNS + 1):
            self.download(number)
            assert self.upload("first").exit_code == 0
            self.after[number] = self.dump("first")

    def commits(self, tbl: str) -> list[int]:
        """The slots that brought rows of the table."""
        records = Reader(open_store(self.store), Home("me", "shop")).records(0, "")
        return [r.slot for r in records if any(f.table == tbl for f in r.change.files)]

    def then(self, slot: int) -> dict[str, Dump]:
        """What the first database held of each table once its commits up to `slot` were loaded; tables that were not yet there left out."""
        runs = {tbl: sum(s <= slot for s in self.commits(tbl)) for tbl in TBLS}
        return {tbl: self.after[n][tbl] for tbl, n in runs.items() if n}

    def there(self, name: str, slot: int) -> dict[str, Dump]:
        tbls = self.then(slot)
        return (
            {tbl: rows for tbl, rows in self.dump(name).items() if tbl in tbls}
            if len(tbls) == len(TBLS)
            else self._some(name, tbls)
        )

    def _some(self, name: str, tbls: Any) -> dict[str, Dump]:
        found = {}
        for tbl in tbls:
            history = ", _seq, _del" if tbl in ("orders", "days") else ""
            found[tbl] = sorted(self.query(name, f"SELECT k, o, s, v{history} FROM {self.relation(name, tbl)}"), key=repr)
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with postgres() as url:
        yield url


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    url = str(request.getfixturevalue("server")) if request.param == "postgres" else ""
    found = World(request.param, tmp_path, url)
    found.build()
    return found


def test_any_commit_into_a_second_database(world: World) -> None:
    last = max(max(world.commits(tbl)) for tbl in TBLS)
    assert last >= 4 * RUNS
    for slot in range(1, last + 1) if world.kind == "sqlite" else (2, 7, last):
        result = world.replay(f"copy{slot}", {"": slot})
        assert result.exit_code == 0, result.err_msg
        assert world.there(f"copy{slot}", slot) == world.then(slot)


def test_the_same_database_anew_and_on_from_there(world: World) -> None:
    refused = world.replay("first", {"": 9})
    assert (refused.exit_code, "loaded already" in str(refused.err_msg)) == (2, True)
    assert world.dump("first") == world.after[RUNS]
    assert world.replay("first", {"": 9}, yes=True).exit_code == 0
    assert world.there("first", 9) == world.then(9)
    assert world.upload("first").exit_code == 0
    assert world.dump("first") == world.after[RUNS]
    assert world.replay("first", yes=True).exit_code == 0
    assert world.dump("first") == world.after[RUNS]


def test_with_other_keys(world: World) -> None:
    assert (
        world.replay("first", tbls={"orders": {"unique_by": "k", "write": "merge"}}, yes=True, enabled=["orders"]).exit_code == 0
    )
    rows = world.query("first", f"SELECT k, v FROM {world.relation('first', 'orders')}")
    assert len(rows) == len({k for k, _ in rows})
    assert {t: d for t, d in world.after[RUNS].items() if t != "orders"} == {
        t: sorted(world.query("first", f"SELECT k, o, s, v{', _seq, _del' * (t == 'days')} FROM {world.relation('first', t)}"), key=repr)
        for t in TBLS
        if t != "orders"
    }  # fmt: skip


def test_several_upstreams_each_with_its_own_slot(world: World) -> None:
    world.download(9, id="other")
    ups = ("shop", "other")
    assert "for one upstream alone" in str(world.replay("both", {"": 3}, ups=ups).err_msg)
    assert "no such upstream" in str(world.replay("both", {"shp": 3}, ups=ups).err_msg)
    result = world.replay("both", {"shop": 8, "other": 2}, ups=ups)
    assert result.exit_code == 0, result.err_msg
    assert world.there("both", 8) == world.then(8)
    assert sum(t.commits for t in result.tables) == 6  # two of the tables come from both


def test_a_table_of_somebody_else_is_not_touched(world: World) -> None:
    schema = f"{world.schema}_other"
    if world.kind != "sqlite":
        _run(world, f'CREATE SCHEMA "{schema}"')
    _run(world, f"CREATE TABLE {world.relation('other', 'orders', schema)} (mine int)")
    result = world.replay("other", yes=True, enabled=["orders"])
    assert result.exit_code != 0
    assert "anchovies did not load it" in str(result.err_msg)
    assert world.query("other", f"SELECT count(mine) FROM {world.relation('other', 'orders', schema)}") == [(0,)]


def _run(world: World, sql: str) -> None:
    operator = Uploader()
    operator.connections = {"db": DbConnection(id="db", url=world.url("other"))}
    with operator._db.database() as db:
        db.run(sql)
    operator._db.ensure_closed()


class Dies(Exception):
    """What ends a replay half way in these tests."""


@pytest.mark.slow
def test_ended_at_any_statement_table_and_position_fit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th commit of the database fails, before or after it took effect, until a replay passes: rows always fit the position."""
    cls = next(c for c in Database.__subclasses__() if c.kind == {"postgres": "postgresql"}.get(world.kind, world.kind))
    whole = cls.commit
    for late in (False, True):
        for nth in itertools.count(1):
            counted = itertools.count(1)

            def commit(db: Any, nth: int = nth, late: bool = late, counted: Any = counted) -> None:
                due = next(counted) == nth
                if due and not late:
                    raise Dies("before")
                whole(db)
                if due:
                    raise Dies("after")

            with monkeypatch.context() as patched:
                patched.setattr(cls, "commit", commit)
                result = world.replay("first", {"": 10}, yes=True)
            if result.exit_code == 0:
                break
            _fits(world)
        assert nth > len(TBLS)
        assert world.there("first", 10) == world.then(10)
    assert world.upload("first").exit_code == 0
    assert world.dump("first") == world.after[RUNS]


def _fits(world: World) -> None:
    """Each table is what its own position says, and our own log does not lead it."""
    schema = f"{world.schema}_first"
    where = '"_anchovies_position"' if world.kind == "sqlite" else f'"{schema}"."_anchovies_position"'
    stands = dict(world.query("first", f"SELECT source_tbl, slot FROM {where} WHERE target_schema = '{schema}'"))
    there = world.dump("first")
    loaded = {x.tbl: x.end for x in Reader(open_store(world.store), Home("me", "to_first")).state().loads}
    for tbl in TBLS:
        assert there[tbl] == world.then(int(str(stands[tbl])))[tbl]
        assert loaded[tbl] <= int(str(stands[tbl]))


def test_a_datastore_that_fails_half_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from anchovies.store.log import Log

    whole, counted = Log.append, itertools.count()

    def append(log: Any, *given: Any, **more: Any) -> Any:
        if next(counted) == 1:  # the table is made anew, the receipt is not written
            raise StoreUnavailable("no answer")
        return whole(log, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Log, "append", append)
        assert world.replay("first", {"": 9}, yes=True).exit_code == 1
    _fits(world)
    assert world.upload("first").exit_code == 0
    assert world.dump("first") == world.after[RUNS]


@pytest.mark.parametrize("how", [os.replace, shutil.copyfile], ids=["moved", "copied over"])
@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_a_database_restored_from_an_older_backup_catches_up(
    kind: str, how: Callable[[Any, Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once where the file is another one; overwritten in place, with the next commit, or when its turn has come."""
    monkeypatch.setattr(polls, "LOOK_EVERY", 5)
    world = World(kind, tmp_path, "")
    world.download(1)
    world.upload("first")
    path, backup, spare = (tmp_path / f"{name}.db" for name in ("first", "backup", "spare"))
    shutil.copyfile(shutil.copyfile(path, backup), spare)
    for number in (2, 3):
        world.download(number)
        world.upload("first")
    expected = world.dump("first")
    how(backup, path)
    assert world.dump("first") != expected
    runs = 0
    while world.dump("first") != expected and runs < 10:
        assert world.upload("first").exit_code == 0
        runs += 1
    assert runs <= (1 if how is os.replace else 5)

    shutil.copyfile(spare, path)  # once more, and something new comes
    world.download(4)
    world.replay("judge")
    assert world.upload("first").exit_code == 0
    assert world.dump("first") == world.dump("judge")


@pytest.mark.server
def test_a_server_that_was_set_back_catches_up(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls, "LOOK_EVERY", 3)
    world = World("postgres", tmp_path, server)
    for number in (1, 2, 3):
        world.download(number)
        world.upload("first")
    expected = world.dump("first")
    assert world.replay("first", {"": 5}, yes=True, id="somebody_else").exit_code == 0
    assert world.dump("first") != expected
    for _ in range(3):
        assert world.upload("first").exit_code == 0
    assert world.dump("first") == expected
