"""What a database gives as Arrow, exactly: numbers of any size, batches in the types of what was picked."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from anchovies.plugins.sql.reading import MARK, NUMBER, UNKNOWN, Pick
from anchovies.sdk import ColType, RowError
from anchovies.sdk.rows import field

if TYPE_CHECKING:
    import pyarrow as pa

STR_WAY = "read it as text: `columns: {{{}: str}}`"


def unfit(column: str, value: object, type: ColType | str) -> RowError:
    """The error of a value at the source that the type of its column does not hold."""
    return RowError(
        f"column {column!r}: {str(value)[:60]!r} at the source is no {type} that can be kept",
        hint=STR_WAY.format(column),
        column=column,
    )


def batch_of(picks: Sequence[Pick], arrays: Sequence[pa.Array]) -> pa.RecordBatch:
    """A batch whose fields say `json` and `uuid` where the picks do."""
    import pyarrow as pa

    fields = [
        field(p.label, p.type) if p.type not in (MARK, NUMBER, UNKNOWN) else pa.field(p.label, a.type)
        for p, a in zip(picks, arrays, strict=True)
    ]
    return pa.RecordBatch.from_arrays([a.cast(f.type) for a, f in zip(arrays, fields, strict=True)], schema=pa.schema(fields))


def decimals(column: str, values: Sequence[object], type: ColType) -> pa.Array:
    """Texts and numbers as exact decimals: of `type`, or, where it is NUMBER, of the least that holds them all."""
    import pyarrow as pa

    numbers = [None if v is None else _decimal(column, v) for v in values]
    if type == NUMBER:
        type = _least(column, [n for n in numbers if n is not None])
        if type == UNKNOWN:
            return pa.nulls(len(values))
    make = pa.decimal128 if type.precision <= 38 else pa.decimal256
    try:
        return pa.array(numbers, make(type.precision, type.scale))
    except pa.ArrowInvalid:
        worst = max((n for n in numbers if n is not None), key=lambda n: _size(n)[0] + _size(n)[1])
        raise unfit(column, worst, type) from None


def _decimal(column: str, value: object) -> Decimal:
    try:
        number = Decimal(repr(value) if isinstance(value, float) else str(value))
    except InvalidOperation:
        raise unfit(column, value, "decimal") from None
    if not number.is_finite():
        raise unfit(column, value, "decimal")
    return number


def _size(number: Decimal) -> tuple[int, int]:
    """Digits before and after the point."""
    _, digits, exponent = number.as_tuple()
    after = max(-int(exponent), 0)
    return max(len(digits) + int(exponent), 0), after


def _least(column: str, numbers: Sequence[Decimal]) -> ColType:
    if not numbers:
        return UNKNOWN
    before, after = (max(part) for part in zip(*map(_size, numbers), strict=True))
    if before + after > 76:
        raise unfit(column, f"a number of {before} digits before and {after} after the point", "decimal")
    return ColType("decimal", max(before + after, 1), after)
