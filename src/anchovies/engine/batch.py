"""One loop of a session: XOPEN, a task for each table, XCLOSE; ERROR hooks for what failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from anchovies.core.errors import AnchovyError, AnchovyExecutionTimeout, CommitUnknown, ConfigError, Fenced, StaleSession, Stopped
from anchovies.core.faultpoint import fault
from anchovies.core.retry import Retry
from anchovies.engine.calls import call
from anchovies.engine.context import RunContext, RunTask
from anchovies.engine.limits import Nudge
from anchovies.engine.outcome import TableFailures
from anchovies.engine.services import Services, phrase
from anchovies.engine.taskrecords import record_of
from anchovies.engine.together import TableJob, Together
from anchovies.sdk.context import entered
from anchovies.sdk.markers import Phase
from anchovies.sdk.result import TableResult
from anchovies.store.record import Change
from anchovies.store.tasklog import TaskLog

ENDS_ALL = (AnchovyExecutionTimeout, CommitUnknown, Fenced, StaleSession, Stopped)


class BatchOutcome(msgspec.Struct):
    """What a batch came to. `error`: what ended the whole of it, if anything did; `failures`: tables that failed the run."""

    tables: list[TableResult] = msgspec.field(default_factory=list)
    error: BaseException | None = None
    failures: list[tuple[str, BaseException]] = msgspec.field(default_factory=list)


class BatchRun:
    """Runs hooks and tasks of one batch and writes down what became of them."""

    def __init__(self, services: Services, tasklog: TaskLog, operator_name: str) -> None:
        self._s = services
        self._log = tasklog
        self._name = operator_name
        self.outcome = BatchOutcome()
        self._told = False  # that the batch failed, to the hooks: once

    # tasks

    def context(self, task: RunTask) -> RunContext:
        s = self._s
        mine = (s.outside.overlay, s.outside.pending, self._told_outside)
        return RunContext(s.session, s.batch, task, s.connections, *mine, bool(s.routes.acks), s.parts)

    def _told_outside(self, *, warning: str | None = None, **data: Any) -> None:
        if warning:
            self._s.tell("warning", message=warning)

    def phase(self, phase: Phase, tbl: str | None = None, **given: Any) -> None:
        """One phase as one task: its hooks, each as it was marked. Raises what a hook raised.

        The record of an ERROR phase says what failed; a hook of it that fails as well is its `hook_error`."""
        task = RunTask(phase.upper(), tbl, self._s.clock)
        if (failed := given.get("error")) is not None:
            task.failed(failed)
        try:
            if self._s.routes.hooks(phase, tbl):
                self._hooks(phase, task, given)
        except BaseException as e:
            if failed is None:
                task.failed(self._s.stop.meaning(e))
            else:
                task.with_(hook_error=phrase(self._s.stop.meaning(e)))
            raise
        finally:
            self.record(task)

    def _hooks(self, phase: Phase, task: RunTask, given: Mapping[str, Any], also: Iterable[str] = ()) -> None:
        s, tbl = self._s, task.tbl
        due = [(name, tbl) for name in s.routes.hooks(phase, tbl)]
        due += [(name, other) for other in also for name in s.routes.hooks(phase, other) if name not in s.routes.hooks(phase)]
        ran = {"task": task, "batch": s.batch, "session": s.session, "worker": s.worker}
        with entered(self.context(task)), s.stop.guard():
            for name, of in due:
                known = s.batch.tbls.get(of) if of else None
                call(getattr(s.operator, name), {**ran, "tbl": known, "table": of, **given})

    def tables(self, jobs: Sequence[TableJob]) -> None:
        """Run the tasks of several tables, as many at once as `threads` says. Raises what ends the whole batch."""
        at_once = min(self._s.settings.threads, len(jobs))
        if at_once <= 1:
            for job in jobs:
                self._table(job, self.outcome.tables)
            return
        together = Together(self._s.stop, partial(self._table, alone=False))
        self.outcome.tables += together.run(jobs, at_once)
        if together.error is not None:
            raise together.error

    def _table(self, job: TableJob, into: list[TableResult], *, alone: bool = True) -> None:
        """Run one table's task. A failure is written down; it is raised again only if nothing else of the batch can run.

        `alone`: no other table is running, so what hooks have set until now has no row to wait for."""
        tbl = job.tbl
        task = RunTask("TBL", tbl, self._s.clock)
        self._s.tell("task_started", tbl, task_type="TBL")
        error: BaseException | None = None
        results: list[TableResult] = []
        try:
            self._hooks("tbl", task, {}, job.also)
            if alone:
                self.publish_settings()
            results = list(job.work(task))
        except BaseException as e:
            error = self._s.stop.meaning(e)
            results = getattr(e, "anchovies_results", None) or [TableResult(tbl=tbl)]
            self._s.outside.forget()
        if isinstance(error, StaleSession):
            raise error  # nothing happened: the batch begins again
        into += results
        self._finish(task, results, error)
        if error is not None:
            self._failed(error, tbl, job.allow_failure)

    def _finish(self, task: RunTask, results: list[TableResult], error: BaseException | None) -> None:
        for result in results:
            result.duration_ms = task.duration_ms()
            if error is not None:
                result.status = _status(error)
                result.err_type, result.err_msg = type(error).__name__, phrase(error)
                result.hint = error.hint if isinstance(error, AnchovyError) else None
        if error is not None:
            task.failed(error)
        main = results[0] if results else TableResult(tbl=task.tbl or "")
        task.with_(rows=main.rows, kept=main.kept, bytes=main.bytes, files=main.files, commits=main.commits, **main.counts)
        if main.rejected:
            task.with_(rejected=main.rejected)
        self.record(task)
        for r in results:
            self._s.tell("task_ended", r.tbl, status=task.status, error=error, **_told(r))

    def _failed(self, error: BaseException, tbl: str, allow_failure: bool) -> None:
        self.error_hooks(error, tbl)
        if isinstance(error, ENDS_ALL) or not isinstance(error, Exception):
            raise error
        if allow_failure:
            self._s.tell("warning", tbl, message=f"{tbl} failed, as its allow_failure permits: {phrase(error)}")
            return
        self.outcome.failures.append((tbl, error))
        if self._s.settings.batch_policy == "raise":
            raise error

    def tables_failed(self) -> None:
        """Tell the operator once that the batch failed, where that was its tables and not the whole of it."""
        if self.outcome.failures:
            self._told = True
            self.error_hooks(TableFailures(self.outcome.failures))

    def error_hooks(self, error: BaseException, tbl: str | None = None) -> None:
        """Tell the operator of a failure. What the hooks raise themselves is only warned of.

        A nudge in one ends it as well; the stop that it stands for is seen by whoever goes on."""
        try:
            self.phase("error", tbl, error=error)
        except (Exception, Nudge) as e:
            self._s.tell("warning", tbl, message=f"an @on_task('error') hook failed as well: {phrase(e)}")

    def record(self, task: RunTask) -> None:
        s = self._s
        self._log.add(record_of(s.session, s.batch.id, self._name, task, s.clock))

    def failed(self, error: BaseException) -> None:
        """Something ended the whole batch. A stale session is no failure: the batch begins again."""
        self.outcome.error = self._s.stop.meaning(error)
        if not self._told and not isinstance(error, StaleSession):
            self._told = True
            self.error_hooks(self.outcome.error)

    @property
    def commits(self) -> int:
        """How many records the session has committed so far."""
        return self._s.commits

    # checkpoints that hooks have set

    def publish_settings(self) -> None:
        """Commit what hooks set: every row that the session had yielded by then is durable."""
        due, state = self._s.outside.due(), self._s.log.state
        checkpoints, ledgers = due.checkpoints(state), due.ledgers(state.ledgers)
        change = Change(checkpoints=checkpoints, ledgers=ledgers, ack_pending=due.acks())
        if change != Change():
            self._s.publish(change, frozenset(self._s.outside.overlay.keys))
        self._s.outside.settled()
        self._s.acknowledge()

    # what is due at the source after a commit

    def acknowledge(self) -> None:
        """Hand committed tokens to the `@on_ack` methods. Where one fails, that is told, and they stay pending."""
        s = self._s
        with s.turn:  # a commit in between would carry tokens that nobody has handed out
            if (tokens := s.outbox.waiting()) and not s.stop.timed_out:
                self._hand_out(tokens)

    def _hand_out(self, tokens: list[str]) -> None:
        s = self._s
        task = RunTask("ACK", None, s.clock).with_(tokens=len(tokens))
        error: BaseException | None = None
        try:
            if not s.outbox.is_ours:  # seen, but perhaps not durable yet: a power cut must not take back what the source was told
                Retry(s.clock, s.ids, s.batch.time_left).call(lambda: s.store.settle(s.home.slot(s.log.state.slot)))
            self._acknowledge(task, tokens)
        except BaseException as e:
            error = s.stop.meaning(e)
            task.failed(error)
            if not isinstance(e, Exception):
                raise error from e
        finally:
            self.record(task)
        s.outbox.tried(well=error is None)
        if error is not None:
            self.error_hooks(error)

    def _acknowledge(self, task: RunTask, tokens: list[str]) -> None:
        s, what = self._s, f"{len(tokens):,} acknowledgements stay pending"
        if not s.routes.acks:
            missing = f"no method of {self._name} is marked with @on_ack"
            s.tell("warning", message=f"{what}: {missing} (one that does nothing forgets them)")
            raise ConfigError(missing)
        given = {"tokens": tokens, "task": task, "batch": s.batch, "session": s.session, "worker": s.worker}
        for name in s.routes.acks:
            try:
                fault("ack.call.before")
                with entered(self.context(task)), s.stop.guard():
                    call(getattr(s.operator, name), given)
                fault("ack.call.after")
            except Exception as e:
                s.tell("warning", message=f"{what}: {name} failed: {phrase(e)}")
                raise

    def forget_acknowledged(self) -> None:
        """A last record without the tokens that are done, so that the next session does not hand them out again."""
        if not self._s.outbox.owes_record:
            return
        try:
            self._s.publish(Change(), frozenset())
        except AnchovyError as e:
            self._s.tell("warning", message=f"what was acknowledged will be acknowledged again: {e}")


def _status(error: BaseException) -> Any:
    if isinstance(error, AnchovyExecutionTimeout):
        return "timeout"
    return "interrupted" if isinstance(error, Stopped) else "failed"


def _told(r: TableResult) -> dict[str, Any]:
    """What the `task_ended` event of a table says."""
    return {
        "task_type": "TBL",
        "duration_ms": r.duration_ms,
        "rows": r.rows,
        "kept": r.kept,
        "rejected": r.rejected,
        "bytes": r.bytes,
        "counts": r.counts,
        "err_msg": r.err_msg,
        "hint": r.hint,
    }
