"""The kinds of values that settings have, and how they are read: from texts (options, variables) and from `config.yaml`."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from typing import Any

import msgspec

from anchovies.core.errors import ConfigError
from anchovies.core.suggest import did_you_mean

TRUE, FALSE = ("1", "true", "yes"), ("0", "false", "no")
_UNITS = {
    "": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "kb": 1000, "m": 1 << 20, "mib": 1 << 20, "mb": 10**6,
    "g": 1 << 30, "gib": 1 << 30, "gb": 10**9, "tib": 1 << 40, "tb": 10**12,
}  # fmt: skip
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_BATCHES = re.compile(r"(\d+)\s+batch(?:es)?", re.IGNORECASE)
_CLASS = re.compile(r"[\w./~-]+(:[\w.]+)?")


class _Wrong(Exception):
    """The value is not of the kind; the message says what is wrong if `wants` does not."""


class Kind(msgspec.Struct, frozen=True):
    """One type of setting. `wants` completes "expected …"; `metavar` stands for the value in the help."""

    name: str
    metavar: str
    wants: str
    read: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    choices: tuple[str, ...] = ()

    def parse(self, value: Any, where: str) -> Any:
        """The value, converted. Raises ConfigError that names `where` (a variable, an option, or a key's path)."""
        try:
            return self.read(value)
        except (_Wrong, ValueError, OverflowError):
            hint = did_you_mean(value, self.choices) if self.choices and isinstance(value, str) else None
            raise ConfigError(f"{where}: expected {self.wants}, got {_brief(value)}", hint=hint) from None


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise _Wrong
    return value


def _place(value: Any) -> str:
    text = _text(value)
    return text if "://" in text else os.path.expanduser(text)


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _Wrong
    return int(value)


def _count(value: Any) -> int:
    if (number := _int(value)) < 0:
        raise _Wrong
    return number


def _some(value: Any) -> int:
    if (number := _int(value)) < 1:
        raise _Wrong
    return number


def _batches(value: Any) -> int:
    if isinstance(value, str) and (m := _BATCHES.fullmatch(value.strip())):
        value = m[1]
    if (number := _int(value)) < 1:
        raise _Wrong
    return number


def _bool(value: Any) -> bool:
    text = str(value).strip().lower() if isinstance(value, bool | int | str) else ""
    if text in TRUE or text in FALSE:
        return text in TRUE
    raise _Wrong


def _amount(value: Any, units: dict[str, Any]) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        amount = float(value)
    elif isinstance(value, str) and (m := _AMOUNT.fullmatch(value.strip())) and m[2].lower() in units:
        amount = float(m[1]) * units[m[2].lower()]
    else:
        raise _Wrong
    if not math.isfinite(amount) or amount < 0:
        raise _Wrong
    return amount


def _bytes(value: Any) -> int:
    amount = _amount(value, _UNITS)
    if amount != int(amount) or amount < 1:
        raise _Wrong
    return int(amount)


def _duration(value: Any) -> float:
    return _amount(value, _SECONDS)


def _positive(value: Any) -> float:
    if (seconds := _duration(value)) <= 0:
        raise _Wrong
    return seconds


def _list(value: Any) -> tuple[str, ...]:
    items: Any = value
    if isinstance(value, str):
        items = json.loads(value) if value.lstrip().startswith("[") else [p.strip() for p in value.split(",") if p.strip()]
    if not isinstance(items, list | tuple) or not all(isinstance(i, str) and i for i in items):
        raise _Wrong
    return tuple(dict.fromkeys(items))


def _class(value: Any) -> Any:
    if isinstance(value, type):  # `anchovies.run(Orders)` hands the class itself
        return value
    if not _CLASS.fullmatch(_text(value)):
        raise _Wrong
    return value


def choice(*choices: str) -> Kind:
    """One of a few words."""

    def read(value: Any) -> str:
        text = _text(value).lower()
        if text not in choices:
            raise _Wrong
        return text

    return Kind("choice", "|".join(choices), f"one of {', '.join(choices)}", read, choices=choices)


def show_bytes(value: Any) -> str:
    """`64 MiB`."""
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= size and value % size == 0:
            return f"{value // size} {unit}"
    return f"{value}"


def show_duration(value: Any) -> str:
    """`15m`, `90s`, `0.5s`."""
    for size, unit in ((3600, "h"), (60, "m")):
        if value >= 2 * size and value % size == 0:
            return f"{int(value // size)}{unit}"
    return f"{value:g}s"


def _show_class(value: Any) -> str:
    return f"{value.__module__}:{value.__qualname__}" if isinstance(value, type) else str(value)


TEXT = Kind("text", "TEXT", "a text", _text)
PLACE = Kind("place", "PLACE", "a path or a URI", _place)
INT = Kind("int", "N", "a whole number", _int)
COUNT = Kind("count", "N", "a whole number, 0 or more", _count)
SOME = Kind("count", "N", "a whole number, 1 or more", _some)
BATCHES = Kind(
    "batches", "N", "a number of batches, 1 or more, such as 3 or '3 batches'", _batches, lambda v: f"{v} batch{'es' * (v > 1)}"
)
BOOL = Kind("bool", "", "true or false (or 1/0, yes/no)", _bool, lambda v: "true" if v else "false")
BYTES = Kind("bytes", "SIZE", "a size such as '64 MiB' or a number of bytes", _bytes, show_bytes)
DURATION = Kind("duration", "TIME", "a time such as 90, '90s', '15m' or '2h'", _duration, show_duration)
POSITIVE_DURATION = Kind("duration", "TIME", "a time above 0 such as 90, '90s', '15m' or '2h'", _positive, show_duration)
LIST = Kind("list", "NAME", "a list of texts, or texts separated by commas", _list, ", ".join)
CLASS = Kind(
    "class", "CLASS", "a plugin path such as sftp.CsvDownloader, or mypkg.mod:Cls, or ./file.py:Cls", _class, _show_class
)
