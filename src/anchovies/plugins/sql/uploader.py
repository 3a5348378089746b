"""`sql.Uploader`: applies a load and says where a target stands; loops, retries and receipts are the engine's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from anchovies.plugins.sql import loading, poison, position
from anchovies.plugins.sql.connection import DbConnection
from anchovies.plugins.sql.plan import plan
from anchovies.sdk import AnchovyError, ConfigError, Counts, Load, Position, RowError, Target, batch, session
from anchovies.sdk import Uploader as Base


class Uploader(Base):
    """Loads what upstream anchovies committed into DuckDB, SQLite, PostgreSQL or MariaDB, each load with its position."""

    db: DbConnection
    can_replace: ClassVar[bool] = True
    tbl_properties: ClassVar[dict[str, str]] = {}

    @property
    def _db(self) -> DbConnection:
        found = self.connections.get("db")
        if not isinstance(found, DbConnection):
            raise ConfigError("sql.Uploader needs the connection 'db'", hint="set ACHVY_CNXN__DB__URL")
        return found

    def position(self, target: Target) -> Position | None:
        """Where `target` stands; None if nothing was loaded, or its table is gone. Makes neither file nor table."""
        if self.fingerprint() == "absent":
            return None
        with self._db.database() as db:
            if not position.exists(db, target.schema):
                return None
            found = position.read(db, target)
            known = any(c.type.kind != "null" for c in target.tbl.columns)
            gone = known and db.describe(target.schema, target.tbl.name) is None
            return None if gone else found

    def load(self, load: Load) -> Counts:
        """Apply `load` in one transaction with the position; see `loading.apply`. Raises RowError that names the row."""
        try:
            with self._db.database() as db:
                return loading.apply(db, load, _consumer())
        except RowError as e:
            if "seq" in e.where:
                raise
            raise self._named(e, load) from e

    def _named(self, error: RowError, load: Load) -> RowError:
        """`error` with its row; as it is where the search ends early (timeout, stop, the database is gone)."""
        try:
            return poison.named(error, load, self._refusal)
        except AnchovyError:
            return error

    def _refusal(self, part: Load) -> RowError | None:
        _stay()
        with self._db.database() as db:  # another one, if what was refused has broken it
            return loading.refusal(db, part)

    def fingerprint(self) -> str | None:
        """`device:inode` of a database file, `absent` where there is none; host, port and database of a server."""
        path = self._db.path
        if path is None:
            return self._db.server
        try:
            found = Path(path).stat()
        except FileNotFoundError:
            return "absent"
        return f"{found.st_dev}:{found.st_ino}"

    def count(self, target: Target) -> int | None:
        """Rows of the target's table; None where there is no table."""
        if self.fingerprint() == "absent":
            return None
        with self._db.database() as db:
            if db.describe(target.schema, target.tbl.name) is None:
                return None
            relation = db.relation(target.schema, target.tbl.name)
            return int(str(db.rows(f"SELECT count(*) FROM {relation}")[0][0]))  # noqa: S608

    def plan_load(self, target: Target) -> Iterable[str]:
        """What a load would change, with all of its DDL; reads at most."""
        loading.check_mode(target.tbl)
        if self.fingerprint() == "absent":
            yield f"make the {self._db.scheme} file {self._db.path}"
        with self._db.looked_at() as db:
            yield from plan(db, target)


def _stay() -> None:
    """Raises what has ended the batch; outside of a run there is none."""
    try:
        running = batch()
    except ConfigError:
        return
    running.check()


def _consumer() -> str | None:
    """Who loads, for people who look at the table of positions; None outside of a run."""
    try:
        return f"{session().user}/{session().anchovy_id}"
    except ConfigError:
        return None
