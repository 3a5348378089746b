"""What is checked, and what is turned into text, on the way from Arrow into a database."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from anchovies.sdk import ColType, ConfigError, CorruptDatastore, LoadFile, RowError, Tbl

if TYPE_CHECKING:
    import pyarrow as pa

_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")


class Checks:
    """Looks at every batch of a load: keys without nulls, and a text in `sort_by` that is no number in disguise."""

    pattern = _NUMBER.pattern

    def __init__(self, tbl: Tbl) -> None:
        self.tbl = tbl
        keyed = tbl.write_mode != "append"
        self.keys = tuple(dict.fromkeys((*tbl.unique_by, *tbl.set_by))) if keyed else ()
        texts = [k.column for k in tbl.sort_by if k.column in tbl.types and tbl.types[k.column].kind == "str"]
        self._numbers: dict[str, list[str]] = {name: [] for name in texts} if keyed else {}
        self.suspects = frozenset(self._numbers)

    def see(self, batch: pa.RecordBatch, seq: int) -> None:
        """Raises RowError for a null in a key; `seq` is the `_seq` of the first row."""
        for name in self.keys:
            column = batch.column(name)
            if column.null_count:
                self._null(batch, name, seq, column.is_null().to_pylist().index(True))
        for name in list(self._numbers):
            self._look(name, batch.column(name).to_pylist())

    def done(self) -> None:
        """Raises ConfigError for a text of `sort_by` all of whose values look like numbers."""
        for name, seen in self._numbers.items():
            self.refuse_numbers(name, seen)

    def refuse_numbers(self, name: str, seen: Sequence[str]) -> None:
        """`seen`: two values of the text column `name`, which all look like numbers; fewer are no reason."""
        if len(seen) == 2:
            raise ConfigError(
                f"tbl {self.tbl.name}: sort_by {name!r} is text, but its values look like numbers ({seen[0]!r}, {seen[1]!r}); "
                "as text, 9 comes after 10",
                hint=f"give it a type: `columns: {{{name}: int}}`, or `autodiscover: true`",
                tbl=self.tbl.name,
                column=name,
            )

    def _look(self, name: str, values: list[str | None]) -> None:
        seen = self._numbers[name]
        for value in values:
            if value is not None and not _NUMBER.fullmatch(value):
                del self._numbers[name]
                return
            if value is not None and len(seen) < 2 and value not in seen:
                seen.append(value)

    def _null(self, batch: pa.RecordBatch, name: str, seq: int, row: int) -> None:
        others = {k: batch.column(k)[row].as_py() for k in self.keys if k != name}
        self.null_key(name, seq + row, others)

    def null_key(self, name: str, seq: int, others: dict[str, object]) -> None:
        """Raises the RowError of a row without a value for the key column `name`."""
        beside = f" ({', '.join(f'{k} = {v!r}' for k, v in others.items())})" if others else ""
        raise RowError(
            f"tbl {self.tbl.name}: the row with _seq {seq}{beside} has no value for {name!r}, which is part of its key",
            hint="take another column as key, or keep such rows out at the source",
            tbl=self.tbl.name,
            column=name,
            seq=seq,
        )


def checked(files: Sequence[LoadFile], checks: Checks) -> Iterator[tuple[LoadFile, int, pa.RecordBatch]]:
    """(file, row offset in it, batch) of the whole load, every batch looked at."""
    for file in files:
        offset = 0
        for batch in file.batches():
            if batch.num_rows:
                checks.see(batch, file.seq + offset)
                yield file, offset, batch
            offset += batch.num_rows
        if offset != file.rows:
            raise CorruptDatastore(f"tbl {checks.tbl.name}: a file has {offset} rows instead of {file.rows}", tbl=checks.tbl.name)


def unit_ids(file: LoadFile, offset: int, rows: int) -> list[int]:
    """The unit of each of `rows` rows from `offset`."""
    starts = [*file.units, (file.rows, 0)]
    out: list[int] = []
    for (start, unit), (end, _) in pairwise(starts):
        out.extend([unit] * (min(end, offset + rows) - max(start, offset)))
    return out


def as_text(column: pa.Array, type: ColType) -> pa.Array:
    """Decimals (in their shortest form) and lists (as JSON) as an Arrow array of text; anything else as it is."""
    import pyarrow as pa

    turn = shortest if type.kind == "decimal" else _list_text if type.kind == "list" else None
    if turn is None or pa.types.is_string(column.type):
        return column
    return pa.array([None if v is None else turn(v) for v in column.to_pylist()], pa.string())


def shortest(value: Decimal) -> str:
    """`1.5` of 1.50: equal decimals are equal texts, whatever their scale."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _list_text(value: list[Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=_scalar, separators=(",", ":"))


def _scalar(value: object) -> str:
    if isinstance(value, Decimal):
        return shortest(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)


Turn = Callable[[list[Any]], list[Any]]


def sqlite_turn(type: ColType) -> Turn | None:
    """What turns the Python values of a column into what SQLite keeps; None: they are kept as they are."""
    each: dict[str, Callable[[Any], Any]] = {
        "bool": int,
        "float": lambda v: "NaN" if v != v else v,
        "date": date.isoformat,
        "time": lambda v: v.isoformat("microseconds"),
        "datetime": lambda v: v.isoformat(" ", "microseconds"),
        "datetime_tz": lambda v: v.isoformat(" ", "microseconds"),
        "decimal": shortest,
        "list": _list_text,
    }
    turn = each.get(type.kind)
    return None if turn is None else lambda values: [None if v is None else turn(v) for v in values]
