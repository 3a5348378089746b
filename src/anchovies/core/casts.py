"""One array from one column type to another, without loss, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from anchovies.core.types import ColType
from anchovies.core.values import to_json


class Unfit(Exception):
    """The value at `index` does not fit. Whoever knows the column's name makes a RowError of it."""

    def __init__(self, index: int, value: object, reason: str = "") -> None:
        super().__init__(index, value, reason)
        self.index = index
        self.value = value
        self.reason = reason


Convert = Callable[[pa.Array], pa.Array]


def cast(array: pa.Array, have: ColType, want: ColType, storage: pa.DataType) -> pa.Array:
    """`array` (in the storage type of `have`) as `want`, whose storage type is `storage`. Raises Unfit."""
    if have == want:
        return array
    if have.kind == "null" or array.null_count == len(array):
        return pa.nulls(len(array), storage)
    if want.kind == "json":
        return each(array, lambda v: to_json(_value(v, have)), storage)
    if have.kind == "list" and want.kind == "list":
        return _cast_list(array, have, want, storage)
    step = _PARSERS.get(want.kind) if have.kind == "str" else _STEPS.get((have.kind, want.kind))
    if step is None:
        raise Unfit(*_first(array), f"the column holds {have}")
    return step(array, storage)


def guarded(array: pa.Array, storage: pa.DataType) -> pa.Array:
    """Arrow's own checked cast; Unfit names the first value that it refuses."""
    if array.type.equals(storage, check_metadata=True):
        return array
    return checked(array, lambda a: a.cast(storage))


def checked(array: pa.Array, convert: Convert) -> pa.Array:
    """`convert(array)`; where it raises, Unfit names the first value for which it does (found by halving)."""
    try:
        return convert(array)
    except pa.ArrowMemoryError:
        raise
    except pa.ArrowException:
        pass  # its sentence names C++ types; the value and the type, found now, say it better
    lo, hi = 0, len(array)
    while hi - lo > 1:
        mid = (lo + hi) // 2
        try:
            convert(array.slice(lo, mid - lo))
            lo = mid
        except pa.ArrowException:
            hi = mid
    raise Unfit(lo, python(array, lo))


def each(array: pa.Array, convert: Callable[[Any], Any], storage: pa.DataType) -> pa.Array:
    """Value by value in Python: for the rare casts that Arrow has no exact kernel for. Raises Unfit."""
    out = []
    for i, value in enumerate(array.to_pylist()):
        try:
            out.append(None if value is None else convert(value))
        except (ValueError, TypeError, ArithmeticError) as e:
            raise Unfit(i, value, str(e)) from None
    return pa.array(out, storage)


def python(array: pa.Array, i: int) -> object:
    """One value for a message, also where Python has no class for it (nanoseconds)."""
    try:
        return array[i].as_py()
    except (ValueError, pa.ArrowException):
        return str(array[i].cast(pa.string()))


def _first(array: pa.Array) -> tuple[int, object]:
    i = pc.index(pc.is_valid(array), True).as_py()
    return i, python(array, i)


def _value(value: Any, have: ColType) -> Any:
    """A value as `to_json` shall tag it."""
    return UUID(value) if have.kind == "uuid" else value


def _cast_list(array: pa.Array, have: ColType, want: ColType, storage: pa.DataType) -> pa.Array:
    assert have.item is not None and want.item is not None
    try:
        values = cast(array.values, have.item, want.item, storage.value_type)
    except Unfit as e:
        row = pc.sum(pc.less_equal(array.offsets, e.index)).as_py() - 1
        raise Unfit(row, e.value, e.reason) from None
    validity, offsets = array.buffers()[:2]
    return pa.Array.from_buffers(storage, len(array), [validity, offsets], array.null_count, array.offset, [values])


def _exact(array: pa.Array, storage: pa.DataType) -> pa.Array:
    return guarded(array, storage)


def _int_to_decimal(array: pa.Array, storage: pa.DataType) -> pa.Array:
    # Arrow asks for room for any int64 before it casts; the wide detour looks at the values instead
    return guarded(array.cast(pa.decimal256(76, storage.scale)) if storage.scale <= 57 else array, storage)


def _decimal_to_float(array: pa.Array, storage: pa.DataType) -> pa.Array:
    def convert(v: Decimal) -> float:
        if Decimal(repr(float(v))) != v:
            raise ValueError("a float would change it")
        return float(v)

    return each(array, convert, storage)


def _float_to_decimal(array: pa.Array, storage: pa.DataType) -> pa.Array:
    step = Decimal(1).scaleb(-storage.scale)

    def convert(v: float) -> Decimal:
        with localcontext(prec=400):
            exact = Decimal(repr(v))
            if not exact.is_finite() or exact.quantize(step) != exact:
                raise ValueError("")
            return exact.quantize(step)

    return _fitting(each(array, convert, pa.decimal256(76, storage.scale)), storage)


def _fitting(array: pa.Array, storage: pa.DataType) -> pa.Array:
    return guarded(array, storage)


def _date_of(array: pa.Array, storage: pa.DataType) -> pa.Array:
    def convert(a: pa.Array) -> pa.Array:
        days = a.cast(storage)
        if not pc.all(pc.equal(days.cast(a.type), a), min_count=0).as_py():
            raise pa.ArrowInvalid("not midnight")
        return days

    return checked(array, convert)


def _bool_of(array: pa.Array, storage: pa.DataType) -> pa.Array:
    def convert(a: pa.Array) -> pa.Array:
        if not pc.all(pc.is_in(a, pa.array([0, 1, None])), min_count=0).as_py():
            raise pa.ArrowInvalid("neither 0 nor 1")
        return a.cast(storage)

    return checked(array, convert)


