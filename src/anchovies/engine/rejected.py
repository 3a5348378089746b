"""Reading rejects again: which rows could not be kept, in the order of the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from anchovies.core.tblconfig import match_tables
from anchovies.store.base import Store
from anchovies.store.datafile import read_batches
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.record import DataFile


def rejected(store: Store, home: Home, enabled: Sequence[str] = (), disabled: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Every reject that was not retired with its table's data: `tbl, slot, at, file, line, column, reason, row`.

    `enabled`, `disabled` pick tables. Raises ConfigError for a pattern that matches none, CorruptDatastore.
    """
    reader = Reader(store, home)
    state = reader.state()
    found = [(r, f) for r in reader.records(0, "") for f in r.change.rejects if r.slot > state.retired.get(f.table, 0)]
    every = dict.fromkeys([*state.tables, *(f.table for _, f in found)])  # one that is not kept has rejects as well
    wanted = match_tables(list(every), enabled, disabled)
    for record, file in found:
        for row in _rows(store, file) if file.table in wanted else ():
            yield {"tbl": file.table, "slot": record.slot, "at": record.at, **row}


def _rows(store: Store, file: DataFile) -> Iterator[dict[str, Any]]:
    to_rows = import_module("anchovies.core.schema").batch_to_rows
    return (row for batch in read_batches(store, file) for row in to_rows(batch))
