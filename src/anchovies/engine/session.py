"""One session: startup, batches, shutdown; the work in a thread of its own, the watching in the caller's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from anchovies import __version__
from anchovies.core.clock import Clock, SystemClock, iso
from anchovies.core.config import Config
from anchovies.core.declared import hostname
from anchovies.core.env import Redactor, connections_from
from anchovies.core.errors import AnchovyError, AnchovyExecutionTimeout, CommitUnknown, ConfigError, Fenced, StaleSession, Stopped
from anchovies.core.ids import Ids, SystemIds
from anchovies.core.retry import Retry
from anchovies.core.settings import Settings
from anchovies.engine.batch import BatchOutcome, BatchRun
from anchovies.engine.board import Board
from anchovies.engine.connections import BASE, TRIES, Connections
from anchovies.engine.context import Outside, RunContext, RunTask
from anchovies.engine.copies import Copies
from anchovies.engine.events import Event, Listener
from anchovies.engine.limits import Deadline, StopSignal
from anchovies.engine.loop import Loop
from anchovies.engine.outbox import Outbox
from anchovies.engine.outcome import TableFailures, add_up, mask, settle
from anchovies.engine.parts import Parts
from anchovies.engine.refresh import forget_checkpoints
from anchovies.engine.reload import Reread
from anchovies.engine.routes import Routes
from anchovies.engine.services import Services, phrase
from anchovies.engine.taskrecords import end_record
from anchovies.engine.upkeep import is_due, look_after, noted
from anchovies.engine.work import Work, work_of
from anchovies.sdk.cached import Cache, keep_cache
from anchovies.sdk.context import entered
from anchovies.sdk.operator import Operator
from anchovies.sdk.result import SessionResult
from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.lease import Remembered
from anchovies.store.log import Log
from anchovies.store.record import Record, Writer
from anchovies.store.tasklog import TaskLog

MakeWork = Callable[[Services, Config, Mapping[str, str]], Work]
BEGIN_AGAIN = 20
MOST_WARNINGS = 100
MAY_NOT_COMMIT = (AnchovyExecutionTimeout, CommitUnknown, Fenced, StaleSession)


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
        self.parts = Parts(settings, store, self.ids.session(self.clock.now_us()))
        self.info = self.parts.session
        self.stop = StopSignal()
        self.deadline = Deadline(self.clock)
        self.done = threading.Event()
        self.log = self._make_log()
        self.redact = Redactor.of(env)
        self.tasklog = TaskLog(lambda records, batch: self.parts.keep_tasks(records, batch, self.warn), self.redact.deep)
        self.result = self._blank_result()
        self._began = self.clock.monotonic()
        self.copies = Copies(store, self.home, self.clock, self.log, self.parts, self.warn)
        self._root: RunContext
        self.error: BaseException | None = None
        self.remembered = Remembered()
        self.on_arm: Callable[[float | None], None] = lambda at: None
        self.make_work: MakeWork = work_of
        self._well = True  # the last batch: what it has opened may be trusted
        self.reread: Reread | None = None
        self.board = Board(self.clock)

    def _make_log(self) -> Log:
        retry = Retry(self.clock, self.ids, self.deadline.left)
        lane = {"lane": self.settings.worker_num, "workers": self.settings.workers}
        return Log(self.store, self.home, clock=self.clock, ids=self.ids, writer=self.writer(0), retry=retry, **lane)

    def writer(self, batch: int) -> Writer:
        return Writer(host=hostname(), pid=os.getpid(), session=self.info.id, batch=batch, version=__version__)

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
        try:
            try:
                self.error = self._session()
            except BaseException as e:
                self.error = self.stop.meaning(e)
            if self.error is not None and self.stop.timed_out:
                self.error = self.stop.reason  # whatever else went wrong: each table says what did
            self._conclude(self.error)
        except Exception as e:  # writing down how it ended must not keep the watch waiting
            self.error = self.error or e
            settle(self.result, self.error)
        finally:
            self.done.set()
        return self.result

    def _session(self) -> BaseException | None:
        with self.stop.nudges:
            services, connections = self.prepare()
        work = self.make_work(services, self.config, self.env)
        run = BatchRun(services, self.tasklog, self.operator_cls.__name__)
        self._root = run.context(RunTask("STARTUP", None, self.clock))
        error: BaseException | None = None
        began = False
        with entered(self._root, whole_process=True):
            try:
                self.arm()
                self._tell_start(work)
                self.log.load()
                began = True
                connections.startup()
                run.phase("startup")
                error = self._batches(services, work, connections)
            except BaseException as e:
                error = self.stop.meaning(e)
            finally:
                error = self._closing(run, connections, error, began)
                self.result.commits = services.commits
                self.remembered = services.remembered
        return error

    def _tell_start(self, work: Work) -> None:
        for warning in self.settings.warnings:
            self.tell("warning", message=warning)
        who = f"{self.info.user}/{self.info.anchovy_id}"
        said = {"session": self.info.id, "operator": self.operator_cls.__name__, "anchovy": who, "role": work.role}
        self.tell("session_started", **said, datastore=self.store.url)

    def prepare(self) -> tuple[Services, Connections]:
        """The operator with its connections, and all that a batch shares. Raises ConfigError for what is missing."""
        operator = self.operator_cls()
        retry = Retry(self.clock, self.ids, self.deadline.left, attempts=TRIES, base=BASE)
        connections = Connections(self.operator_cls, connections_from(self.env), self.stop, retry)
        operator.connections = connections
        for warning in connections.warnings:
            self.tell("warning", message=warning)
        keep_cache(operator, Cache(float(self.settings.cache_ttl), self.clock.monotonic))
        services = Services(
            store=self.store,
            home=self.home,
            log=self.log,
            operator=operator,
            routes=Routes(self.operator_cls),
            connections=connections,
            settings=self.settings,
            session=self.info,
            batch=self.parts.batch(0, self.deadline, self.stop),
            stop=self.stop,
            clock=self.clock,
            ids=self.ids,
            listener=self._hear,
            outside=Outside(lambda: self.log.state),
            outbox=Outbox(self.log),
            redact=self.redact.deep,
            on_commit=self._committed,
            remembered=self.remembered,
            parts=self.parts if self.parts.own_checkpoints else None,
        )
        return services, connections

    def _closing(self, run: BatchRun, connections: Connections, error: BaseException | None, began: bool) -> BaseException | None:
        """SHUTDOWN hooks if STARTUP began, and the connections: whatever happened before."""
        try:
            if began:
                run.phase("shutdown")
            if error is None:
                run.publish_settings()
            if not isinstance(error, MAY_NOT_COMMIT):
                run.forget_acknowledged()
        except BaseException as e:
            error = error or self.stop.meaning(e)
        self._close(connections)
        return error or connections.overdue

    def _close(self, connections: Connections, *, keep: bool = False) -> None:
        for wrong in connections.close(keep=keep):
            self.tell("warning", message=wrong)

    def _batches(self, services: Services, work: Work, connections: Connections) -> BaseException | None:
        if not self.settings.service:
            return self._batch(1, services, work)[1]

        def adopt(settings: Settings, config: Config) -> None:
            nonlocal work
            self.settings = services.settings = settings
            self.config = config
            work = self.make_work(services, config, self.env)

        def between() -> None:
            self._close(connections, keep=self._well)
            self.copies.write()
            self.copies.hint()
            services.remembered = self._upkeep(services.remembered)
            self._disarm()

        loop = Loop(services, self.config, self.reread, adopt)
        return loop.run(lambda number: self._batch(number, services, work), between)

    def _batch(self, number: int, services: Services, work: Work) -> tuple[BaseException | None, BaseException | None]:
        """What ended the whole of it, if anything did; what failed in it: that, or tables."""
        outcome = self._one(number, services, work)
        self.result.batches = number
        self.result.tables = add_up(self.result.tables, outcome.tables)
        failed = outcome.error or (TableFailures(outcome.failures) if outcome.failures else None)
        self._well = failed is None
        if not isinstance(failed, Stopped):
            said = None if failed is None else self.redact.deep(phrase(failed))
            self.board.ended(said, self.log.state.slot, services.lag())
        return outcome.error, failed

    # one batch

    def arm(self) -> None:
        """The deadline of the batch that begins now."""
        if self.settings.execution_timeout is not None:
            self.deadline.timeout = self.settings.execution_timeout
            self.deadline.at = self.clock.monotonic() + self.settings.execution_timeout
            self.on_arm(self.deadline.at)

    def _disarm(self) -> None:
        """Between two batches no time is counted."""
        if self.deadline.at is not None:
            self.deadline.at = None
            self.on_arm(None)

    def _one(self, number: int, services: Services, work: Work) -> BatchOutcome:
        """A batch, begun again from a fresh load where another session was faster."""
        if number > 1:
            self.arm()
        for attempt in range(BEGIN_AGAIN):
            self._root.batch = services.batch = self.parts.batch(number, self.deadline, self.stop)
            run = BatchRun(services, self.tasklog, self.operator_cls.__name__)
            services.acknowledge = run.acknowledge
            outcome, kept = run.outcome, list(self.tasklog.records)
            self._once(number, work, run, fresh=number == 1 and attempt == 0)
            if not isinstance(outcome.error, StaleSession):
                break
            self.tasklog.records = kept
            self.tell("warning", message=f"{outcome.error}. Beginning again.")
        if outcome.error is not None:
            services.outside.forget()
        return outcome

    def _once(self, number: int, work: Work, run: BatchRun, *, fresh: bool) -> None:
        """XOPEN, the tables, XCLOSE. `fresh`: the log was loaded a moment ago."""
        self.log.writer = self.writer(number)
        self.tell("batch_started", batch=number)
        commits, opened = run.commits, False
        try:
            if not fresh:
                self.log.load()
            if self.settings.full_refresh and number == 1:
                forget_checkpoints(self.log, self.settings, self.info.user)
            run.acknowledge()  # what an earlier session committed and perhaps did not tell the source
            opened = True
            run.phase("xopen")
            run.publish_settings()
            work.batch(run)
            run.publish_settings()
            run.tables_failed()
        except BaseException as e:
            run.failed(e)
        if opened:
            self._xclose(run)
        self._write_tasklog(number, run.commits > commits)
        self.tell("batch_ended", batch=number)

    def _xclose(self, run: BatchRun) -> None:
        try:
            run.phase("xclose")
            if run.outcome.error is None:
                run.publish_settings()
        except BaseException as e:
            if run.outcome.error is None:
                run.failed(e)

    # what is left behind

    def _committed(self, record: Record) -> None:
        self.copies.committed(record)
        if self.settings.service:
            self.copies.hint_now_and_then()

    def _upkeep(self, remembered: Remembered) -> Remembered:
        """Now and then a session that has committed looks after its log. What fails is done by the next one. Of several workers
        the first one does it."""
        slot, now, retain = self.log.state.slot, self.clock.now_us() // 1_000_000, self.settings.retain
        if self.settings.worker_num or not self.log.committed or not is_due(remembered.maintained, slot, now, retain):
            return remembered
        try:
            look_after(self.store, self.home, retain, clock=self.clock, ids=self.ids)
        except AnchovyError as e:
            self.tell("warning", message=f"the datastore could not be looked after: {e}")
        return noted(remembered, slot, now)

    def _write_tasklog(self, number: int, committed: bool) -> None:
        """Quiet batches leave nothing behind."""
        failed = self.tasklog.failed
        if not (failed or committed):
            self.tasklog.records.clear()
        if not (failed or self.settings.service):
            return  # a task's go into one object, with its SHUTDOWN
        try:
            self.tasklog.write(number)
        except AnchovyError as e:
            self.tell("warning", message=f"the task log could not be written: {e}")

    def _conclude(self, error: BaseException | None) -> None:
        result = self.result
        settle(result, error, service=self.settings.service)
        mask(result, self.redact.deep)
        result.duration_ms = round((self.clock.monotonic() - self._began) * 1000)
        result.slot = self.log.state.slot
        if self.log.committed:
            self.log.finish()
            self.copies.write()
            self.remembered = self._upkeep(self.remembered)
        if not self.quiet and not isinstance(error, ConfigError):
            if error is not None and result.exit_code and not self.tasklog.ever_failed:
                self.tasklog.add(end_record(self.info, result.batches, self.operator_cls.__name__, self.clock, error))
            try:
                self.tasklog.write(result.batches)
                self.parts.keep_result(result, self.warn)
            except AnchovyError as e:
                result.warnings.append(f"the result could not be written: {e}")
        self.parts.close(self.warn)

    @property
    def quiet(self) -> bool:
        """Nothing was read and nothing went wrong."""
        return not self.log.committed and self.result.exit_code == 0

    def tell(self, kind: Any, tbl: str | None = None, **data: Any) -> None:
        self._hear(Event(kind, tbl, data))

    def warn(self, message: str) -> None:
        self.tell("warning", message=message)

    def _hear(self, event: Event) -> None:
        """Everything that is told passes here: warnings are part of the result."""
        if event.kind in ("warning", "task_ended"):
            event = msgspec.structs.replace(event, data=self.redact.deep(event.data))
        message = str(event.data.get("message"))
        if event.kind == "warning" and message not in self.result.warnings and len(self.result.warnings) < MOST_WARNINGS:
            self.result.warnings.append(message)
        self.board.hear(event)
        self.listener(event)
