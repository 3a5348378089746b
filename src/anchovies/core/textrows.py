"""Rows of nothing but texts: kept as lines of one text while they wait, and cut into columns by Arrow's reader of such lines.

This is what every text source yields, so it has a road of its own: a block of a few hundred rows is put away while it is still in
the processor's cache, and its dicts and strings are free again. What comes out is exactly what `rows_to_batch` makes of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from operator import countOf, itemgetter
from typing import Any
from weakref import WeakSet

import pyarrow as pa

from anchovies.core.schema import Row, columns_to_batch
from anchovies.core.types import ColType

_CELL, _LINE = "\x1f", "\n"
_MARKS = b"\x1f\n\r"  # all that means something to the reader
_MOST = 1 << 30  # bytes; Arrow counts in 32 bits here


class TextRows:
    """Grows by blocks of rows that are all alike: dicts with the same keys, and every value a plain str."""

    def __init__(self, declared: Mapping[str, ColType]) -> None:
        self.count = 0
        self._declared = declared
        self._never = any(t.kind == "json" or t.item is not None for t in declared.values())
        self._names: list[str] = []
        self._lines: list[bytes] = []
        self._size = 0

    def take(self, rows: Sequence[Row]) -> bool:
        """Keep these rows as well. False: they are not alike, and nothing was kept."""
        names = self._names or ([] if self._never else _names_of(rows[0]))
        lines = _lines_of(rows, names) if names else None
        if lines is None or self._size + len(lines) > _MOST:
            return False
        self._names = names
        self._lines.append(lines)
        self._size += len(lines)
        self.count += len(rows)
        return True

    def rows(self) -> list[Row]:
        """All rows, as dicts again."""
        lines = b"".join(self._lines).decode().split(_LINE)[:-1]
        return [dict(zip(self._names, line.split(_CELL)[1:-1], strict=True)) for line in lines]

    def batch(self, *, first_row: int = 0) -> pa.RecordBatch:
        """What `rows_to_batch` makes of the rows, errors included."""
        columns = _columns(b"".join(self._lines), len(self._names))
        assert {len(c) for c in columns} == {self.count}
        return columns_to_batch(dict(zip(self._names, columns, strict=True)), self.count, self._declared, first_row=first_row)


def _names_of(row: Row) -> list[str]:
    """The keys of a row that may be kept as text; none where one look tells that it may not."""
    names = list(row)
    plain = type(row) is dict and len(names) > 1 and {*map(type, names), *map(type, row.values())} == {str}
    return names if plain and all(names) else []


def _lines_of(rows: Sequence[Row], names: list[str]) -> bytes | None:
    """One line a row, with a separator before and after each value; None where a line would not say the same as its row."""
    count = len(rows)
    if countOf(map(type, rows), dict) != count or countOf(map(len, rows), len(names)) != count:
        return None
    cells: list[Any] = [""]
    try:
        for values in map(itemgetter(*names), rows):
            cells += values
            cells.append(_LINE)
        text = _CELL.join(cells).encode()
    except (KeyError, TypeError, UnicodeEncodeError):
        return None  # other keys, something else than a text, or a text that cannot be kept
    if _enums_differ() and countOf(map(type, cells), str) != len(cells):
        return None
    marks = len(text) - len(text.translate(None, _MARKS))
    return text if marks == count * (len(names) + 2) else None  # there are no more than were put there


def _enums_differ() -> bool:
    """Whether this process knows enums whose members are texts, but stand for another value.

    Only then the class of a text can matter; and to look at the class of each costs more than to join them.
    """
    classes = list(str.__subclasses__())
    for cls in classes:
        classes += cls.__subclasses__()
    return any(_differs(cls) for cls in classes if cls not in _harmless)


_harmless: WeakSet[type] = WeakSet()


def _differs(cls: type) -> bool:
    if issubclass(cls, Enum):
        if any(type(m.value) is not str or m.value != str.__str__(m) for m in cls):
            return True
        if "_missing_" in {name for c in cls.__mro__ if c is not Enum for name in vars(c)}:
            return True  # it makes members of its own, nobody knows which
    _harmless.add(cls)
    return False


def _columns(lines: bytes, count: int) -> list[pa.Array]:
    """The values of each column. All of it happens in Arrow, without the interpreter's lock."""
    from pyarrow import csv  # only here: most runs have no rows of texts

    names, parse, convert = _options(count)
    read = csv.ReadOptions(use_threads=False, column_names=names, block_size=len(lines) + 1)  # each column is one array
    table = csv.read_csv(pa.BufferReader(lines), read, parse, convert)
    return [column.chunk(0) for column in table.columns]


@lru_cache(maxsize=16)
def _options(count: int) -> tuple[list[str], Any, Any]:
    """How the lines are read: nothing in them means anything but the separators; the ends of a line are no columns."""
    from pyarrow import csv

    names = [str(i) for i in range(count + 2)]
    parse = csv.ParseOptions(delimiter=_CELL, quote_char=False, double_quote=False, escape_char=False, ignore_empty_lines=False)
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), include_columns=names[1:-1], null_values=[], check_utf8=False
    )
    return names, parse, convert
