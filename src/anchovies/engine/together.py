"""The tables of a batch, several at once: each task in a thread of its own, their results in the order of the tables."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from anchovies.core.errors import AnchovyError, StaleSession, Stopped
from anchovies.engine.channel import POLL
from anchovies.engine.context import RunTask
from anchovies.engine.limits import StopSignal
from anchovies.engine.services import phrase
from anchovies.sdk.result import TableResult

NUDGE = 1.0  # seconds that the others have to end by themselves


class TableJob(msgspec.Struct, frozen=True):
    """The task of one table: what does it, and whether it may fail without failing the run. `also`: other tables that it makes;
    the hooks that name one of them run too."""

    tbl: str
    work: Callable[[RunTask], Iterable[TableResult]]
    allow_failure: bool = False
    also: tuple[str, ...] = ()


class Together:
    """Runs jobs in as many threads as were asked for. What ends the whole batch in one of them ends it in all."""

    def __init__(self, stop: StopSignal, run: Callable[[TableJob, list[TableResult]], None]) -> None:
        self._stop, self._run = stop, run
        self._turn = threading.Lock()
        self._error: BaseException | None = None

    def run(self, jobs: Sequence[TableJob], at_once: int) -> list[TableResult]:
        """The results of all jobs that began. `error` afterwards: what ended the batch."""
        results: list[list[TableResult]] = [[] for _ in jobs]
        waiting = deque(zip(jobs, results, strict=True))
        threads = [threading.Thread(target=self._work, args=(waiting,), name=f"tables-{n}", daemon=True) for n in range(at_once)]
        for thread in threads:
            thread.start()
        waited = 0.0
        for thread in threads:
            while thread.is_alive():
                thread.join(POLL)
                waited += POLL if self._error is not None else 0
                if waited >= NUDGE:
                    self._stop.nudges.give()  # the operator's code does not look; whole units that wait in it are lost so
        self._stop.set_batch(None)
        return [r for mine in results for r in mine]

    @property
    def error(self) -> BaseException | None:
        return self._error

    def _work(self, waiting: deque[tuple[TableJob, list[TableResult]]]) -> None:
        while self._error is None:
            with self._turn:
                if not waiting:
                    return
                job, results = waiting.popleft()
            try:
                self._run(job, results)
            except BaseException as e:
                self._end(e, job.tbl)

    def _end(self, error: BaseException, tbl: str) -> None:
        with self._turn:
            if self._error is not None:
                return
            self._error = error
        self._stop.set_batch(_told(error, tbl))


def _told(error: BaseException, tbl: str) -> AnchovyError:
    """What those hear that run beside the table that ended the batch. A batch that begins again is no failure of theirs."""
    if isinstance(error, StaleSession):
        return error
    return Stopped(f"stopped, because {tbl} ended the batch: {phrase(error)}")
