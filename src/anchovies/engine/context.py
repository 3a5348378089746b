"""The engine's side of `context()`: checkpoints and ledgers that gather what is set until its rows are durable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from anchovies.core import values
from anchovies.core.clock import Clock
from anchovies.core.errors import AnchovyError, ConfigError, RowError
from anchovies.engine.actions import Ack, Action, DiscardUnit, Due, PutLedger, Rejected, Said, SetCheckpoint
from anchovies.engine.blame import authors_line
from anchovies.engine.parts import Parts
from anchovies.engine.pending import Pending
from anchovies.sdk.session import Batch, Session
from anchovies.store.checkpoints import seen
from anchovies.store.ledgers import NOTHING
from anchovies.store.state import State


class RunTask:
    """One task, and what its log record will say."""

    def __init__(self, task_type: str, tbl: str | None, clock: Clock) -> None:
        self.type = task_type
        self.tbl = tbl
        self.data: dict[str, Any] = {}
        self.status = "OK"
        self._clock = clock
        self._start = clock.monotonic()

    def with_(self, **data: Any) -> RunTask:
        self.data.update(data)
        return self

    def failed(self, error: BaseException) -> RunTask:
        self.status = "ERR"
        if isinstance(error, AnchovyError) and error.hint:
            self.with_(hint=error.hint)
        if where := authors_line(error):
            self.with_(where=where)
        return self.with_(err_type=type(error).__name__, err_msg=str(error) or type(error).__name__)

    def duration_ms(self) -> int:
        return round((self._clock.monotonic() - self._start) * 1000)


class Overlay:
    """What one flow has set and not committed yet: values that `get` gives back, and every key that was looked at.

    `tbls`: the tables that the flow feeds; it sees the values that are theirs. `shared`: other workers put entries of the same
    ledgers, so each entry that was looked at is known by itself.
    """

    def __init__(
        self, state: Callable[[], State], below: Overlay | None = None, tbls: Collection[str] = (), *, shared: bool = False
    ) -> None:
        self._state = state
        self._shared = shared
        self._tbls = tbls
        self._below = below
        self.keys: set[str] = set()
        self._checkpoints: dict[str, SetCheckpoint] = {}
        self._ledgers: dict[tuple[str, str], PutLedger] = {}
        self._lock = threading.Lock()

    def checkpoint(self, key: str) -> Any:
        with self._lock:
            self.keys.add(key)
            if (mine := self._checkpoints.get(key)) is not None:
                return None if mine.gone else mine.value
        if self._below is not None and key in self._below._checkpoints:
            return self._below.checkpoint(key)
        kept = seen(self._state().values(key), self._tbls)
        return None if kept is None else kept.value

    def entry(self, name: str, key: str) -> Any:
        with self._lock:
            self._look(name, key)
            if (mine := self._ledgers.get((name, key))) is not None:
                return None if mine.gone else mine.value
        if self._below is not None and (name, key) in self._below._ledgers:
            return self._below.entry(name, key)
        return self._state().ledgers.get(name, NOTHING).get(key)

    def _look(self, name: str, key: str) -> None:
        self.keys.add(f"ledger:{name}:{key}" if self._shared else f"ledger:{name}")

    def ledger_keys(self, name: str) -> set[str]:
        have = set(self._state().ledgers.get(name, {})) if self._below is None else self._below.ledger_keys(name)
        with self._lock:
            self.keys.add(f"ledger:{name}")
            for (ledger, key), action in self._ledgers.items():
                if ledger == name:
                    (have.discard if action.gone else have.add)(key)
        return have

    def note(self, action: Action) -> None:
        with self._lock:
            if isinstance(action, SetCheckpoint):
                self.keys.add(action.key)
                self._checkpoints[action.key] = action
            elif isinstance(action, PutLedger):
                self._look(action.name, action.key)
                self._ledgers[action.name, action.key] = action

    def looked_at(self) -> frozenset[str]:
        """Every key that was read or set so far."""
        with self._lock:
            return frozenset(self.keys)

    def values(self) -> tuple[dict[str, SetCheckpoint], int]:
        """What was set by now, to be compared with what was set before: checkpoints, and how many entries of ledgers."""
        with self._lock:
            return dict(self._checkpoints), len(self._ledgers)

    def clear(self) -> None:
        """What was set is committed, or never will be."""
        with self._lock:
            self._checkpoints.clear()
            self._ledgers.clear()


class Outside:
    """What is set outside of any flow: by hooks, and by threads of the operator. Due once every row yielded before is durable."""

    def __init__(self, state: Callable[[], State]) -> None:
        self.overlay = Overlay(state)
        self.pending = Pending()
        self._due = Due()

    def due(self) -> Due:
        """What the next commit of settings takes."""
        self._due.add(self.pending.take())
        return self._due

    def settled(self) -> None:
        """What was due is committed, or will never be: the rows it waited for are gone."""
        self._due.clear()
        self.overlay.clear()

    def forget(self) -> None:
        """Rows were thrown away: what was set after them goes with them."""
        self.pending.take()
        self.settled()


LONGEST_TOKEN = 1024
REJECT_WAY = "mend it in the source, or keep such rows apart and go on: on_bad_row: reject"
SAYS = frozenset(("rows", "bytes", "sha256", "first", "last"))


class RunContext(msgspec.Struct):
    """What `context()` gives in one stage of one flow (or in a hook). `acks`: the operator has a method that takes them."""

    session: Session
    batch: Batch
    task: RunTask
    connections: Mapping[str, Any]
    overlay: Overlay
    pending: Pending
    tell: Callable[..., None]
    acks: bool = False
    parts: Parts | None = None  # where a class of a person's turns checkpoint values
    rejects: bool | None = None  # whether rows may be rejected here; None: rows are not read here

    def checkpoint(self, key: str) -> RunCheckpoint:
        return RunCheckpoint(key, self)

    def ledger(self, tbl: str) -> RunLedger:
        return RunLedger(tbl, self)

    def ack(self, token: str) -> None:
        if not self.acks:
            raise ConfigError(
                "context().ack() was called, but no method of the operator is marked with @on_ack",
                hint="mark the one that moves, deletes or confirms at the source: @on_ack above `def done(self, tokens, **kwds)`",
            )
        self.pending.put(Ack(_token(token)))

    def receipt(self, name: str, **said: Any) -> None:
        if extra := set(said) - SAYS:
            raise ConfigError(f"receipt() takes {', '.join(sorted(SAYS))}, not {sorted(extra)[0]!r}")
        known = {k: values.encode(v) for k, v in said.items() if v is not None}
        self.pending.put(Said({"name": str(name)[:LONGEST_TOKEN], **known}))

    def reject(
        self,
        row: Mapping[str, Any] | str | None,
        reason: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: str | None = None,
    ) -> None:
        if self.rejects is None:
            raise ConfigError(
                "context().reject() was called outside of a source", hint="call it where rows are read, between two yields"
            )
        if not self.rejects:
            at = ", ".join([*([file] if file else []), *([f"line {line:,}"] if line else [])])
            raise RowError(f"{at}: {reason}" if at else reason, hint=REJECT_WAY, file=file, line=line, column=column)
        self.pending.put(Rejected(row, str(reason), column, file, line))

    def discard(self) -> None:
        self.pending.put(DiscardUnit())

    def progress(self, **data: Any) -> None:
        if extra := set(data) - {"bytes_read", "position", "warning"}:
            raise ConfigError(f"progress() takes bytes_read, position and warning, not {sorted(extra)[0]!r}")
        self.tell(**data)

    def act(self, action: Action) -> None:
        self.overlay.note(action)
        self.pending.put(action)


def _token(token: str) -> str:
    """The token, if it can be kept in a record."""
    try:
        size = len(token.encode()) if isinstance(token, str) else 0
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= LONGEST_TOKEN:
        raise ConfigError(
            f"ack() takes a text of 1 to {LONGEST_TOKEN} bytes, got {values.short(token)}",
            hint="a path with size and time, a message id: what its @on_ack method needs to find the thing again",
        )
    return token


class RunCheckpoint:
    """See `anchovies.sdk.Checkpoint`."""

    def __init__(self, key: str, ctx: RunContext) -> None:
        if not isinstance(key, str) or not key:
            raise ConfigError(f"a checkpoint key is a text, got {key!r}", hint="take something like 'orders.cursor'")
        self.key = key
        self._ctx = ctx

    def get(self, default: Any = None) -> Any:
        found = self._ctx.overlay.checkpoint(self.key)
        if found is None:
            return default
        parts = self._ctx.parts
        return values.decode(found) if parts is None else parts.decode(self.key, found)

    def set(self, value: Any) -> None:
        if value is None:
            return self.delete()
        parts = self._ctx.parts
        self._ctx.act(SetCheckpoint(self.key, values.encode(value) if parts is None else parts.encode(self.key, value)))

    def delete(self) -> None:
        self._ctx.act(SetCheckpoint(self.key, None, gone=True))

    def __repr__(self) -> str:
        return f"<checkpoint {self.key}>"


class RunLedger:
    """See `anchovies.sdk.Ledger`."""

    def __init__(self, name: str, ctx: RunContext) -> None:
        self._name = name
        self._ctx = ctx

    def get(self, key: str) -> Any:
        found = self._ctx.overlay.entry(self._name, key)
        return None if found is None else values.decode(found)

    def put(self, key: str, value: Any) -> None:
        self._ctx.act(PutLedger(self._name, key, values.encode(value)))

    def delete(self, key: str) -> None:
        self._ctx.act(PutLedger(self._name, key, None, gone=True))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._ctx.overlay.entry(self._name, key) is not None

    def __len__(self) -> int:
        return len(self._ctx.overlay.ledger_keys(self._name))
