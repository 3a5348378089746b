"""Rows of a file that cannot be kept, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anchovies.sdk import Tbl


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that cannot be kept. `row`: its fields by name, or the text of its line."""

    row: Mapping[str, Any] | str
    reason: str
    line: int
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of rows that cannot be kept. `lines`: those with another number of fields are set aside; `values`: those
    whose values do not fit; `columns`: none but these may have values (None: any)."""

    lines: bool = False
    values: bool = False
    columns: frozenset[str] | None = None

    @classmethod
    def of(cls, tbl: Tbl) -> Rules:
        strict = tbl.schema == "reject"
        known = frozenset((*tbl.types, *tbl.exclude, *tbl.rename))
        rejects = tbl.on_bad_row == "reject"
        return cls(rejects, rejects or strict, known if strict and tbl.types else None)