def _as_text(array: pa.Array, storage: pa.DataType) -> pa.Array:
    """The text that Python and ISO 8601 have for a value: from it the value can be read back."""
    return each(array, _text, storage)


def _text(value: Any) -> str:
    return str(value.isoformat()) if hasattr(value, "isoformat") else repr(value) if isinstance(value, float) else str(value)


def _bool_as_text(array: pa.Array, storage: pa.DataType) -> pa.Array:
    return array.cast(storage)


_STEPS: dict[tuple[str, str], Callable[[pa.Array, pa.DataType], pa.Array]] = {
    ("int", "float"): _exact,
    ("int", "decimal"): _int_to_decimal,
    ("int", "bool"): _bool_of,
    ("float", "int"): _exact,
    ("float", "decimal"): _float_to_decimal,
    ("decimal", "decimal"): _exact,
    ("decimal", "int"): _exact,
    ("decimal", "float"): _decimal_to_float,
    ("date", "datetime"): _exact,
    ("datetime", "date"): _date_of,
    ("bool", "str"): _bool_as_text,
    ("int", "str"): _exact,
    **{(kind, "str"): _as_text for kind in ("float", "decimal", "date", "time", "datetime", "datetime_tz")},
    ("uuid", "str"): _exact,
    ("json", "str"): _exact,
}


def characters(array: pa.Array) -> bytes:
    """The bytes of all texts of a string array, one after the other."""
    _, offsets, data = array.buffers()
    if data is None or len(array) == 0:
        return b""
    ends = memoryview(offsets).cast("i")
    return bytes(memoryview(data)[ends[array.offset] : ends[array.offset + len(array)]])


def _only(array: pa.Array, allowed: bytes) -> bool:
    """Whether all texts are made of these characters. Far faster than a regular expression for each value."""
    return not characters(array).translate(None, allowed)


def _guard(allowed: bytes, convert: Callable[[pa.Array, pa.DataType], pa.Array]) -> Callable[[pa.Array, pa.DataType], pa.Array]:
    """A parser that refuses whatever has other characters (Arrow would read `0x1F` as a number)."""

    def step(array: pa.Array, storage: pa.DataType) -> pa.Array:
        def strict(a: pa.Array) -> pa.Array:
            if not _only(a, allowed) and not _only(a.drop_null(), allowed):
                raise pa.ArrowInvalid("other characters")
            return convert(a, storage)

        return checked(array, strict)

    return step


def _parse_int(array: pa.Array, storage: pa.DataType) -> pa.Array:
    if b"+" in characters(array):
        array = pc.replace_substring_regex(array, r"^\+(\d)", r"\1")
    return array.cast(storage)


def _parse_float(array: pa.Array, storage: pa.DataType) -> pa.Array:
    if b"+" in characters(array):
        array = pc.replace_substring_regex(array, r"^\+(\d|\.)", r"\1")
    out = array.cast(storage)
    if pc.any(pc.is_inf(out)).as_py():
        named = pc.match_substring(array, "inf", ignore_case=True)
        if pc.any(pc.and_(pc.is_inf(out), pc.invert(named))).as_py():
            raise pa.ArrowInvalid("too large")
    return out


def _parse_bool(array: pa.Array, storage: pa.DataType) -> pa.Array:
    low = pc.utf8_lower(array)
    true = pc.is_in(low, pa.array(["true", "t", "yes", "y", "1"]))
    false = pc.is_in(low, pa.array(["false", "f", "no", "n", "0"]))
    if not pc.all(pc.or_(pc.or_(true, false), pc.is_null(array)), min_count=0).as_py():
        raise pa.ArrowInvalid("neither true nor false")
    return pc.if_else(pc.is_valid(array), true, pa.scalar(None, pa.bool_()))


def _parse_time(array: pa.Array, storage: pa.DataType) -> pa.Array:
    if not pc.all(pc.match_substring_regex(array, r"^\d\d:\d\d"), min_count=0).as_py():
        raise pa.ArrowInvalid("not hh:mm")
    # Arrow reads no times of day from text, but it reads datetimes
    return pc.binary_join_element_wise("1970-01-01T", array, "").cast(pa.timestamp("us")).cast(storage)


def _parse_uuid(array: pa.Array, storage: pa.DataType) -> pa.Array:
    return each(array, lambda v: str(UUID(v)), storage)


def _parse_plain(array: pa.Array, storage: pa.DataType) -> pa.Array:
    return array.cast(storage)


def _parse_day(array: pa.Array, storage: pa.DataType) -> pa.Array:
    if pc.any(pc.starts_with(array, "0000")).as_py():
        raise pa.ArrowInvalid("no year 0")  # Arrow has one, nobody else has
    return array.cast(storage)


_DIGITS = b"0123456789"
_PARSERS: dict[str, Callable[[pa.Array, pa.DataType], pa.Array]] = {
    "int": _guard(_DIGITS + b"+-", _parse_int),
    "float": _guard(_DIGITS + b"+-.eEinfatyINFATY", _parse_float),
    "decimal": _guard(_DIGITS + b"+-.eE", _parse_plain),
    "bool": lambda array, storage: checked(array, lambda a: _parse_bool(a, storage)),
    "date": _guard(_DIGITS + b"-", _parse_day),
    "time": _guard(_DIGITS + b":.", _parse_time),
    "datetime": _guard(_DIGITS + b"-+:. T", _parse_day),
    "datetime_tz": _guard(_DIGITS + b"-+:. TZ", _parse_day),
    "uuid": _parse_uuid,
    "bytes": guarded,
}
