"""The connection `db`: which database a URL means, opened late, closed with the batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from anchovies.plugins.sql.database import Database
from anchovies.sdk import ConfigError, Connection, Secret, attr

CLASSES = {
    "duckdb": "duck:DuckDatabase", "sqlite": "lite:LiteDatabase", "postgresql": "postgres:PostgresDatabase",
    "mysql": "maria:MariaDatabase",
}  # fmt: skip
"""Where the class of a scheme lies: loaded when a database is opened, because rows need pyarrow."""
MOST_SECONDS = 2_000_000
FILES = ("duckdb", "sqlite")
SAME = {
    "postgres": "postgresql", "postgresql+psycopg": "postgresql", "mariadb": "mysql", "mysql+pymysql": "mysql",
    "mariadb+pymysql": "mysql",
}  # fmt: skip
BUILT = "duckdb:///path, sqlite:///path, postgresql://user@host/database, mysql://user@host/database"


class DbConnection(Connection):
    """A SQL database. A server gives each thread a session of its own; the one of a file is shared, one load at a time."""

    url: Secret = attr(f"the database: {BUILT}", aliases=("uri",))

    lock_timeout: float | None = attr("seconds to wait for a lock of somebody else's; 0: for ever", default=None)
    statement_timeout: float | None = attr("seconds that a statement may take (PostgreSQL, MariaDB); 0: for ever", default=None)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._lock = threading.RLock()
        self._sessions: dict[int, Database] = {}

    @property
    def scheme(self) -> str:
        """`duckdb`, `sqlite`, `postgresql` or `mysql`. Raises ConfigError for anything else."""
        scheme = self.url.reveal().split(":", 1)[0].lower()
        kind = SAME.get(scheme, scheme)
        if kind not in CLASSES or "://" not in self.url.reveal():
            known = scheme.replace("+", "").isalnum() and "://" in self.url.reveal()
            wrong = f"loading into {scheme} is not built yet" if known else "its URL names no database"
            raise ConfigError(
                f"connection {self.id!r}: {wrong}",
                hint=f"set {self.variable('url')} to one of: {BUILT}",
                connection=self.id,
            )
        return kind

    @property
    def path(self) -> str | None:
        """The file of a DuckDB or SQLite database; None for a server. `sqlite:///a` is relative, `sqlite:////a` absolute."""
        if self.scheme not in FILES:
            return None
        parts = urlsplit(self.url.reveal())
        path = unquote(parts.path)[1:]
        if parts.netloc or parts.query or path in ("", ":memory:") or "\x00" in path:
            raise ConfigError(
                f"connection {self.id!r}: a {self.scheme} URL names a file, and nothing else; in memory nothing would stay",
                hint=f"write {self.scheme}:///relative/path or {self.scheme}:////absolute/path",
                connection=self.id,
            )
        return path

    @property
    def server(self) -> str:
        """`host:port/database` of a server, without user and password: another one is another target."""
        parts = urlsplit(self.url.reveal())
        host = parts.netloc.rpartition("@")[2] or dict(parse_qsl(parts.query)).get("host", "")
        return f"{host.lower()}{parts.path}"

    @contextmanager
    def database(self) -> Iterator[Database]:
        """The session of this thread, opened if need be; a shared one is ours until the `with` ends."""
        self.ensure_open()
        shared = self.scheme in FILES
        key = 0 if shared else threading.get_ident()
        with self._lock:
            db = self._sessions.get(key)
            if db is not None and db.broken:
                db.close()
                db = None
            if db is None:
                self._sessions[key] = db = self._connect()
            if shared:
                yield db
                return
        yield db

    @contextmanager
    def looked_at(self) -> Iterator[Database]:
        """The same, but a file that does not exist is not made: an empty database in memory takes its place."""
        if self.path is None or Path(self.path).exists():
            with self.database() as db:
                yield db
            return
        empty = self._class()(":memory:")
        try:
            yield empty
        finally:
            empty.close()

    def _connect(self) -> Database:
        db: Database = self._class()(self.url.reveal(), self.id) if (path := self.path) is None else self._class()(path)
        return self._limited(db)

    def _limited(self, db: Database) -> Database:
        """`db` with the limits that were set; closed again where it does not have them."""
        try:
            for name in ("lock_timeout", "statement_timeout"):
                if (value := getattr(self, name)) is not None and not 0 <= value < MOST_SECONDS:
                    raise ConfigError(
                        f"connection {self.id!r}: {name} is {value:g}",
                        hint=f"say {self.variable(name)} in seconds, 0 for no limit",
                    )
            db.limit(lock=self.lock_timeout, statement=self.statement_timeout)
        except BaseException:
            db.close()
            raise
        return db

    def _class(self) -> Any:
        module, _, name = CLASSES[self.scheme].partition(":")
        return getattr(import_module(f"anchovies.plugins.sql.databases.{module}"), name)

    def close(self) -> None:
        with self._lock:
            sessions, self._sessions = list(self._sessions.values()), {}
        for db in sessions:
            db.close()

    def check(self) -> None:
        """Connect and ask for 1; a file that does not exist yet is not made."""
        if self.path is None or Path(self.path).exists():
            with self, self.database() as db:
                db.rows("SELECT 1")
