"""A context for calling sources as plain functions: it records what they yield, mark, drop and say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from anchovies.core.errors import RowError
from anchovies.sdk.context import entered
from anchovies.sdk.session import Batch, Session


class FakeLedger:
    """A ledger in memory; each change marks all rows that were recorded before it."""

    def __init__(self, ctx: FakeContext, entries: dict[str, Any]) -> None:
        self._ctx, self.entries = ctx, entries

    def get(self, key: str) -> Any:
        return self.entries.get(key)

    def put(self, key: str, value: Any) -> None:
        self.entries[key] = value
        self._ctx.mark()

    def delete(self, key: str) -> None:
        self.entries.pop(key, None)
        self._ctx.mark()

    def __contains__(self, key: object) -> bool:
        return key in self.entries

    def __len__(self) -> int:
        return len(self.entries)


class FakeCheckpoint:
    """A checkpoint in memory."""

    def __init__(self, ctx: FakeContext, key: str) -> None:
        self._ctx, self.key = ctx, key

    def get(self, default: Any = None) -> Any:
        return self._ctx.checkpoints.get(self.key, default)

    def set(self, value: Any) -> None:
        self._ctx.checkpoints[self.key] = value
        self._ctx.mark()

    def delete(self) -> None:
        self._ctx.checkpoints.pop(self.key, None)
        self._ctx.mark()


class FakeSession(Session):
    """The session of nobody in particular."""

    def __init__(self) -> None:
        super().__init__("20260101T000000Z-000000", "fake", "tester")


class FakeBatch(Batch):
    """A batch without a deadline. Set `stop` to an error to make `check` raise it."""

    def __init__(self) -> None:
        super().__init__(1, self)
        self.left: float | None = None
        self.stop: BaseException | None = None

    def time_left(self) -> float | None:
        return self.left

    def check(self) -> None:
        if self.stop:
            raise self.stop


class FakeTask:
    """Keeps what is added to its data."""

    type, tbl = "TBL", None

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    def with_(self, **data: Any) -> FakeTask:
        self.data.update(data)
        return self


class FakeContext:
    """`run(source_call)` gives the rows that would be committed; `units` has them unit by unit.

    Rows after the last mark are a unit of their own when the source ends well, and are dropped when it raises.
    """

    def __init__(self) -> None:
        self.session, self.batch, self.task = FakeSession(), FakeBatch(), FakeTask()
        self.connections: dict[str, Any] = {}
        self.checkpoints: dict[str, Any] = {}
        self.ledgers: dict[str, dict[str, Any]] = {}
        self.units: list[list[Any]] = []
        self.open: list[Any] = []
        self.discards = 0
        self.acks: list[str] = []
        self.receipts: list[dict[str, Any]] = []
        self.rejecting = True
        self.rejects: list[dict[str, Any]] = []
        self.bytes_read = 0
        self.positions: list[str] = []
        self.warnings: list[str] = []

    def checkpoint(self, key: str) -> FakeCheckpoint:
        return FakeCheckpoint(self, key)

    def ledger(self, tbl: str) -> FakeLedger:
        return FakeLedger(self, self.ledgers.setdefault(tbl, {}))

    def mark(self) -> None:
        if self.open:
            self.units.append(self.open)
        self.open = []

    def ack(self, token: str) -> None:
        self.acks.append(token)
        self.mark()

    def receipt(self, name: str, **said: Any) -> None:
        self.receipts.append({"name": name, **said})
        self.mark()

    def reject(
        self,
        row: Mapping[str, Any] | str | None,
        reason: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: str | None = None,
    ) -> None:
        if not self.rejecting:
            raise RowError(reason, file=file, line=line, column=column)
        self.rejects.append({"row": row, "reason": reason, "file": file, "line": line, "column": column})

    def discard(self) -> None:
        self.open = []
        self.discards += 1

    def progress(self, **data: Any) -> None:
        self.bytes_read += data.get("bytes_read", 0)
        self.positions += [data["position"]] if "position" in data else []
        self.warnings += [data["warning"]] if "warning" in data else []

    def run(self, yields: Iterable[Any]) -> list[dict[str, Any]]:
        """Take everything a source yields, as the engine would; the rows of all units. What the source raises passes through."""
        self.units, self.open = [], []
        with entered(self):
            try:
                for item in yields:
                    self.open.append(item)
                self.mark()
            finally:
                self.open = []
        return self.rows

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Committed rows as dicts."""
        return [row for unit in self.units for item in unit for row in _rows(item)]


def _rows(item: Any) -> list[dict[str, Any]]:
    if isinstance(item, dict):
        return [item]
    if isinstance(item, list):
        return item
    found: list[dict[str, Any]] = item.to_pylist()
    return found
