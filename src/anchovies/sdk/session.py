"""What `session()` and `batch()` give. `--session-cls` and `--batch-cls` name subclasses, with more attributes and methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from anchovies.core.tbl import Tbl


class Session:
    """One run of the process.

    A subclass may take an id of its own: one that begins with the `id` it was given, so that it stays unique and sorts by time.
    """

    def __init__(self, id: str, anchovy_id: str, user: str) -> None:
        self.id = id
        self.anchovy_id = anchovy_id
        self.user = user


class Limits(Protocol):
    """What ends a batch early: the engine's."""

    def time_left(self) -> float | None: ...
    def check(self) -> None: ...


class Batch:
    """One loop of a session. `tbls`: its active tables, by name, once they are known."""

    tbls: Mapping[str, Tbl]

    def __init__(self, id: int, limits: Limits) -> None:
        self.id = id
        self.tbls = {}
        self._limits = limits

    def time_left(self) -> float | None:
        """Seconds until the execution timeout; None without one."""
        return self._limits.time_left()

    def check(self) -> None:
        """Raise what ended the batch (AnchovyExecutionTimeout, Stopped), else return. For long loops that yield nothing."""
        self._limits.check()
