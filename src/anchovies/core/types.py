"""The column types of anchovies, and how two of them join without loss."""

from __future__ import annotations

import re

import msgspec

from anchovies.core.errors import ConfigError

SIMPLE = ("null", "bool", "int", "float", "str", "bytes", "date", "time", "datetime", "uuid", "json")
ALIASES = {
    "string": "str", "text": "str", "integer": "int", "bigint": "int", "double": "float", "boolean": "bool",
    "binary": "bytes", "timestamp": "datetime", "object": "json", "timestamptz": "datetime(tz)", "decimal": "decimal(38,9)",
    "numeric": "decimal(38,9)",
}  # fmt: skip


class ColType(msgspec.Struct, frozen=True):
    """One type. `kind` is one of `SIMPLE`, or `decimal` (precision, scale), `datetime_tz`, `list` (item)."""

    kind: str
    precision: int = 0
    scale: int = 0
    item: ColType | None = None

    def __str__(self) -> str:
        if self.kind == "decimal":
            return f"decimal({self.precision},{self.scale})"
        if self.kind == "datetime_tz":
            return "datetime(tz)"
        return f"list[{self.item}]" if self.kind == "list" else self.kind


NULL, BOOL, INT, FLOAT, STR, BYTES, DATE, TIME, DATETIME, UUID, JSON = (ColType(k) for k in SIMPLE)
DATETIME_TZ = ColType("datetime_tz")


def decimal(precision: int, scale: int) -> ColType:
    """`decimal(precision, scale)`; precision up to 76. Raises ConfigError."""
    if not (1 <= precision <= 76 and 0 <= scale <= precision):
        raise ConfigError(f"decimal({precision},{scale}) is not possible: 1 <= precision <= 76, 0 <= scale <= precision")
    return ColType("decimal", precision, scale)


def list_of(item: ColType) -> ColType:
    return ColType("list", item=item)


_DECIMAL = re.compile(r"(?:decimal|numeric)\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")


def parse_type(text: str) -> ColType:
    """`"decimal(18,2)"` → ColType. Raises ConfigError that lists what there is."""
    t = " ".join(text.strip().lower().split())
    t = ALIASES.get(t, t)
    if t in SIMPLE:
        return ColType(t)
    if m := _DECIMAL.fullmatch(t):
        return decimal(int(m[1]), int(m[2] or 0))
    if t in ("datetime(tz)", "datetime_tz"):
        return DATETIME_TZ
    if t.startswith("list[") and t.endswith("]"):
        return list_of(parse_type(t[5:-1]))
    raise ConfigError(
        f"unknown column type {text!r}",
        hint="types: str int float bool datetime date time bytes object decimal(p,s) datetime(tz) uuid json list[…]",
    )


def join(a: ColType, b: ColType, *, from_text: bool = False) -> ColType:
    """The narrowest type that holds both without loss; `json` where nothing else does, or `str` where every value was text before
    its type was inferred (`from_text`).

    int widens to decimal(38,0) and then decimal(76,0) (the caller knows the values); int and float join to float,
    and whoever converts refuses an int that a float cannot hold.
    """
    if a == b or b.kind == "null":
        return a
    if a.kind == "null":
        return b
    kinds = {a.kind, b.kind}
    if kinds == {"int", "float"}:
        return FLOAT
    if kinds <= {"int", "decimal"}:
        wide = _join_decimals(a, b)
        return STR if from_text and wide == JSON else wide
    if a.item is not None and b.item is not None:
        return list_of(join(a.item, b.item, from_text=from_text))
    return STR if from_text and "json" not in kinds and "bytes" not in kinds else JSON


def _join_decimals(a: ColType, b: ColType) -> ColType:
    wide = [ColType("decimal", 19, 0) if t.kind == "int" else t for t in (a, b)]
    scale = max(t.scale for t in wide)
    digits = max(t.precision - t.scale for t in wide)
    return ColType("decimal", digits + scale, scale) if digits + scale <= 76 else JSON
