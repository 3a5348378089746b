"""Which methods of an operator serve which table: exact names win over globs, globs over everything."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec

from anchovies.core.errors import ConfigError
from anchovies.sdk.markers import AckSpec, HookSpec, Phase, SinkSpec, SourceSpec
from anchovies.sdk.operator import Downloader, Operator, Uploader

DEFAULT_SINK = "default_sink"


class Route(msgspec.Struct, frozen=True):
    """One marked method as it serves one table. `feeds`: for a chain, the tables of its `@source` marks."""

    method: str
    streaming: bool = False
    store: bool = True
    feeds: tuple[str, ...] = ()


class Routes:
    """The marks of one operator class, asked by table name."""

    def __init__(self, operator: type[Operator]) -> None:
        marks = list(operator.marked())
        own = getattr(operator, DEFAULT_SINK, None)
        overridden = own is not None and own is not Downloader.default_sink
        self._keeps = not issubclass(operator, Uploader) and not overridden
        self._sources = [(n, s) for n, s in marks if isinstance(s, SourceSpec)]
        self._sinks = [(n, s) for n, s in marks if isinstance(s, SinkSpec) and (n != DEFAULT_SINK or overridden)]
        if overridden and DEFAULT_SINK not in dict(self._sinks):
            self._sinks.append((DEFAULT_SINK, SinkSpec((), False, False)))
        self._hooks = [(n, s) for n, s in marks if isinstance(s, HookSpec)]
        self.acks = [n for n, s in marks if isinstance(s, AckSpec)]
        self._chained = {n for n, _ in self._sinks}
        if any(s.cache for _, s in self._sources) or any(s.cache for _, s in self._sinks):
            raise ConfigError(
                f"{operator.__name__}: cache=True is not built yet", hint="leave cache out; rows then flow one by one"
            )

    def stores(self, tbl: str) -> bool:
        """Whether rows of `tbl` go to the datastore: the default sink was not overridden, and a source lets its rows be kept."""
        return self._keeps and any(s.store for _, s in _best(self._sources, tbl))

    def exact_tables(self) -> list[str]:
        """Tables that sources name without a glob."""
        return list(dict.fromkeys(t for _, s in self._sources for t in s.tables if not _is_glob(t)))

    def sources(self, tbl: str) -> list[Route]:
        """Sources of `tbl` that start from nothing."""
        return [Route(n, store=s.store) for n, s in _best(self._sources, tbl) if n not in self._chained]

    def chains_into(self, tbl: str) -> list[str]:
        """Tables from whose rows `tbl` is made."""
        methods = {n for n, _ in _best(self._sources, tbl)} & self._chained
        return list(dict.fromkeys(t for n, s in self._sinks if n in methods for t in s.tables))

    def consumers(self, tbl: str) -> list[Route]:
        """Sinks and chains that take the rows of `tbl`, but for the default sink."""
        return [Route(n, s.streaming, feeds=self._fed(n)) for n, s in _matching(self._sinks, tbl)]

    def sinks(self, tbl: str) -> list[Route]:
        """Sinks of `tbl`, exact names first (what an uploader's table is handed to)."""
        return [Route(n, s.streaming) for n, s in _best(self._sinks, tbl)]

    def _fed(self, method: str) -> tuple[str, ...]:
        return tuple(t for n, s in self._sources if n == method for t in s.tables)

    @property
    def has_hooks(self) -> bool:
        """Whether something runs in every batch, whatever there is to do."""
        return any(s.phase in ("xopen", "tbl", "xclose") for _, s in self._hooks)

    def hooks(self, phase: Phase, tbl: str | None = None) -> list[str]:
        """Methods marked for `phase` (and for `tbl`, where they name one)."""
        return [n for n, s in self._hooks if s.phase == phase and s.tbl in (None, tbl)]


def _is_glob(name: str) -> bool:
    return any(c in name for c in "*?[")


S = TypeVar("S", SourceSpec, SinkSpec)


def _matching(marks: Iterable[tuple[str, S]], tbl: str) -> list[tuple[str, S]]:
    return [(n, s) for n, s in marks if not s.tables or any(fnmatchcase(tbl, t) for t in s.tables)]


def _best(marks: Iterable[tuple[str, S]], tbl: str) -> list[tuple[str, S]]:
    found = _matching(marks, tbl)
    exact = [(n, s) for n, s in found if tbl in s.tables]
    globs = [(n, s) for n, s in found if s.tables]
    return exact or globs or found
