"""What is looked at in the rows of a table while they pass: do keys and order make sense in them?"""

from __future__ import annotations

import pyarrow as pa

from anchovies.core.shape import check_keys, check_sort_values
from anchovies.core.tbl import Tbl


class ColumnCheck:
    """Checks the first batch with rows of one table. Raises ConfigError that names the table, the column and the way out."""

    def __init__(self, tbl: Tbl) -> None:
        self._tbl = tbl
        self._done = False

    def look(self, batch: pa.RecordBatch) -> None:
        if not self._done and batch.num_rows:
            self._done = True
            check_keys(self._tbl, batch.schema.names)
            check_sort_values(self._tbl, batch)
