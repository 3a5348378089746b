"""One session: startup, batches, shutdown; the work in a thread of its own, the watching in the caller's."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from anchovies import __version__
from anchovies.core.clock import Clock, SystemClock, iso
from anchovies.core.config import Config
from anchovies.core.env import connections_from
from anchovies.core.errors import AnchovyError, AnchovyExecutionTimeout, ConfigError, RetryableError, StaleSession, Stopped
from anchovies.core.ids import Ids, SystemIds
from anchovies.core.retry import Retry
from anchovies.core.settings import Settings
from anchovies.engine.batch import BatchOutcome, BatchRun
from anchovies.engine.connections import Connections
from anchovies.engine.context import RunBatch, RunSession, RunTask
from anchovies.engine.events import Event, Listener
from anchovies.engine.limits import Deadline, StopSignal
from anchovies.engine.routes import Routes
from anchovies.engine.services import Services, phrase
from anchovies.engine.work import Work, work_of
from anchovies.sdk.context import entered
from anchovies.sdk.operator import Operator
from anchovies.sdk.result import SessionResult
from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.record import Change, Checkpoints, LedgerChange, Note, Record, Writer
from anchovies.store.tasklog import TaskLog, write_mirrors, write_result

BEGIN_AGAIN = 20


class SessionRun:
    """A session from its settings to its result. `work()` does it (in any thread); it returns when everything is closed."""

    def __init__(
        self,
        operator: type[Operator],
        settings: Settings,
        config: Config,
        env: Mapping[str, str],
        listener: Listener,
        store: Store,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        self.operator_cls, self.settings, self.config, self.env, self.listener = operator, settings, config, env, listener
        self.clock, self.ids = clock or SystemClock(), ids or SystemIds()
        self.store = store
        self.home = Home(settings.user, settings.id)
        self.info = RunSession(self.ids.session(self.clock.now_us()), settings.id, settings.user)
        self.stop = StopSignal()
        self.deadline = Deadline(self.clock)
        self.started = threading.Event()
        self.done = threading.Event()
        self.log = self._make_log()
        self.tasklog = TaskLog(store, self.home, self.info.id)
        self.result = self._blank_result()
        self._began = self.clock.monotonic()
        self._dirty: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        self._connections: Connections | None = None
        self.error: BaseException | None = None
        self.on_arm: Callable[[float | None], None] = lambda at: None

    def _make_log(self) -> Log:
        retry = Retry(self.clock, self.ids, self.deadline.left)
        return Log(self.store, self.home, clock=self.clock, ids=self.ids, writer=self.writer(0), retry=retry)

    def writer(self, batch: int) -> Writer:
        return Writer(host=socket.gethostname(), pid=os.getpid(), session=self.info.id, batch=batch, version=__version__)

    def _blank_result(self) -> SessionResult:
        return SessionResult(
            status="ok",
            exit_code=0,
            anchovy_id=self.info.anchovy_id,
            anchovy_user=self.info.user,
            session_id=self.info.id,
            operator=f"{self.operator_cls.__module__}:{self.operator_cls.__qualname__}",
            datastore=self.store.url,
            started_at=iso(self.clock.now_us()),
            warnings=list(self.settings.warnings),
        )

    # the work

    def work(self) -> SessionResult:
        """Run it all. Never raises: what went wrong is in the result."""
        error: BaseException | None = None
        try:
            self.started.set()
            error = self._session()
        except BaseException as e:
            error = self.stop.meaning(e)
        finally:
            self.error = error
            self._conclude(error)
            self.done.set()
        return self.result

    def _session(self) -> BaseException | None:
        services, connections = self.prepare()
        work = work_of(services, self.config, self.env)
        run = BatchRun(services, self.tasklog, self.operator_cls.__name__)
        error: BaseException | None = None
        with entered(run.context(RunTask("STARTUP", None, self.clock)), whole_process=True):
            try:
                self.arm()
                self._tell_start(work)
                self.log.load()
                run.phase("startup")
                error = self._batches(services, work, run)
            except BaseException as e:
                error = self.stop.meaning(e)
            finally:
                error = self._closing(run, services, connections, error)
        return error

    def _tell_start(self, work: Work) -> None:
        for warning in self.settings.warnings:
            self.tell("warning", message=warning)
        who = f"{self.info.user}/{self.info.anchovy_id}"
        self.tell("session_started", operator=self.operator_cls.__name__, anchovy=who, datastore=self.store.url, role=work.role)

    def prepare(self) -> tuple[Services, Connections]:
        """The operator with its connections, and all that a batch shares. Raises ConfigError for what is missing."""
        operator = self.operator_cls()
        connections = Connections(self.operator_cls, connections_from(self.env), self.stop, self.ids.jitter)
        operator.connections = self._connections = connections
        services = Services(
            store=self.store,
            home=self.home,
            log=self.log,
            operator=operator,
            routes=Routes(self.operator_cls),
            connections=connections,
            settings=self.settings,
            session=self.info,
            batch=RunBatch(0, self.deadline, self.stop),
            stop=self.stop,
            clock=self.clock,
            ids=self.ids,
            listener=self.listener,
            on_commit=self._committed,
        )
        return services, connections

    def _closing(
        self, run: BatchRun, services: Services, connections: Connections, error: BaseException | None
    ) -> BaseException | None:
        """SHUTDOWN hooks, connections: whatever happened before."""
        try:
            run.phase("shutdown")
            if error is None:
                run.publish_settings()
        except BaseException as e:
            error = error or self.stop.meaning(e)
        for wrong in connections.close():
            self.tell("warning", message=wrong)
        self.result.commits = services.commits
        return error

    def _batches(self, services: Services, work: Work, run: BatchRun) -> BaseException | None:
        number, failures = 0, 0
        while True:
            number += 1
            outcome = self._one(number, services, work, run)
            self.result.batches = number
            if not self.settings.service:
                self.result.tables = outcome.tables
                return outcome.error or (TableFailures(outcome.failures) if outcome.failures else None)
            self._fold(outcome)
            if outcome.error is not None and not isinstance(outcome.error, RetryableError):
                return outcome.error
            failures = failures + 1 if outcome.failures or outcome.error else 0
            if self.stop.is_set() or self.stop.wait(self._pause(failures)):
                return self.stop.reason

    def _pause(self, failures: int) -> float:
        """The interval; after failures longer and longer, up to ten times."""
        longer: int = min(10, 1 << min(4, max(0, failures - 1)))
        return float(self.settings.interval) * longer

    def _fold(self, outcome: BatchOutcome) -> None:
        """A service's result has the sums of each table."""
        have = {t.tbl: t for t in self.result.tables}
        for t in outcome.tables:
            old = have.get(t.tbl)
            for name in ("rows", "kept", "bytes", "files", "commits", "duration_ms") if old is not None else ():
                setattr(t, name, getattr(t, name) + getattr(old, name))
            have[t.tbl] = t
        self.result.tables = list(have.values())

    # one batch

    def arm(self) -> None:
        """The deadline of the batch that begins now."""
        if self.settings.execution_timeout is not None:
            self.deadline.timeout = self.settings.execution_timeout
            self.deadline.at = self.clock.monotonic() + self.settings.execution_timeout
            self.on_arm(self.deadline.at)

    def _one(self, number: int, services: Services, work: Work, run: BatchRun) -> BatchOutcome:
        """A batch, begun again from a fresh load where another session was faster."""
        for _ in range(BEGIN_AGAIN):
            services.batch = RunBatch(number, self.deadline, self.stop)
            if number > 1:
                self.arm()
            fresh = BatchRun(services, self.tasklog, self.operator_cls.__name__)
            if number == 1:
                fresh.pending, fresh.overlay = run.pending, run.overlay
            outcome = self._once(number, services, work, fresh)
            if not isinstance(outcome.error, StaleSession):
                break
            self.tell("warning", message=f"{outcome.error} Beginning again.")
        return outcome

    def _once(self, number: int, services: Services, work: Work, run: BatchRun) -> BatchOutcome:
        self.log.writer = self.writer(number)
        self.tell("batch_started", batch=number)
        outcome = run.outcome
        opened = False
        try:
            self.log.load()
            if self.settings.full_refresh and number == 1:
                self._forget()
            opened = True
            run.phase("xopen")
            work.batch(run)
            run.publish_settings()
        except BaseException as e:
            outcome.error = self.stop.meaning(e)
            run.error_hooks(outcome.error)
        finally:
            if opened:
                self._xclose(run, outcome)
        self._write_tasklog(number)
        self.tell("batch_ended", batch=number)
        return outcome

    def _xclose(self, run: BatchRun, outcome: BatchOutcome) -> None:
        try:
            run.phase("xclose")
            if outcome.error is None:
                run.publish_settings()
        except BaseException as e:
            outcome.error = outcome.error or self.stop.meaning(e)
        if self.settings.service and self._connections is not None:
            self._connections.close()

    def _forget(self) -> None:
        """`--full-refresh`: an edit that deletes the checkpoints (and ledgers) this batch would go on from."""
        state = self.log.state
        from_all = not self.settings.enabled
        picked = [k for k, v in state.checkpoints.items() if from_all or set(v.tbls) & set(self.settings.enabled)]
        ledgers = {n: {"delete": list(v)} for n, v in state.ledgers.items() if from_all or n in self.settings.enabled}
        if picked or ledgers:
            self.log.edit(_forgetting(picked, ledgers, self.info.user))
            self.log.load()

    # what is left behind

    def _committed(self, record: Record) -> None:
        tables, checkpoints = self._dirty
        tables.update(record.change.tables)
        checkpoints.update({k: {"key": k, "value": v.value, "tbls": v.tbls} for k, v in record.change.checkpoints.set.items()})
        checkpoints.update(dict.fromkeys(record.change.checkpoints.delete))

    def _write_tasklog(self, number: int) -> None:
        """Quiet batches leave nothing behind."""
        if not (self.tasklog.failed or self.log.committed):
            self.tasklog.records.clear()
            return
        try:
            self.tasklog.write(number)
        except AnchovyError as e:
            self.tell("warning", message=f"the task log could not be written: {e}")

    def _conclude(self, error: BaseException | None) -> None:
        result = self.result
        settle(result, error)
        result.duration_ms = round((self.clock.monotonic() - self._began) * 1000)
        result.slot = self.log.state.slot
        if self.log.committed:
            self.log.finish()
            write_mirrors(self.store, self.home, *self._dirty)
        if not self.quiet and not isinstance(error, ConfigError):
            try:
                self.tasklog.write(result.batches)
                write_result(self.store, self.home, self.info.id, result)
            except AnchovyError as e:
                result.warnings.append(f"the result could not be written: {e}")

    @property
    def quiet(self) -> bool:
        """Nothing was read and nothing went wrong."""
        return not self.log.committed and self.result.exit_code == 0

    def tell(self, kind: Any, tbl: str | None = None, **data: Any) -> None:
        if kind == "warning" and data.get("message") not in self.result.warnings:
            self.result.warnings.append(str(data.get("message")))
        self.listener(Event(kind, tbl, data))


