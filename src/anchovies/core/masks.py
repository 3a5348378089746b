"""Masks: columns of any type as text that no longer says what was there. Nulls stay null.

`sha256` is the HMAC-SHA256, in hex, of the value's text in UTF-8. Equal values have equal texts whatever type they came in:
texts, uuids and JSON as they are; whole numbers without point (42, also of 42.0); other numbers in their shortest decimal form
(1.5, also of 1.50); true and false; dates and times in ISO form, zoned ones in UTC; of bytes the bytes themselves.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import UTC
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from anchovies.core.arrow import normal, type_of
from anchovies.core.casts import Unfit
from anchovies.core.errors import RowError
from anchovies.core.types import ColType
from anchovies.core.values import to_json

REDACTED = "***"


def masked(array: pa.Array, field: pa.Field, mask: str, key: bytes | None) -> pa.Array:
    """The column under `mask`. Raises RowError, without the value, for one that has no text."""
    if mask == "redact":
        return pc.if_else(pc.is_valid(array), pa.scalar(REDACTED, pa.string()), pa.scalar(None, pa.string()))
    assert key is not None
    t = type_of(field)
    try:
        return _all_hashed(normal(array, field), t, key)
    except Unfit as e:
        raise hidden(RowError("", column=field.name, row=e.index)) from None
    except (ValueError, OverflowError, pa.ArrowException):
        raise hidden(RowError("", column=field.name)) from None


def _all_hashed(array: pa.Array, t: ColType, key: bytes) -> pa.Array:
    if t.kind == "null":
        return pa.nulls(len(array), pa.string())
    different = array.dictionary_encode() if t.item is None else None
    values = (different.dictionary if different is not None else array).to_pylist()
    text = _TEXTS.get(t.kind, str)
    made = pa.array([None if v is None else _hashed(key, text(v)) for v in values], pa.string())
    return made if different is None else made.take(different.indices)


def _hashed(key: bytes, text: str | bytes) -> str:
    return hmac.digest(key, text if isinstance(text, bytes) else text.encode(), "sha256").hex()


def _number(value: Any) -> str:
    """Every digit: `normalize` would round to those of the context."""
    number = Decimal(repr(value)) if isinstance(value, float) else value
    if not number.is_finite():
        return str(float(number))
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _zoned(value: Any) -> str:
    return str(value.astimezone(UTC).isoformat())


_TEXTS: dict[str, Callable[[Any], str | bytes]] = {
    "bool": lambda v: "true" if v else "false",
    "float": _number,
    "decimal": _number,
    "date": lambda v: v.isoformat(),
    "time": lambda v: v.isoformat(),
    "datetime": lambda v: v.isoformat(),
    "datetime_tz": _zoned,
    "bytes": bytes,
    "list": to_json,
}


def hidden(error: RowError) -> RowError:
    """The error of a value in a masked column, without the value."""
    column, row = error.where.get("column"), error.where.get("row")
    at = f", row {int(str(row)) + 1:,}" if row is not None else ""
    return RowError(
        f"column {column!r}{at}: a value cannot be kept (the column is masked, so it is not shown)",
        hint="mend the value in the source", **{k: v for k, v in error.where.items() if k != "value"},
    )  # fmt: skip
