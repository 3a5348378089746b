"""What a run came to."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["ok", "failed", "timeout", "skipped", "interrupted"]


class TableResult(msgspec.Struct, kw_only=True):
    """One table in one batch. `rows` were yielded by the source (or handed to the target), `kept` were committed (or loaded),
    `rejected` were committed as rejects."""

    tbl: str
    status: Literal["ok", "failed", "timeout", "interrupted"] = "ok"
    rows: int = 0
    kept: int = 0
    rejected: int = 0
    bytes: int = 0
    files: int = 0
    commits: int = 0
    duration_ms: int = 0
    counts: dict[str, int] = {}
    warnings: list[str] = []
    err_type: str | None = None
    err_msg: str | None = None
    hint: str | None = None


class SessionResult(msgspec.Struct, kw_only=True):
    """One session. `slot`: how far its log is; `commits`: how many of them this session made."""

    status: Status
    exit_code: int
    anchovy_id: str
    anchovy_user: str
    session_id: str
    operator: str
    datastore: str
    batches: int = 0
    commits: int = 0
    slot: int = 0
    tables: list[TableResult] = []
    warnings: list[str] = []
    err_type: str | None = None
    err_msg: str | None = None
    hint: str | None = None
    started_at: str = ""
    duration_ms: int = 0

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    @property
    def rows(self) -> int:
        """Rows kept (or loaded) over all tables."""
        return sum(t.kept for t in self.tables)