def _forgetting(picked: list[str], ledgers: dict[str, Any], who: str) -> Change:
    note = Note(who=who, why="--full-refresh")
    return Change(checkpoints=Checkpoints(delete=picked), ledgers={n: LedgerChange(**v) for n, v in ledgers.items()}, note=note)


class TableFailures(AnchovyError):
    """Tables that failed the run, each with its error. Only bad configuration makes it one of the configuration."""

    def __init__(self, failures: list[tuple[str, BaseException]]) -> None:
        self.errors = [e for _, e in failures]
        name, first = failures[0]
        more = f"{len(failures)} tables failed ({', '.join(n for n, _ in failures)}); the first: " if len(failures) > 1 else ""
        super().__init__(f"{more}{name}: {phrase(first)}", hint=first.hint if isinstance(first, AnchovyError) else None)
        self.exit_code = 2 if all(isinstance(e, ConfigError) for e in self.errors) else 1


def settle(result: SessionResult, error: BaseException | None) -> None:
    """Status and exit code of what ended a session."""
    if error is None:
        return
    result.err_type, result.err_msg = type(error).__name__, phrase(error)
    result.hint = error.hint if isinstance(error, AnchovyError) else None
    if isinstance(error, AnchovyExecutionTimeout):
        result.status, result.exit_code = "timeout", 3
    elif isinstance(error, Stopped):
        signum = int(error.where.get("signal", 0))  # type: ignore[call-overload]
        result.status, result.exit_code = "interrupted", 128 + signum if signum else 1
    else:
        result.status, result.exit_code = "failed", error.exit_code if isinstance(error, AnchovyError) else 1
