"""Python values as plain JSON and back, without loss: checkpoint values, and the text of `json` columns.

What JSON has no word for is a tagged object of one member: `{"$date": "2026-11-22"}`. A key of the user's that begins with
`$` gets a second one, so that it is never taken for a tag.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from anchovies.core.errors import ConfigError

MAX_VALUE = 64 * 1024
_MAX_DEPTH = 100
_INT64 = range(-(2**63), 2**63)


def encode(value: object) -> Any:
    """A checkpoint value as plain JSON. Raises ConfigError: not a type that can be kept, NaN, or over 64 KiB as JSON."""
    try:
        plain = _plain(value, _MAX_DEPTH)
        size = len(msgspec.json.encode(plain))
    except (ValueError, TypeError) as e:
        raise ConfigError(f"a checkpoint value cannot be kept: {e}", hint=_WAYS) from None
    if size > MAX_VALUE:
        raise ConfigError(
            f"a checkpoint value takes {size} bytes as JSON; the limit is {MAX_VALUE}",
            hint="keep a position there (a cursor, a date); large sets belong into context().ledger(tbl)",
        )
    return plain


def decode(value: Any) -> Any:
    """The value that `encode` got. Tuples come back as lists, zoned datetimes with a fixed offset; `fold` is not kept."""
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, text),) = value.items()
        if key in _READ and isinstance(text, str):
            return _untag(key, text)
    return {k[1:] if k.startswith("$$") else k: decode(v) for k, v in value.items()}


_WAYS = "JSON values, dates, times, datetimes, decimals, bytes and UUIDs can be kept, in lists and in dicts with text keys"


def to_json(value: object) -> str:
    """The text of a value in a `json` column. Raises ValueError or TypeError that says what cannot be kept."""
    return _encoder.encode(_plain(value, _MAX_DEPTH, floats=True)).decode()


def from_json(text: str) -> Any:
    """The value of a `json` column's text, whoever wrote it. Raises ValueError when it is not JSON."""
    return decode(msgspec.json.decode(text))


def short(value: object) -> str:
    """At most about 40 characters of a value, for messages."""
    try:
        text = repr(value)
    except ValueError:  # an int of more than 4,300 digits
        text = f"a {type(value).__name__} of very many digits"
    return text if len(text) <= 42 else f"{text[:40]}…"


_encoder = msgspec.json.Encoder()


def _plain(value: object, depth: int, floats: bool = False) -> Any:
    """`floats`: keep NaN and infinities, tagged. Raises ValueError, TypeError."""
    cls = value.__class__
    if value is None or cls is bool:
        return value
    if cls is str:
        return _utf8(value)  # type: ignore[arg-type]
    if cls is int:
        return value if value in _INT64 else {"$int": str(value)}
    if cls is float:
        return _float(value, floats)  # type: ignore[arg-type]
    if depth == 0:
        raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {_key(k): _plain(v, depth - 1, floats) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, depth - 1, floats) for v in value]
    return _tagged(value, depth, floats)


def _utf8(text: str) -> str:
    if not text.isascii():
        text.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    return text


def _float(value: float, keep: bool) -> Any:
    if math.isfinite(value):
        return value
    if not keep:
        raise ValueError(f"{value} is not a number that compares")
    return {"$float": str(value)}


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a dict has the key {short(key)}, which is not text")
    return _utf8(f"${key}" if key.startswith("$") else str(key))


def _tagged(value: object, depth: int, floats: bool) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value, depth - 1, floats)
    for cls, write in _WRITE:
        if isinstance(value, cls):
            return write(value)
    for base in (str, int, float):  # subclasses: the value is kept, the class is not
        if isinstance(value, base):
            return _plain(base(value), depth - 1, floats)
    raise TypeError(f"{short(value)} is a {type(value).__module__}.{type(value).__qualname__}")


def _bytes(value: Any) -> dict[str, str]:
    return {"$bytes": base64.b64encode(bytes(value)).decode()}


_WRITE: tuple[tuple[Any, Callable[[Any], dict[str, str]]], ...] = (  # datetime before date: it is one
    (datetime, lambda v: {"$datetime": v.isoformat()}),
    (date, lambda v: {"$date": v.isoformat()}),
    (time, lambda v: {"$time": v.isoformat()}),
    (Decimal, lambda v: {"$decimal": str(v)}),
    (UUID, lambda v: {"$uuid": str(v)}),
    ((bytes, bytearray, memoryview), _bytes),
)
_READ: dict[str, Callable[[str], Any]] = {
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$decimal": Decimal,
    "$uuid": UUID,
    "$bytes": lambda t: base64.b64decode(t, validate=True),
    "$int": int,
    "$float": float,
}


def _untag(key: str, text: str) -> Any:
    """Foreign JSON may look like a tag and not be one: then it stays what it is."""
    try:
        return _READ[key](text)
    except (ValueError, ArithmeticError):
        return {key: text}
