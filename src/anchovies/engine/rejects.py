"""Rejects of one table: rows that cannot be kept, with what is wrong and where they stood, committed with the unit they are of.

They lie under `$results/rejects/`, in JSON lines like any data file, and are named by the record of their commit. What is masked
in the table is `***` here, what it leaves out is left out, and a line of text of such a table is not kept at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anchovies.core.retry import Retry
from anchovies.core.schema import rows_to_batch
from anchovies.core.tbl import Tbl
from anchovies.core.types import INT, JSON, STR
from anchovies.core.values import to_json
from anchovies.engine.actions import Rejected
from anchovies.engine.services import Services
from anchovies.engine.writer import TableWriter
from anchovies.store.buffers import buffer_named
from anchovies.store.record import DataFile

TYPES = {"file": STR, "line": INT, "column": STR, "reason": STR, "row": JSON}
_TOGETHER = 500  # rows that become one batch
_LONGEST = 200  # characters of a value that has no form of its own


class Rejects:
    """Not thread-safe: its pipe owns it. Units as in the writer of the table itself."""

    def __init__(self, tbl: Tbl, services: Services, retry: Retry) -> None:
        self._tbl, self._redact = tbl, services.redact
        log = services.log
        self._writer = TableWriter(
            services.store, Tbl(tbl.name), buffer_named("jsonl"), lambda tbl, ext: log.new_rejects_key(tbl), TYPES, retry
        )
        self._waiting: list[dict[str, Any]] = []

    def add(self, bad: Rejected) -> None:
        said = {"file": bad.file, "line": bad.line, "column": bad.column, "reason": bad.reason}
        self._waiting.append({**self._redact(said), "row": self._redact(_kept(self._tbl, bad.row))})
        if len(self._waiting) >= _TOGETHER:
            self._pass()

    def _pass(self) -> None:
        rows, self._waiting = self._waiting, []
        if rows:
            self._writer.add(rows_to_batch(rows, TYPES))

    def mark(self) -> None:
        self._pass()
        self._writer.mark()

    def discard(self) -> int:
        """Drop those of the open unit; how many they were."""
        self._pass()
        return self._writer.discard()

    def finish(self) -> list[DataFile]:
        return self._writer.finish()

    def committed(self) -> None:
        self._writer.committed()

    def close(self, *, keep_files: bool = False) -> None:
        self._writer.abandon(keep_files=keep_files)


def _kept(tbl: Tbl, row: object) -> Any:
    """A row as it may be shown."""
    if not isinstance(row, Mapping):
        return None if tbl.mask or tbl.exclude else _plain(row)
    out = {}
    for name, value in row.items():
        new = tbl.rename.get(name, name)
        if name not in tbl.exclude:
            out[str(new)] = "***" if new in tbl.mask and value is not None else _plain(value)
    return _plain(out)


def _plain(value: Any) -> Any:
    """The value, or its description where JSON has no form for it."""
    try:
        to_json(value)
    except (ValueError, TypeError):
        try:
            return ascii(value)[:_LONGEST]
        except Exception:
            return f"a {type(value).__name__}"
    return value
