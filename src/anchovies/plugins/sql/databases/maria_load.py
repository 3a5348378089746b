"""Rows as `LOAD DATA` reads them: put together by Arrow, a line a row, texts with backslashes before what means something."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anchovies.plugins.sql.database import Col
from anchovies.plugins.sql.rows import Checks, as_text, checked, unit_ids
from anchovies.sdk import Load, RowError

if TYPE_CHECKING:
    import pyarrow as pa

_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\x00", "\\0"))
_AS_IT_IS = ("int", "float", "bool", "date", "time", "datetime", "decimal", "uuid")
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, in days from 1970


@dataclass
class Counted:
    rows: int = 0


def blocks(load: Load, columns: Sequence[Col], checks: Checks, extra: tuple[bool, bool]) -> tuple[Counted, Iterator[memoryview]]:
    """The lines of a load, and how many there were when they are all read."""
    counted = Counted()
    return counted, _blocks(load, columns, checks, extra, counted)


def _blocks(
    load: Load, columns: Sequence[Col], checks: Checks, extra: tuple[bool, bool], counted: Counted
) -> Iterator[memoryview]:
    import pyarrow as pa

    for file, offset, batch in checked(load.files, checks):
        start, rows = file.seq + offset, batch.num_rows
        texts = [_text(batch.column(c.source), c, load) for c in columns]
        if extra[0]:
            texts.append(pa.array(range(start, start + rows), pa.int64()).cast(pa.string()))
        if extra[1]:
            texts.append(pa.array(unit_ids(file, offset, rows), pa.int64()).cast(pa.string()))
        counted.rows += rows
        yield _lines(texts)


def _lines(texts: list[pa.Array]) -> memoryview:
    import pyarrow as pa
    import pyarrow.compute as pc

    joined = pc.binary_join_element_wise(*texts, "\t", null_handling="replace", null_replacement="\\N")
    ends = pc.binary_replace_slice(joined, 1 << 40, 1 << 40, "\n")
    _, offsets, data = ends.buffers()
    bounds = memoryview(offsets).cast("i")
    assert ends.offset == 0 and pa.types.is_string(ends.type)
    return memoryview(data)[bounds[0] : bounds[len(ends)]]


def _text(column: pa.Array, col: Col, load: Load) -> pa.Array:
    """A column as text. Raises RowError for what MariaDB has no word for."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = col.type.kind
    if kind == "bytes":
        return pa.array([None if v is None else v.hex() for v in column.to_pylist()], pa.string())
    if kind == "float" and not pc.all(pc.is_finite(column), min_count=0).as_py():
        raise _refused(
            load, col, "a number that is NaN or infinite", "make it null at the source, or give the column the type str"
        )
    if kind in ("date", "datetime", "datetime_tz"):
        _check_years(column, col, load)
    if kind == "datetime_tz":
        column = column.cast(pa.timestamp("us"))
    if kind == "bool":
        column = column.cast(pa.int8())
    if kind == "decimal" and col.sql.startswith("decimal"):
        return column.cast(pa.string())
    text = as_text(column, col.type)
    text = text if pa.types.is_string(text.type) else text.cast(pa.string())
    return text if kind in _AS_IT_IS else _escaped(text)


def _escaped(text: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    for mark, written in _ESCAPES:
        if pc.any(pc.match_substring(text, mark), min_count=0).as_py():
            text = pc.replace_substring(text, mark, written)
    return text


def _check_years(column: pa.Array, col: Col, load: Load) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if col.type.kind == "date":
        days, unit = column.cast(pa.int32()).cast(pa.int64()), 1
    else:
        days, unit = column.cast(pa.int64()), 86_400_000_000
    ends: dict[str, Any] = pc.min_max(days).as_py()
    if ends["min"] is not None and not _FIRST_DAY * unit <= ends["min"] <= ends["max"] < (_LAST_DAY + 1) * unit:
        raise _refused(
            load, col, "a moment outside of the years 1 to 9999", "give the column the type str, or mend it at the source"
        )


def _refused(load: Load, col: Col, what: str, hint: str) -> RowError:
    tbl = load.target.tbl.name
    return RowError(
        f"tbl {tbl}: column {col.source!r} has {what}, which MariaDB cannot keep", hint=hint, tbl=tbl, column=col.source
    )


def expression(col: Col, variable: str) -> str:
    """How the text of a line becomes the column's value."""
    return f"UNHEX({variable})" if col.type.kind == "bytes" else variable
