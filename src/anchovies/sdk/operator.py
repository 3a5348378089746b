"""Operators: the classes that people write. They hold marked methods; the engine holds the loops, retries and commits."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from anchovies.core.errors import ConfigError, FatalError
from anchovies.core.tbl import Tbl
from anchovies.sdk.connection import Connection, ConnectionMemo
from anchovies.sdk.markers import SinkSpec, SourceSpec, Spec, sink, specs_of
from anchovies.sdk.stream import Counts, Load, Position, Stream, Target


class Operator:
    """What an anchovy runs. What it does follows from its marked methods, never from its name.

    Class attributes a plugin sets: `connection_cls` (the class of the default connection, or any callable) and `tbl_properties`
    (the table properties it understands: name → what it means). One instance lives for one session.
    """

    connection_cls: ClassVar[Callable[..., Any] | None] = None
    tbl_properties: ClassVar[Mapping[str, str]] = {}

    #: every connection by id, set by the engine at STARTUP; the default one is `default`
    connections: Mapping[str, Any] = {}
    #: the sources that run in this batch, set by the engine for each
    applied: tuple[str, ...] | None = None

    def __getattr__(self, name: str) -> Any:
        """A connection that an annotation names (`api: HttpConnection`), opened."""
        connections = self.__dict__.get("connections", {})
        if name.startswith("_") or name not in connections:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return connections[name]

    @property
    def cnxn(self) -> Any:
        """The default connection, opened. Raises ConfigError that names the variables when it is not configured."""
        if "default" not in self.connections:
            raise ConfigError(
                f"{type(self).__name__} has no default connection", hint="name its class: `connection_cls = HttpConnection`"
            )
        return self.connections["default"]

    connection = cnxn

    @classmethod
    def connection_classes(cls) -> dict[str, Any]:
        """Id → class or callable of every connection it names: `default`, annotations, memos."""
        found: dict[str, Any] = {"default": cls.connection_cls} if cls.connection_cls else {}
        for name, hint in _hints(cls):
            if isinstance(hint, type) and issubclass(hint, Connection):
                found["default" if name in ("cnxn", "connection") else name] = hint
        for base in reversed(cls.__mro__):
            found.update({m.id: m.factory for m in vars(base).values() if isinstance(m, ConnectionMemo)})
        return found

    @classmethod
    def connections_that(cls, flag: str) -> frozenset[str]:
        """Ids of the connections whose class, or memo, says `at_startup` or `each_thread`."""
        memos = [m for base in cls.__mro__ for m in vars(base).values() if isinstance(m, ConnectionMemo)]
        said = {i for i, c in cls.connection_classes().items() if getattr(c, flag, False) is True}
        return frozenset(said | {m.id for m in memos if getattr(m, flag)})

    @classmethod
    def marked(cls) -> Iterator[tuple[str, Spec]]:
        """(method name, mark) of every marked method; an override without marks takes the base's away."""
        seen = dict.fromkeys(n for base in reversed(cls.__mro__) for n in vars(base))
        for name in seen:
            for spec in specs_of(getattr(cls, name, None)):
                yield name, spec

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the methods that are sources; in a batch, of those that run for its tables."""
        found = dict.fromkeys(n for n, s in self.marked() if isinstance(s, SourceSpec))
        return tuple(n for n in found if self.applied is None or n in self.applied)

    @property
    def sinks(self) -> tuple[str, ...]:
        """Names of the methods that are sinks."""
        return tuple(dict.fromkeys(n for n, s in self.marked() if isinstance(s, SinkSpec)))

    def discover_tbls(self) -> Iterable[Tbl]:
        """Every table there is. The engine picks the active ones (`batch().tbls`)."""
        return ()

    def guess_tbls(self) -> Iterable[Tbl]:
        """What a source that nobody has described looks like, for `anchovy init --from`: tables with the properties that a person
        would write. Reads a little of it."""
        return self.discover_tbls()

    def plan(self, tbl: Tbl) -> Iterable[str]:
        """In sentences, what the next run would do with `tbl`; reads, stores nothing."""
        return ()


def _hints(cls: type) -> Iterator[tuple[str, Any]]:
    """(name, class) of every annotation; those that only a type checker can read are passed over."""
    for base in reversed(cls.__mro__):
        names = {**vars(sys.modules.get(base.__module__, typing)), **vars(base)}
        for name, hint in inspect.get_annotations(base).items():
            with suppress(Exception):
                yield name, eval(hint, names) if isinstance(hint, str) else hint  # noqa: S307


class Downloader(Operator):
    """Reads a system as it is; its sources' rows are kept in the datastore by the default sink."""

    @sink()
    def default_sink(self, stream: Stream, **kwds: Any) -> Any:
        """The engine writes to the data buffer. Overriding it keeps rows out of the datastore."""
        raise FatalError("the engine stands in for the default sink; it is not called")


class Uploader(Operator):
    """Loads what downloaders kept.

    A subclass either marks sinks (`@sink('orders')`: each call gets the rows of commits that were not loaded yet; the position
    lies in the anchovy's own log, so a crash between the two may hand rows in again), or overrides `position` and `load` (a
    transactional target: rows and position change in one transaction).
    """

    #: whether `load` heeds `Load.replaces`, so that `anchovy replay` may make a table anew
    can_replace: ClassVar[bool] = False

    def position(self, target: Target) -> Position | None:
        """Where the target stands, as the target itself says: None before its first load."""
        raise FatalError(f"{type(self).__name__} has no position() of its own; its sinks are fed instead")

    def load(self, load: Load) -> Counts:
        """Apply `load` in one transaction: check that the target stands at `load.start` (else raise PositionMoved), merge, set
        `load.end`.

        Raises RetryableError where trying again may help (a lost connection: the engine asks `position` what became of it).
        """
        raise FatalError(f"{type(self).__name__} has no load() of its own; its sinks are fed instead")

    def fingerprint(self) -> str | None:
        """A cheap text that changes when the target is another one (a new file, say): then the position is looked up even if
        nothing seems new. None: no such thing."""
        return None

    def count(self, target: Target) -> int | None:
        """How many rows the table of a target has, all versions of a history counted; None: it cannot be said."""
        return None

    def plan_load(self, target: Target) -> Iterable[str]:
        """In sentences (DDL among them), what a load of `target` would change; opens the target for reading at most."""
        return ()
