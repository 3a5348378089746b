"""Columns of text: what they hold, told without loss, and the same text as declared types.

Inference keeps what a person would miss: `007`, `+1`, `1e5` and ids of any length stay text or become exact numbers; a float is
one only where its text is what Python would print for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from anchovies.core.arrow import one_batch, row_error, schema_of, to_arrow
from anchovies.core.casts import Unfit, cast, characters, each
from anchovies.core.types import BOOL, DATE, DATETIME, DATETIME_TZ, FLOAT, INT, NULL, STR, TIME, ColType, decimal
from anchovies.core.values import from_json


def parse_text(data: pa.RecordBatch | pa.Table, types: Mapping[str, ColType], *, first_row: int = 0) -> pa.RecordBatch:
    """Text columns as declared types, strictly, in the order of `types`; absent ones are null, others follow as text.

    An empty text is not a null: the null markers were the reader's business. Raises RowError naming column, row (`where["row"]`:
    `first_row` + offset) and value.
    """
    batch = one_batch(data)
    place = {f.name: i for i, f in enumerate(batch.schema)}
    wanted = {**types, **{n: STR for n in batch.schema.names if n not in types}}
    arrays = []
    for name, t in wanted.items():
        try:
            arrays.append(_parsed(batch.column(place[name]), t) if name in place else pa.nulls(batch.num_rows, to_arrow(t)))
        except Unfit as e:
            raise row_error(name, t, e, first_row) from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(wanted))


def _parsed(array: pa.Array, t: ColType) -> pa.Array:
    """Text that is declared json is JSON already: it is checked, and kept byte for byte."""
    array = array if array.type == pa.string() else array.cast(pa.string())
    if t.kind != "json":
        return cast(array, STR, t, to_arrow(t))
    return each(array, _checked_json, to_arrow(t))


def _checked_json(text: str) -> str:
    from_json(text)
    return text


def infer_text(data: pa.RecordBatch | pa.Table) -> dict[str, ColType]:
    """The type of each text column, from all of its values. No loss: text wherever anything else would change a value."""
    batch = one_batch(data)
    return {f.name: _infer(batch.column(i)) for i, f in enumerate(batch.schema)}


def _infer(array: pa.Array) -> ColType:
    array = array.drop_null()
    if not len(array):
        return NULL
    array = array if array.type == pa.string() else array.cast(pa.string())
    first = array[0].as_py()
    for starts, tests in _TESTS:
        if first[:1] in starts:
            for test in tests:
                if (t := test(array)) is not None:
                    return t
    return STR


def _is_bool(array: pa.Array) -> ColType | None:
    pairs = (["true", "false"], ["True", "False"], ["TRUE", "FALSE"])
    return BOOL if any(_all(pc.is_in(array, pa.array(pair))) for pair in pairs) else None


def _all(mask: pa.Array) -> bool:
    return bool(pc.all(mask, min_count=0).as_py())


def _matches(array: pa.Array, pattern: str) -> bool:
    return _all(pc.match_substring_regex(array, pattern))


def _is_int(array: pa.Array) -> ColType | None:
    if characters(array).translate(None, b"0123456789-"):
        return None
    try:
        back = array.cast(pa.int64()).cast(pa.string())
    except pa.ArrowException:
        return _wide_int(array)
    return INT if back.equals(array) else None


def _wide_int(array: pa.Array) -> ColType | None:
    if not _matches(array, r"^(0|-?[1-9][0-9]*)$"):
        return None
    longest = max(pc.max(pc.binary_length(array)).as_py() - 1, 1)  # a sign may be one of them
    for digits in (38, 76):
        if longest < digits:
            return decimal(digits, 0)
    return None


def _is_float(array: pa.Array) -> ColType | None:
    if characters(array).translate(None, b"0123456789-+.enaif"):
        return None
    try:
        back = array.cast(pa.float64()).cast(pa.string())
    except pa.ArrowException:
        return None
    if not pc.any(pc.match_substring_regex(array, "[0-9]")).as_py():
        return None  # only NaN and infinities: that is text
    alike = pc.and_(pc.equal(array, back), pc.match_substring(array, "."))
    other = array.filter(pc.invert(alike))
    return FLOAT if all(map(_prints_alike, pc.unique(other).to_pylist())) else None


def _prints_alike(text: str) -> bool:
    """Arrow prints some floats in another way than Python; and a short integer beside floats is one of them."""
    number = float(text)
    return repr(number) == text or (abs(number) < 2**53 and number.is_integer() and str(int(number)) == text)


def _is_decimal(array: pa.Array) -> ColType | None:
    if not _matches(array, r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$") or pc.any(pc.match_substring_regex(array, r"^-0(\.0+)?$")).as_py():
        return None
    parts = pc.extract_regex(array, r"^-?(?P<whole>[0-9]+)\.?(?P<rest>[0-9]*)$")
    whole, rest = (pc.max(pc.binary_length(pc.struct_field(parts, n))).as_py() for n in ("whole", "rest"))
    return decimal(whole + rest, rest) if whole + rest <= 76 else None


def _formed(t: ColType, pattern: str) -> Callable[[pa.Array], ColType | None]:
    """A test: every text has this form, and is a real one (no 30th of February)."""

    def test(array: pa.Array) -> ColType | None:
        if not _matches(array, pattern):
            return None
        try:
            cast(array, STR, t, to_arrow(t))
        except Unfit:
            return None
        return t

    return test


_YEAR = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DAY = f"^{_YEAR}-[0-9]{{2}}-[0-9]{{2}}"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
_DIGIT = "0123456789"
_NUMBERS = (_is_int, _is_float, _is_decimal)
_TIMES = (
    _formed(DATE, f"{_DAY}$"),
    _formed(DATETIME, f"{_DAY}[ T]{_CLOCK}$"),
    _formed(DATETIME_TZ, f"{_DAY}[ T]{_CLOCK}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})$"),
    _formed(TIME, f"^{_CLOCK}$"),
)
_TESTS: tuple[tuple[str, tuple[Callable[[pa.Array], ColType | None], ...]], ...] = (
    ("tTfF", (_is_bool,)),
    (_DIGIT + "-ni", _NUMBERS),
    (_DIGIT, _TIMES),
)
