"""Trying an operator's source again, when it raises RetryableError: from what it has set so far in this batch."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any

from anchovies.core.errors import FatalError, RetryableError, StaleSession
from anchovies.core.retry import Retry
from anchovies.engine.context import Overlay, RunTask
from anchovies.engine.limits import Halt
from anchovies.engine.pipe import Pipe
from anchovies.engine.services import Services, phrase

ATTEMPTS = 8  # in a row without progress: about half a minute, and up to a minute
BASE = 0.25
LOOK = 0.5


class Again:
    """One source's tries. `with again:` around every call of the source; `pause(error)` before it is called once more.

    Whole units that it has yielded are kept, and so is what it has set; what it yielded after its last mark, the flow drops.
    """

    def __init__(
        self, services: Services, task: RunTask, halt: Halt, overlay: Overlay, tell: Callable[..., None], root: Pipe
    ) -> None:
        self._s, self._task, self._halt, self._overlay, self._tell, self._root = services, task, halt, overlay, tell, root
        self._retry = Retry(services.clock, services.ids, services.batch.time_left, attempts=ATTEMPTS, base=BASE)
        self._raised: BaseException | None = None
        self._tried = 0
        self._came_to: tuple[int, Any] = (root.whole_rows, overlay.values())
        self._shared = root.whole_rows if root.result.rows > root.whole_rows else None  # a unit that an earlier call has begun

    def __enter__(self) -> None:
        self._raised = None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._raised = error

    def pause(self, error: RetryableError, *, passed_on: bool) -> None:
        """Wait, with full jitter and inside the deadline. `passed_on`: custom sinks have rows of the open unit.

        Raises the error where trying again is not ours to do, or has been done often enough without progress; FatalError where
        rows would come twice; and what ended the batch meanwhile.
        """
        if error is not self._raised or error is self._halt.error or isinstance(error, StaleSession) or "tries" in error.where:
            raise error
        rows, tbl = self._root.whole_rows, self._root.tbl.name
        if rows == self._shared:
            raise error  # what it cannot bring again would be dropped
        if passed_on:
            raise FatalError(
                f"{tbl}: {phrase(error)}. The source cannot be called again: a custom sink has rows of the unit that broke off",
                hint="the next run reads that unit again; let the source set a checkpoint before each call that may fail",
                tbl=tbl,
            ) from error
        self._count(rows)
        if error.patient and self._s.batch.time_left() is not None:
            self._tried = min(self._tried, ATTEMPTS - 1)  # as long as the deadline allows
        seconds = self._retry.pause(self._tried, error.retry_after)
        if seconds is None:
            raise error
        self._task.with_(retries=self._task.data.get("retries", 0) + 1)
        self._tell(warning=f"{tbl}: {phrase(error)}; its source is called again (try {self._tried + 1} of {ATTEMPTS})")
        self._wait(seconds)

    def drop(self, sinks: Sized) -> None:
        """The open unit comes again. Custom sinks have whole units only, and are not asked: they may be in the middle of them."""
        if not sinks:
            self._root.result.rows -= self._root.discard()

    def _count(self, rows: int) -> None:
        """Progress begins the count anew: rows, and something set to another value. One alone may come of every try."""
        had_rows, had_set = self._came_to
        self._came_to = rows, self._overlay.values()
        self._tried = 1 if rows > had_rows and self._came_to[1] != had_set else self._tried + 1

    def _wait(self, seconds: float) -> None:
        until = self._s.clock.monotonic() + seconds
        while (left := until - self._s.clock.monotonic()) > 0:
            self._s.stop.wait(min(LOOK, left))
            self._halt.check()
