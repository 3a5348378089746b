"""Which methods of an operator serve which table: exact names win over globs, globs over everything."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import msgspec

from anchovies.core.errors import ConfigError
from anchovies.sdk.markers import AckSpec, HookSpec, Phase, SinkSpec, SourceSpec
from anchovies.sdk.operator import Downloader, Operator, Uploader

DEFAULT_SINK = "default_sink"
_MISSING = object()


class Route(msgspec.Struct, frozen=True):
    """A sink as it serves one table of an uploader."""

    method: str
    streaming: bool = False


class Routes:
    """The marks of one operator class, asked by table name. Raises ConfigError for marks that cannot be."""

    def __init__(self, operator: type[Operator]) -> None:
        marks = list(operator.marked())
        own = getattr(operator, DEFAULT_SINK, _MISSING)
        overridden = own not in (_MISSING, Downloader.default_sink)
        self.operator = operator.__name__
        self._keeps = not issubclass(operator, Uploader) and not overridden
        self._sources = [(n, s) for n, s in marks if isinstance(s, SourceSpec)]
        self._sinks = [(n, s) for n, s in marks if isinstance(s, SinkSpec) and (n != DEFAULT_SINK or overridden)]
        if overridden and own is not None and DEFAULT_SINK not in dict(self._sinks):
            self._sinks.append((DEFAULT_SINK, SinkSpec((), False, False)))
        self._hooks = [(n, s) for n, s in marks if isinstance(s, HookSpec)]
        self.acks = [n for n, s in marks if isinstance(s, AckSpec)]
        self._made_by: dict[str, list[tuple[str, SourceSpec]]] = {}
        self._takers = {n for n, _ in self._sinks}
        self.chains = [n for n in dict.fromkeys(n for n, _ in self._sources) if n in self._takers]
        self._refuse_nameless()

    def _refuse_nameless(self) -> None:
        for chain in self.chains:
            named = [s.tables for n, s in self._sources if n == chain] + [s.tables for n, s in self._sinks if n == chain]
            if not any(named):
                raise ConfigError(
                    f"{self.operator}.{chain} is a chain without any table name",
                    hint="say what it reads, @sink('orders'), or what it makes, @source('lines')",
                )

    # what a table is made of

    def stores(self, tbl: str) -> bool:
        """Whether rows of `tbl` go to the datastore: the default sink was not overridden, and its sources let them be kept.
        Raises ConfigError where they disagree."""
        by = {s.store: n for n, s in self._makers(tbl)}
        if len(by) > 1:
            raise ConfigError(
                f"table {tbl!r}: {self.operator}.{by[False]} says store=False, {by[True]} does not",
                hint="rows of one table are all kept, or none: say it in both, or in neither",
            )
        return self._keeps and True in by

    def caches(self, tbl: str) -> bool:
        """Whether what makes `tbl` has to end before its rows go on."""
        return any(s.cache for _, s in self._makers(tbl))

    def caches_for(self, method: str, tbl: str) -> bool:
        """Whether a sink, or chain, begins only when all rows of `tbl` are there."""
        return any(s.cache for n, s in _matching(self._sinks, tbl) if n == method)

    def source(self, tbl: str) -> str | None:
        """The method that reads `tbl` from nothing; None where chains alone make it. Raises ConfigError for two of one rank."""
        found = [n for n in self._methods(tbl) if n not in self._takers]
        if len(found) > 1:
            raise ConfigError(
                f"table {tbl!r} has two sources: {self.operator}.{found[0]} and {self.operator}.{found[1]}",
                hint="a table is read by one source: exact names win over globs, globs over marks without a name",
            )
        return found[0] if found else None

    def splits(self, tbl: str) -> Any:
        """What the source of `tbl` says of its splits; None: it offers none."""
        return next((s.splits for n, s in self._makers(tbl) if n not in self._takers), None)

    def feeders(self, tbl: str, known: Collection[str]) -> list[tuple[str, str]]:
        """(chain, table that it reads) of all that make `tbl`, of the tables that are `known`."""
        chains = [n for n in self._methods(tbl) if n in self._takers]
        return [(chain, t) for chain in chains for t in dict.fromkeys(self._read_for(chain, tbl, known))]

    def derived(self, known: Iterable[str]) -> list[str]:
        """Tables that chains make of the `known` ones under a name like theirs: `@source('clean_*') @sink('raw_*')`."""
        tables = list(known)
        found = [
            made
            for chain in self.chains
            for what in (s for n, s in self._sources if n == chain)
            for of in (s for n, s in self._sinks if n == chain)
            for t in tables
            if (made := _counterpart(what.tables, of.tables, t)) and made != t and not self._makes(chain, t)
        ]
        return [t for t in dict.fromkeys(found) if t not in tables]

    def _read_for(self, chain: str, made: str, known: Collection[str]) -> Iterator[str]:
        """The tables that `chain` reads to make `made`. By a glob or without a name it never reads what it makes itself."""
        whats = [s.tables for n, s in self._sources if n == chain and _matches(s, made)]
        for of in (s for n, s in self._sinks if n == chain):
            yield from (t for t in of.tables if t in known)
            if of.tables and not any(map(is_glob, of.tables)):
                continue
            pairs = [_counterpart(of.tables, what, made) for what in whats]
            wide: Iterable[str] = known if None in pairs else [t for t in pairs if t and t in known]
            yield from (t for t in wide if _matches(of, t) and not self._makes(chain, t))

    def _makes(self, chain: str, tbl: str) -> bool:
        return chain in self._methods(tbl)

    def _makers(self, tbl: str) -> list[tuple[str, SourceSpec]]:
        if tbl not in self._made_by:
            self._made_by[tbl] = _best(self._sources, tbl)
        return self._made_by[tbl]

    def _methods(self, tbl: str) -> list[str]:
        return list(dict.fromkeys(n for n, _ in self._makers(tbl)))

    # who takes its rows

    def takers(self, tbl: str) -> dict[str, bool]:
        """Sinks and chains that take the rows of `tbl`, but for the default sink: method name → whether it is `streaming`."""
        found: dict[str, bool] = {}
        for n, s in _matching(self._sinks, tbl):
            found[n] = found.get(n, True) and s.streaming
        return found

    def sinks(self, tbl: str) -> list[Route]:
        """Sinks of an uploader's table: those of the best rank only."""
        return [Route(n, s.streaming) for n, s in _best(self._sinks, tbl)]

    # names

    def exact_tables(self) -> list[str]:
        """Tables that sources name without a glob."""
        return list(dict.fromkeys(t for _, s in self._sources for t in s.tables if not is_glob(t)))

    def asked_for(self) -> Mapping[str, str]:
        """Tables that sinks and hooks name without a glob, and which method does (`@sink` of it): they have to be there."""
        named = {t: f"@sink({t!r}) of {n}" for n, s in self._sinks for t in s.tables if not is_glob(t)}
        return named | {s.tbl: f"@on_task({s.phase!r}, tbl={s.tbl!r}) of {n}" for n, s in self._hooks if s.tbl is not None}

    # hooks

    @property
    def has_hooks(self) -> bool:
        """Whether something runs in every batch, whatever there is to do."""
        return any(s.phase in ("xopen", "tbl", "xclose") for _, s in self._hooks)

    def hooks(self, phase: Phase, tbl: str | None = None) -> list[str]:
        """Methods marked for `phase` (and for `tbl`, where they name one)."""
        return [n for n, s in self._hooks if s.phase == phase and s.tbl in (None, tbl)]


