"""What is looked at in the rows of a table while they pass: do keys and order make sense in them?"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from anchovies.core.errors import ConfigError
from anchovies.core.suggest import did_you_mean
from anchovies.core.tbl import Tbl

_NUMBER = r"^[+-]?[0-9]+([.][0-9]+)?$"


class ColumnCheck:
    """Checks the first batch with rows of one table. Raises ConfigError that names the table, the column and the way out."""

    def __init__(self, tbl: Tbl) -> None:
        self._tbl = tbl
        self._sort = {k.column for k in tbl.sort_by}
        self._named = dict.fromkeys([*tbl.unique_by, *tbl.set_by, *(k.column for k in tbl.sort_by)])
        self._done = not self._named

    def look(self, batch: pa.RecordBatch) -> None:
        if self._done or not batch.num_rows:
            return
        self._done = True
        for name in self._named:
            if name not in batch.schema.names:
                where = "unique_by" if name in self._tbl.unique_by else "set_by" if name in self._tbl.set_by else "sort_by"
                raise ConfigError(
                    f"tbls.{self._tbl.name}.{where}: there is no column {name!r}",
                    hint=did_you_mean(name, batch.schema.names) or f"its columns: {', '.join(batch.schema.names)}",
                    tbl=self._tbl.name,
                )
            if name in self._sort and pa.types.is_string(batch.schema.field(name).type):
                self._refuse_numbers(name, batch.column(name))

    def _refuse_numbers(self, name: str, column: pa.Array) -> None:
        """Text that looks like numbers sorts '10' before '9': say so instead of keeping the wrong row."""
        values = pc.drop_null(column)
        values = values.filter(pc.not_equal(values, ""))
        if not len(values) or not pc.all(pc.match_substring_regex(values, _NUMBER)).as_py():
            return
        two = ", ".join(repr(v) for v in pc.unique(values)[:2].to_pylist())
        raise ConfigError(
            f"tbls.{self._tbl.name}.sort_by: {name!r} is text, but its values look like numbers ({two}): they would sort as text",
            hint=f"say what it is, `columns: {{{name}: int}}`, or let types be inferred: `autodiscover: true`",
            tbl=self._tbl.name,
        )
