"""Rows in logs, for who asked for them (`--log-rows`): the first of each table in a batch, as they are kept."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from anchovies.engine.services import Services

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 10


def tell_rows(services: Services, tbl: str, batch: pa.RecordBatch, told: int = 0) -> int:
    """Tell the first rows of `batch`, if it was asked for and fewer than `MOST` were told; how many were told by now."""
    if not services.settings.log_rows or told >= MOST:
        return told
    rows = import_module("anchovies.core.schema").batch_to_rows(batch.slice(0, MOST - told))
    services.tell("rows", tbl, rows=services.redact(rows))
    return told + len(rows)
