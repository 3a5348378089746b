"""What becomes of rows that cannot be kept: an error, or rejects where they stood."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from anchovies.core.arrow import conform
from anchovies.core.errors import RowError
from anchovies.core.masks import hidden
from anchovies.core.schema import Row, batch_to_rows, rows_to_batch
from anchovies.core.sift import reason_of, sift
from anchovies.core.types import ColType
from anchovies.engine.actions import Rejected

Mark = tuple[int, tuple[object, ...]]
WAY_OUT = "on_bad_row: reject keeps such rows apart, with what is wrong, and goes on"


class Care:
    """What becomes of rows that cannot be kept: an error (`rejecting` False), or rejects.

    `types` are declared; `hide` names columns whose values appear in no message.
    """

    def __init__(self, types: Mapping[str, ColType], hide: Collection[str] = (), rejecting: bool = False) -> None:
        self.types, self._hide, self._rejecting = types, hide, rejecting

    def rows(self, error: RowError, rows: Sequence[Row]) -> tuple[pa.RecordBatch | None, dict[int, Rejected]]:
        """What can be kept of rows that raised `error`, and the others by their place. Raises `error`."""
        self._check(error)
        batch, bad = sift(len(rows), lambda some: rows_to_batch([rows[i] for i in some], self.types), lambda i: not rows[i])
        return batch, {i: self._rejected(rows[i], e) for i, e in bad.items()}

    def arrow(
        self, error: RowError, data: pa.RecordBatch, types: Mapping[str, ColType]
    ) -> tuple[pa.RecordBatch | None, dict[int, Rejected]]:
        """The same of Arrow data, which are to be of `types`."""
        self._check(error)
        batch, bad = sift(data.num_rows, lambda some: conform(data.take(pa.array(some, pa.int64())), types))
        return batch, {i: self._rejected(_row(data, i), e) for i, e in bad.items()}

    def _check(self, error: RowError) -> None:
        if not self._rejecting:
            error = self._shown(error)
            raise RowError(error.message, hint=f"{error.hint}; {WAY_OUT}", **error.where) from None

    def _shown(self, error: RowError) -> RowError:
        return hidden(error) if error.where.get("column") in self._hide else error

    def _rejected(self, row: Row, error: RowError) -> Rejected:
        error = self._shown(error)
        column = error.where.get("column")
        return Rejected(row, reason_of(error), column=None if column is None else str(column))


def _row(data: pa.RecordBatch, i: int) -> Row:
    try:
        return batch_to_rows(data.slice(i, 1))[0]
    except (ValueError, pa.ArrowException):  # a value for which Python has no class
        return {n: str(data.column(n)[i]) for n in data.schema.names}


def with_rejects(marks: Sequence[Mark], bad: Mapping[int, Rejected]) -> tuple[Mark, ...]:
    """Marks of a piece whose `bad` rows (by place) were taken out: each of them is said where it stood."""
    found = sorted([*((at, 0, actions) for at, actions in marks), *((at, 1, (r,)) for at, r in bad.items())], key=lambda x: x[:2])
    out: dict[int, tuple[object, ...]] = {}
    gone = 0
    for at, kind, actions in found:
        out[at - gone] = (*out.get(at - gone, ()), *actions)
        gone += kind
    return tuple(out.items())


def is_mark(actions: Sequence[object]) -> bool:
    """Whether a unit ends there. Where nothing but rejects are said, none does."""
    return not all(isinstance(a, Rejected) for a in actions)
