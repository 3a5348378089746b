"""Rows that do not fit, told from those that do. Only looked for where a batch of all of them cannot be made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from anchovies.core.errors import RowError

Make = Callable[[Sequence[int]], pa.RecordBatch]
_SIZES = (4096, 512, 64)  # of parts; measured: the fewest conversions where one row of a hundred is bad


def sift(
    count: int, make: Make, empty: Callable[[int], bool] = lambda i: False
) -> tuple[pa.RecordBatch | None, dict[int, RowError]]:
    """A batch of all rows of 0..`count` that fit (None: none does), and the error of each of the others.

    `make` makes a batch of some rows, or raises RowError, whose `row` counts from the first of them. Parts that fit as a whole
    are passed over; in the others the row that an error names is taken out until the rest fits. Rows that are all `empty` are not
    bad by themselves.
    """
    bad: dict[int, RowError] = {}
    _look(range(count), make, empty, bad)
    good = [i for i in range(count) if i not in bad]
    while good:
        try:
            return make(good), dict(sorted(bad.items()))
        except RowError as e:
            _take_out(good, e, bad)
    return None, dict(sorted(bad.items()))


def _look(rows: Sequence[int], make: Make, empty: Callable[[int], bool], bad: dict[int, RowError]) -> None:
    error = _error(rows, make)
    size = next((s for s in _SIZES if s < len(rows)), None)
    if error is not None and size is not None:
        for at in range(0, len(rows), size):
            _look(rows[at : at + size], make, empty, bad)
        return
    left = list(rows)
    while error is not None and not all(map(empty, left)):
        _take_out(left, error, bad)
        error = _error(left, make) if left else None


def _error(rows: Sequence[int], make: Make) -> RowError | None:
    try:
        make(rows)
    except RowError as e:
        return e
    return None


def _take_out(rows: list[int], error: RowError, bad: dict[int, RowError]) -> None:
    bad[rows.pop(min(int(str(error.where.get("row", 0))), len(rows) - 1))] = error


def reason_of(error: RowError) -> str:
    """What is wrong with a row, without its number: that is of the piece in which it was looked at."""
    row = error.where.get("row")
    return error.message if row is None else error.message.replace(f", row {int(str(row)) + 1}:", ":", 1)
