"""Rows that do not fit, told from those that do. Only looked for where a batch of all of them cannot be made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from anchovies.core.errors import RowError

Make = Callable[[Sequence[int]], pa.RecordBatch]


def sift(
    count: int, make: Make, empty: Callable[[int], bool] = lambda i: False
) -> tuple[pa.RecordBatch | None, dict[int, RowError]]:
    """A batch of all rows of 0..`count` that fit (None: none does), and the error of each of the others.

    `make` makes a batch of some rows, or raises RowError, whose `row` counts from the first of them. Rows that are bad by
    themselves are found by halving, then those that only do not go with the others. An `empty` row is not bad by itself.
    """
    bad: dict[int, RowError] = {}

    def look(lo: int, hi: int) -> None:
        try:
            make(range(lo, hi))
        except RowError as e:
            if hi - lo > 1:
                mid = (lo + hi) // 2
                look(lo, mid)
                look(mid, hi)
            elif not empty(lo):
                bad[lo] = e

    look(0, count)
    good = [i for i in range(count) if i not in bad]
    while good:
        try:
            return make(good), dict(sorted(bad.items()))
        except RowError as e:
            bad[good.pop(min(int(str(e.where.get("row", 0))), len(good) - 1))] = e
    return None, dict(sorted(bad.items()))


def reason_of(error: RowError) -> str:
    """What is wrong with a row, without its number: that is of the piece in which it was looked at."""
    row = error.where.get("row")
    return error.message if row is None else error.message.replace(f", row {int(str(row)) + 1}:", ":", 1)
