"""What the Python classes of a column's values are to us: one kind a class, looked up once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from anchovies.core.casts import Unfit
from anchovies.core.types import DATETIME, DATETIME_TZ, INT, ColType, decimal

EXACT: dict[type, str] = {
    type(None): "null", bool: "bool", int: "int", float: "float", str: "str", bytes: "bytes", date: "date", time: "time",
    datetime: "datetime", Decimal: "decimal", UUID: "uuid", dict: "json", list: "json", tuple: "json",
}  # fmt: skip
_SUBCLASSES: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (  # datetime before date: it is one
    (str, "str", str.__str__),
    (int, "int", int.__int__),
    (float, "float", float.__float__),
    (datetime, "datetime", lambda v: _microseconds(v)),
    (date, "date", lambda v: date(v.year, v.month, v.day)),
    (time, "time", lambda v: v),
    (Decimal, "decimal", Decimal),
    ((bytes, bytearray, memoryview), "bytes", bytes),
    (UUID, "uuid", lambda v: v),
    ((Mapping, list, tuple), "json", lambda v: v),
)


def _microseconds(value: datetime) -> datetime:
    if getattr(value, "nanosecond", 0):
        raise ValueError("it has nanoseconds, and microseconds are what a datetime keeps")
    return value


_seen: dict[type, tuple[str, Callable[[Any], Any] | None]] = {cls: (kind, None) for cls, kind in EXACT.items()}


def of_class(cls: type) -> tuple[str, Callable[[Any], Any] | None]:
    """(kind, how to make a plain value of it; None where it is one). The kind is "" for classes that cannot be kept."""
    if cls not in _seen:
        _seen[cls] = next(((kind, make) for base, kind, make in _SUBCLASSES if issubclass(cls, base)), ("", None))
    return _seen[cls]


def plain(values: Sequence[Any]) -> tuple[Sequence[Any], set[str]]:
    """The values as plain Python ones, and the kinds among them. Enums become their values. Raises Unfit."""
    classes = set(map(type, values))
    if any(issubclass(c, Enum) for c in classes):
        values = [v.value if isinstance(v, Enum) else v for v in values]
        classes = set(map(type, values))
    found = {c: of_class(c) for c in classes}
    if any(not kind for kind, _ in found.values()):
        raise _unknown(values)
    if any(make for _, make in found.values()):
        values = [_made(i, v, found[type(v)][1]) for i, v in enumerate(values)]
    return values, {kind for kind, _ in found.values()}


def _made(i: int, value: Any, make: Callable[[Any], Any] | None) -> Any:
    try:
        return value if make is None else make(value)
    except (ValueError, TypeError) as e:
        raise Unfit(i, value, str(e)) from None


def _unknown(values: Sequence[Any]) -> Unfit:
    i, value = next((i, v) for i, v in enumerate(values) if not of_class(type(v))[0])
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    way = " (take its .item())" if hasattr(value, "item") else ""
    return Unfit(i, value, f"values of the class {name} cannot be kept{way}")


def int_type(values: Sequence[Any]) -> ColType:
    """int, decimal(38,0) or decimal(76,0), whichever holds them all. Raises Unfit."""
    low, high = _ends(values)
    if low >= -(2**63) and high < 2**63:
        return INT
    widest = max(high, -low)
    if widest < 10**38:
        return decimal(38, 0)
    if widest < 10**76:
        return decimal(76, 0)
    i = next(i for i, v in enumerate(values) if v is not None and abs(v) >= 10**76)
    raise Unfit(i, values[i], "it has more than 76 digits")


def _ends(values: Sequence[Any]) -> tuple[int, int]:
    try:
        return min(values), max(values)
    except TypeError:  # there are nulls
        there = [v for v in values if v is not None]
        return min(there), max(there)


def decimal_type(values: Sequence[Any]) -> ColType:
    """The decimal that holds every digit of them all. Raises Unfit: NaN, infinity, more than 76 digits."""
    digits = scale = 0
    for i, v in enumerate(values):
        if v is None:
            continue
        if not v.is_finite():
            raise Unfit(i, v, "a decimal column holds numbers only")
        exponent = v.as_tuple().exponent
        scale = max(scale, -exponent)
        digits = max(digits, v.adjusted() + 1 if v else 1)
        if digits + scale > 76:
            raise Unfit(i, v, "the column would need more than 76 digits")
    return decimal(max(digits, 0) + scale or 1, scale)


def datetime_type(values: Sequence[Any]) -> ColType:
    """Zoned or naive. Raises Unfit where a column mixes them."""
    zoned: bool | None = None
    for i, v in enumerate(values):
        if v is None:
            continue
        has = v.tzinfo is not None and v.utcoffset() is not None
        if zoned is None:
            zoned = has
        elif has != zoned:
            raise Unfit(i, v, f"it has {'a' if has else 'no'} time zone, values before it have {'none' if has else 'one'}")
    return DATETIME_TZ if zoned else DATETIME
