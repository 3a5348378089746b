"""How a run of an operator ends before its time: killed at the n-th request of its datastore, or failing at the n-th yield."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar

from anchovies.core.errors import SourceError
from anchovies.sdk.markers import SinkSpec, SourceSpec
from anchovies.sdk.operator import Operator
from anchovies.store.base import Entry, OsLock, Store

LAST_WORDS = 2.0  # seconds
T = TypeVar("T")
When = Literal["before", "after"]


class Killed(BaseException):
    """What stands for `kill -9`: no handler of ours or of an operator's takes it for an error that it knows."""


@contextmanager
def dying() -> Iterator[None]:
    """Around a run that may be killed: its threads die without a word."""
    told, before = threading.excepthook, set(threading.enumerate())
    threading.excepthook = lambda args: None if args.exc_type is Killed else told(args)
    try:
        with suppress(Killed):
            yield
    finally:
        for thread in set(threading.enumerate()) - before:
            thread.join(LAST_WORDS)  # it may be just about to say that it dies
        threading.excepthook = told


class DyingStore(Store):
    """`inner` until request number `nth` (from 1), at which its process dies, before or after the request takes effect. From
    then on nothing of the process reaches `inner`, and its locks are free, as the system frees them."""

    def __init__(self, inner: Store, nth: int = 0, when: When = "before") -> None:
        self.inner, self.nth, self.when = inner, nth, when
        self.url = inner.url
        self.asked = 0
        self.dead = False
        self._held: list[OsLock] = []
        self._turn = threading.Lock()

    def die(self) -> None:
        self.dead = True
        while self._held:
            self._held.pop().release()

    def killed(self) -> Killed:
        """The process dies here and now; what this gives has to be raised."""
        self.die()
        return Killed()

    def _do(self, do: Callable[[], T]) -> T:
        with self._turn:
            self.asked += 1
            due = self.asked == self.nth
            if self.dead:
                raise Killed
            if due and self.when == "before":
                self.die()
                raise Killed
        try:
            return do()
        finally:
            if due:
                self.die()
                raise Killed

    def create(self, key: str, data: bytes) -> None:
        self._do(lambda: self.inner.create(key, data))

    def get(self, key: str) -> bytes:
        return self._do(lambda: self.inner.get(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        return self._do(lambda: self.inner.list(prefix, start_after))

    def put(self, key: str, data: bytes) -> None:
        self._do(lambda: self.inner.put(key, data))

    def delete(self, key: str) -> None:
        self._do(lambda: self.inner.delete(key))

    def settle(self, key: str) -> None:
        self._do(lambda: self.inner.settle(key))

    def try_lock(self, key: str) -> OsLock | None:
        if self.dead:
            raise Killed
        found = self.inner.try_lock(key)
        if found is not None:
            self._held.append(found)
        return found


class Cut:
    """Counts what the sources of an operator yield, and fails at yield number `nth` (from 1): `before` the row is handed over,
    when the source has come to it, or `after`, when the source is asked for the next one and does not get there."""

    def __init__(self, nth: int = 0, when: When = "before", error: Callable[[], BaseException] | None = None) -> None:
        self.nth, self.when = nth, when
        self.yields = 0
        self._error = error or (lambda: SourceError("the source failed here, because a test wants it"))
        self._turn = threading.Lock()

    def due(self) -> bool:
        with self._turn:
            self.yields += 1
            return self.yields == self.nth

    def around(self, items: Iterable[object] | None) -> Iterator[object]:
        inner = iter(items or ())
        try:
            for item in inner:
                due = self.due()
                if due and self.when == "before":
                    raise self._error()
                yield item
                if due:
                    raise self._error()
        finally:
            close = getattr(inner, "close", None)
            if close is not None:
                close()


def cut_short(operator: type[Operator], cut: Cut) -> type[Operator]:
    """The same operator, whose sources (chains as well) are counted and fail as `cut` says."""

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def counted(*args: Any, **given: Any) -> Iterator[object]:
            return cut.around(method(*args, **given))

        return counted

    return replaced(operator, {name: wrap for name, spec in operator.marked() if isinstance(spec, SourceSpec)})


def replaced(operator: type[Operator], wraps: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]) -> type[Operator]:
    """A subclass of the same name, some methods of which are wrapped. Their marks stay."""
    methods = {name: wrap(getattr(operator, name)) for name, wrap in wraps.items()}
    same = {"__module__": operator.__module__, "__qualname__": operator.__qualname__, "__doc__": operator.__doc__}
    return type(operator.__name__, (operator,), {**same, **methods})


class Asking:
    """A sink's stream that hands in one row at a time, at most `limit` of them, and calls `asked(rows so far)` whenever the sink
    asks for the next."""

    def __init__(self, stream: Any, limit: int, asked: Callable[[int], None]) -> None:
        self._stream, self._limit, self._asked = stream, limit, asked
        self.tbl = stream.tbl

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._take(self._stream)

    def batches(self) -> Iterator[Any]:
        return self._take(batch.slice(i, 1) for batch in self._stream.batches() for i in range(batch.num_rows))

    def _take(self, rows: Iterable[Any]) -> Iterator[Any]:
        for n, row in enumerate(rows):
            if n < self._limit:  # the rest is drained, so that whoever feeds it may go on
                self._asked(n)
                yield row


def streaming_sinks(operator: type[Operator]) -> list[str]:
    """The methods that say they keep nothing back between rows."""
    return list(dict.fromkeys(n for n, spec in operator.marked() if isinstance(spec, SinkSpec) and spec.streaming))
