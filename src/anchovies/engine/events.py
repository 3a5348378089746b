"""What the engine tells whoever watches: frozen events, one listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

Kind = Literal[
    "session_started",  # session, operator, anchovy, datastore, tables (names)
    "batch_started",  # batch
    "task_started",  # task_type, tbl
    "progress",  # tbl, rows, bytes (totals of the task so far), position (text or None)
    "committed",  # tbl, rows, bytes, slot
    "loaded",  # tbl, rows, bytes, counts, slot (an uploader's transaction)
    "task_ended",  # task_type, tbl, status OK/ERR, duration_ms, rows, kept, err_msg, hint, error (the exception)
    "rows",  # tbl, rows (dicts, as they are kept): only with `log_rows`
    "warning",  # tbl or None, message
    "reloaded",  # file, changed (names of settings, `tbls`, `schemas`): the configuration of a service was read again
    "woken",  # upstreams: what ended a pause
    "batch_ended",  # batch
    "session_ended",  # result: SessionResult
]


class Event(msgspec.Struct, frozen=True):
    """One thing that happened. `data` has the fields named beside each kind; never a secret, and a row only in `rows`."""

    kind: Kind
    tbl: str | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)


Listener = Callable[[Event], None]
"""Called from any thread, quickly: it must neither block nor raise."""


def silent(event: Event) -> None:
    """The listener of those who do not watch."""
