"""`@source`, `@sink`, `@on_task`, `@on_ack`: marks. They attach a frozen spec and return the function unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

import msgspec

from anchovies.core.errors import ConfigError

F = TypeVar("F", bound=Callable[..., object])
Phase = Literal["startup", "xopen", "tbl", "xclose", "error", "shutdown"]
PHASES: tuple[Phase, ...] = ("startup", "xopen", "tbl", "xclose", "error", "shutdown")
MARK = "__anchovies__"
Splits = Iterable[object] | Callable[..., Iterable[object]] | str | None


class SourceSpec(msgspec.Struct, frozen=True):
    """`tables`: names or globs; empty means every table. `store=False`: rows feed sinks only. `splits`: see `source`."""

    tables: tuple[str, ...]
    cache: bool
    store: bool
    splits: Any = None


class SinkSpec(msgspec.Struct, frozen=True):
    """`tables`: names or globs; empty means every table. `streaming`: it keeps nothing back between rows."""

    tables: tuple[str, ...]
    cache: bool
    streaming: bool


class HookSpec(msgspec.Struct, frozen=True):
    phase: Phase
    tbl: str | None


class AckSpec(msgspec.Struct, frozen=True):
    """The method acknowledges at the source what was committed."""


Spec = SourceSpec | SinkSpec | HookSpec | AckSpec


def specs_of(fn: object) -> tuple[Spec, ...]:
    """The marks of a function, in the order they were put on."""
    return getattr(fn, MARK, ())


def _mark(fn: F, spec: Spec) -> F:
    setattr(fn, MARK, (*specs_of(fn), spec))
    return fn


def source(*tables: str, cache: bool = False, store: bool = True, splits: Splits = None) -> Callable[[F], F]:
    """Mark a generator of rows for `tables` (names or globs; none: every table).

    It may yield a dict, a list of dicts, a pyarrow RecordBatch or Table, or anything with `__arrow_c_stream__`.

    `splits`: the pieces that a table can be read in (files, key ranges, dates): a list of plain values, a function that gives
    one, or the name of a method that does. The source is called once for each, as `split`; where several workers share the
    anchovy, each of them reads some. Keep one checkpoint for each split: `context().checkpoint(f"{table}:{split}")`.
    """
    if isinstance(splits, Iterable) and not isinstance(splits, str):
        splits = tuple(splits)
    spec = SourceSpec(_names(tables, "source"), cache, store, splits)
    return lambda fn: _mark(fn, spec)


def sink(*tables: str, cache: bool = False, streaming: bool = False) -> Callable[[F], F]:
    """Mark a method that takes the rows of `tables` as `stream`. A method that is also a source is a chain.

    `streaming`: it keeps nothing back between rows, so marks pass with them. `cache`: it begins when all of its rows are there;
    until then they wait in a private temporary file.
    """
    spec = SinkSpec(_names(tables, "sink"), cache, streaming)
    return lambda fn: _mark(fn, spec)


def on_task(phase: Phase, tbl: str | None = None) -> Callable[[F], F]:
    """Mark a method that runs at `phase` (startup, xopen, tbl, xclose, error, shutdown), for `tbl` only where one is named."""
    if phase not in PHASES:
        raise ConfigError(f"@on_task({phase!r}): no such phase", hint=f"phases: {', '.join(PHASES)}")
    return lambda fn: _mark(fn, HookSpec(phase, tbl))


def on_ack(fn: F) -> F:
    """Mark a method that gets `tokens`: what sources said with `context().ack(token)`, once the commit of their rows is known to
    be ours. It deletes, moves or confirms at the source.

    It is called again with the same tokens when nobody knows how far the last call came: what is done already must do no harm.
    While it raises, the tokens stay pending, and it is called again after the next commit and at the start of the next session.
    """
    if not callable(fn):
        raise ConfigError(f"@on_ack takes a method, got {fn!r}", hint="write @on_ack above `def moved(self, tokens, **kwds)`")
    return _mark(fn, AckSpec())


def _names(tables: tuple[str, ...], mark: str) -> tuple[str, ...]:
    if not all(isinstance(t, str) and t for t in tables):
        raise ConfigError(f"@{mark}: table names are texts, got {tables!r}", hint=f"write @{mark}('orders') or @{mark}()")
    return tables
