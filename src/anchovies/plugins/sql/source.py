"""The connection of `sql.Downloader`: sessions that read, and see one state of the database in a batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

from anchovies.plugins.sql.connection import DbConnection
from anchovies.plugins.sql.database import Database
from anchovies.plugins.sql.reading import Reader, Relation
from anchovies.sdk import ConfigError

READERS = {
    "duckdb": "duck:DuckReader",
    "sqlite": "lite:LiteReader",
    "postgresql": "postgres:PostgresReader",
    "mysql": "maria:MariaReader",
}
"""Where the class of a scheme lies: loaded when a database is read."""


class SourceConnection(DbConnection):
    """A SQL database that is read. All tables of a batch are read as they were at one moment, where the database can do that."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._turn = threading.RLock()
        self._keeper: Reader | None = None
        self._snapshot: str | None = None
        self._idle: list[Reader] = []
        self._relations: list[Relation] | None = None

    @property
    def home(self) -> str:
        """The schema whose tables are called by their names alone."""
        database = unquote(urlsplit(self.url.reveal()).path.lstrip("/"))
        return {"postgresql": "public", "mysql": database}.get(self.scheme, "main")

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """A session for one thread, until the `with` ends: it sees what all others of the batch see."""
        self.ensure_open()
        reader = self._take()
        try:
            yield reader
        finally:
            with self._turn:
                if reader is not self._keeper:
                    self._give_back(reader)

    def relations(self) -> list[Relation]:
        """Every table and view, as the batch sees them."""
        self.ensure_open()
        with self._turn:
            keeper = self._kept()
            if self._relations is None:
                self._relations = keeper.relations()
            return self._relations

    def _take(self) -> Reader:
        with self._turn:
            keeper = self._kept()
            if self.path is not None:
                return keeper  # one session reads a file for all threads
            if self._idle:
                return self._idle.pop()
            return self._made(self._snapshot)

    def _kept(self) -> Reader:
        """The session whose state all others see; a new one, and a new state, where it was lost."""
        if self._keeper is None or self._keeper.broken:
            self._shut()
            self._keeper = self._made(None)
            self._snapshot = self._keeper.export()
        return self._keeper

    def _made(self, snapshot: str | None) -> Reader:
        if self.scheme not in READERS:
            raise ConfigError(
                f"connection {self.id!r}: reading {self.scheme} is not built yet",
                hint=f"{self.variable('url')} may be {', '.join(f'{s}://…' for s in READERS)}",
                connection=self.id,
            )
        module, _, name = READERS[self.scheme].partition(":")
        cls = getattr(import_module(f"anchovies.plugins.sql.readers.{module}"), name)
        reader: Reader = cls(self.url.reveal(), self.id) if (path := self.path) is None else cls(path)
        if isinstance(reader, Database):
            self._limited(reader)
        try:
            reader.begin(snapshot)
        except BaseException:
            reader.close()
            with self._turn:
                if self._keeper is not None:
                    self._keeper.broken = True  # what it keeps cannot be had any more: the next try sees another state
            raise
        return reader

    def _give_back(self, reader: Reader) -> None:
        if reader.broken or self._keeper is None or self._keeper.broken:
            reader.close()
        else:
            self._idle.append(reader)

    def _shut(self) -> None:
        keeper, self._keeper, self._relations = self._keeper, None, None
        idle, self._idle = self._idle, []
        for reader in [*idle, *([keeper] if keeper else [])]:
            reader.close()

    def close(self) -> None:
        with self._turn:
            self._shut()

    def check(self) -> None:
        """Connect, and list what there is."""
        with self:
            self.relations()
