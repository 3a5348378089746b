"""Uploaders whose rows break off on their way: in the stream of a sink, or in the files of a load."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from anchovies.sdk.operator import Operator, Uploader
from anchovies.sdk.stream import Load
from anchovies.testing.endings import replaced

Method = Callable[..., Any]


class Rows:
    """Counts rows that are handed over, one by one, and raises in place of number `nth` (from 1)."""

    def __init__(self, nth: int, error: Callable[[], BaseException] | None = None) -> None:
        self.nth, self.handed = nth, 0
        self._error = error or (lambda: OSError("the rows broke off, because a test wants it"))
        self._turn = threading.Lock()

    def take(self, rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            with self._turn:
                due = self.handed + 1 == self.nth
                self.handed += not due
            if due:
                raise self._error()
            yield row

    def single(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Batches of one row."""
        return self.take(b.slice(i, 1) for b in batches for i in range(b.num_rows))


def breaking(operator: type[Operator], nth: int, error: Callable[[], BaseException] | None = None) -> type[Operator]:
    """The same uploader; the rows that it gets break off in place of number `nth`."""
    rows = Rows(nth, error)
    if issubclass(operator, Uploader) and operator.position is not Uploader.position:
        return replaced(operator, {"load": lambda method: lambda self, load: method(self, _Broken(load, rows))})

    def wrap(method: Method) -> Method:
        @functools.wraps(method)
        def torn(*args: Any, stream: Any, **given: Any) -> Any:
            return method(*args, stream=_Torn(stream, rows), **given)

        return torn

    return replaced(operator, dict.fromkeys(operator().sinks, wrap))


class _Torn:
    """A sink's stream."""

    def __init__(self, stream: Any, rows: Rows) -> None:
        self._stream, self._rows, self.tbl = stream, rows, stream.tbl

    def __iter__(self) -> Iterator[Any]:
        return self._rows.take(self._stream)

    def batches(self) -> Iterator[Any]:
        return self._rows.single(self._stream.batches())


class _Broken:
    """A load."""

    def __init__(self, load: Load, rows: Rows) -> None:
        self._load, self._rows = load, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load, name)

    @property
    def files(self) -> Sequence[Any]:
        return [_BrokenFile(f, self._rows) for f in self._load.files]


class _BrokenFile:
    """A file of a load."""

    def __init__(self, file: Any, rows: Rows) -> None:
        self._file, self._rows = file, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def parquet_path(self) -> None:
        return None  # so that the rows pass here

    def batches(self) -> Iterator[Any]:
        return self._rows.single(self._file.batches())