def is_glob(name: str) -> bool:
    return any(c in name for c in "*?[")


S = TypeVar("S", SourceSpec, SinkSpec)


def _matches(mark: SourceSpec | SinkSpec, tbl: str) -> bool:
    return not mark.tables or any(fnmatchcase(tbl, t) for t in mark.tables)


def _matching(marks: Iterable[tuple[str, S]], tbl: str) -> list[tuple[str, S]]:
    return [(n, s) for n, s in marks if _matches(s, tbl)]


def _best(marks: Iterable[tuple[str, S]], tbl: str) -> list[tuple[str, S]]:
    found = _matching(marks, tbl)
    exact = [(n, s) for n, s in found if tbl in s.tables]
    globs = [(n, s) for n, s in found if s.tables]
    return exact or globs or found


def _counterpart(made: tuple[str, ...], read: tuple[str, ...], tbl: str) -> str | None:
    """The table that is made of `tbl` where both marks are one glob with one `*`: the text that it stands for is the same."""
    if len(made) != 1 or len(read) != 1 or not (_is_star(made[0]) and _is_star(read[0]) and fnmatchcase(tbl, read[0])):
        return None
    head, tail = read[0].split("*")
    return made[0].replace("*", tbl[len(head) : len(tbl) - len(tail)])


def _is_star(name: str) -> bool:
    return name.count("*") == 1 and not any(c in name for c in "?[")
