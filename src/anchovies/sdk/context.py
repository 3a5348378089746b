"""What an operator can ask of the run it is in: `context()`, `session()`, `batch()`, from any thread."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from anchovies.core.errors import ConfigError
from anchovies.sdk.session import Batch, Session


class Checkpoint(Protocol):
    """One named value that says how far a source was read."""

    key: str

    def get(self, default: Any = None) -> Any:
        """The value set in this batch, else the committed one, else `default`."""
        ...

    def set(self, value: Any) -> None:
        """Committed exactly when every row yielded before this call is durable, never earlier.

        `value`: JSON, dates, datetimes, decimals; up to 64 KiB. Raises ConfigError for anything else.
        """
        ...

    def delete(self) -> None:
        """Forget the value, by the same rule as `set`."""
        ...


class Ledger(Protocol):
    """A large set of things already seen (files, ids) of one table. Changes follow the rule of `Checkpoint.set`."""

    def get(self, key: str) -> Any:
        """The value of `key`, or None."""
        ...

    def put(self, key: str, value: Any) -> None: ...

    def delete(self, key: str) -> None: ...

    def __contains__(self, key: object) -> bool: ...

    def __len__(self) -> int: ...


class Task(Protocol):
    """One unit of work in a batch."""

    @property
    def type(self) -> str: ...
    @property
    def tbl(self) -> str | None: ...
    def with_(self, **data: Any) -> Task:
        """Add to the `data` of this task's log record; returns the task."""
        ...


class Context(Protocol):
    """What a source, a sink or a hook can ask of the run it is in."""

    @property
    def session(self) -> Session: ...
    @property
    def batch(self) -> Batch: ...
    @property
    def task(self) -> Task: ...
    @property
    def connections(self) -> Mapping[str, Any]:
        """All connections by id; the default one is `default`."""
        ...

    def checkpoint(self, key: str) -> Checkpoint: ...

    def ledger(self, tbl: str) -> Ledger: ...

    def ack(self, token: str) -> None:
        """Hand `token` to the `@on_ack` methods once every row yielded before this call is durable. It is committed with them, so
        none is forgotten.

        `token` (up to 1,024 bytes) says what was read, so that another thing of the same name is not taken for it: a path with
        size and time, a message id. Raises ConfigError where nothing is marked with `@on_ack`.
        """
        ...

    def receipt(self, name: str, **said: Any) -> None:
        """What the source says of one thing (a file, a page, a key range) whose rows were all yielded, by the rule of
        `Checkpoint.set`: `rows=` that came of it, `bytes=` and `sha256=` of it, `first=` and `last=` key. It is kept with the
        rows, and `anchovy verify` holds them against it."""
        ...

    def reject(
        self,
        row: Mapping[str, Any] | str | None,
        reason: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: str | None = None,
    ) -> None:
        """A row that the source cannot make one of: it is kept apart, with the rows around it, where the table has
        `on_bad_row: reject`. Else this raises RowError that says where it is.

        `row`: its columns by name, or the text of its line. Of a table with masks, or columns left out, no text is kept.
        """
        ...

    def discard(self) -> None:
        """Drop the rows that the running source yielded since its last mark (a half-read file), and go on."""
        ...

    def progress(self, **data: Any) -> None:
        """Tell whoever watches: `bytes_read=` (since the last call), `position=` (a short text), `warning=` (a sentence)."""
        ...


_current: ContextVar[Context | None] = ContextVar("anchovies_context", default=None)
_running: list[Context] = []


def context() -> Context:
    """The context of this thread's task, else that of the process's only session. Raises ConfigError outside of a run."""
    found = _current.get() or (_running[-1] if len(_running) == 1 else None)
    if found is None:
        raise ConfigError(
            "context() was called outside of a running anchovy",
            hint="call it from a source, a sink or an @on_task hook",
        )
    return found


def session() -> Session:
    """`context().session`."""
    return context().session


def batch() -> Batch:
    """`context().batch`."""
    return context().batch


class entered:
    """`with entered(ctx):` makes `ctx` what `context()` gives in this thread; the engine's, and a test's, way in."""

    def __init__(self, ctx: Context, *, whole_process: bool = False) -> None:
        self._ctx = ctx
        self._whole = whole_process

    def __enter__(self) -> Context:
        self._token = _current.set(self._ctx)
        if self._whole:
            _running.append(self._ctx)
        return self._ctx

    def __exit__(self, *exc: object) -> None:
        _current.reset(self._token)
        if self._whole:
            _running[:] = [c for c in _running if c is not self._ctx]
