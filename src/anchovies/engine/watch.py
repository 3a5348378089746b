"""The thread that only waits: the lease's heartbeat, the deadline, signals, and the end of what does not end by itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Any

from anchovies.core.clock import SystemClock, iso
from anchovies.core.errors import AlreadyRunning, AnchovyError, AnchovyExecutionTimeout, ConfigError
from anchovies.core.ids import SystemIds
from anchovies.core.settings import Settings
from anchovies.engine.limits import stopped_by
from anchovies.engine.outcome import settle
from anchovies.engine.parts import task_store
from anchovies.engine.session import SessionRun
from anchovies.engine.taskrecords import end_record
from anchovies.sdk.parts import TaskStore
from anchovies.sdk.result import SessionResult
from anchovies.sdk.session import Session
from anchovies.store.lease import Busy, Held, Lease
from anchovies.store.open import open_store
from anchovies.store.tasklog import TaskLog, TaskRecord

TICK = 0.2
NUDGE = 1.0
SIGNALS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C (SIGINT)"}


class Watch:
    """Runs one session under watch. `hard` afterwards: the work had to be abandoned and its thread still runs."""

    def __init__(self, run: SessionRun) -> None:
        self._run = run
        self._lease = Lease(run.store, run.home, run.clock, run.ids, run.writer(0), lane=run.settings.worker_num)
        self._stopped_at: float | None = None
        self._signals: list[int] = []
        self._heart: threading.Thread | None = None
        self.hard = False

    def run(self, *, signals: bool) -> SessionResult:
        """The session's result. Errors of the lease are in it as well."""
        with self._handlers() if signals else _nothing():
            try:
                got = self._acquire()
            except AnchovyError as e:
                self._run.error = e
                if isinstance(e, AlreadyRunning):
                    record_end(self._run, e)
                settle(self._run.result, e, service=self._run.settings.service)
                return self._run.result
            if isinstance(got, Busy):
                return self._skipped(got)
            self._run.remembered = got.last.remembered
            try:
                return self._listening()
            finally:
                self._lease.release(self._last(), self._run.quiet, self._run.remembered)

    def _last(self) -> dict[str, object]:
        """What the lease says of the run that ends."""
        r = self._run.result
        ended = iso(self._run.clock.now_us())
        return {
            "status": r.status,
            "session": r.session_id,
            "ended": ended,
            "rows": r.rows,
            "error": self._run.redact.deep(r.err_msg),
        }

    def _acquire(self) -> Held | Busy:
        run = self._run
        limit = run.settings.execution_timeout
        until = None if limit is None else run.clock.monotonic() + limit
        return self._lease.acquire(run.settings.if_running, until, self._check)

    def _check(self) -> None:
        self._hear_signals()
        self._run.stop.check()

    def _skipped(self, busy: Busy) -> SessionResult:
        result = self._run.result
        result.status = "skipped"
        self._run.tell("warning", message=f"{busy.text}; this run is skipped")
        return result

    def _listening(self) -> SessionResult:
        """Under watch, and open to who asks how it is, where a service was given a port."""
        run, s = self._run, self._run.settings
        if not (s.service and s.port):
            return self._watch()
        health = import_module("anchovies.engine.health")
        who = health.Who(run.info.user, run.info.anchovy_id, run.result.operator)
        said = health.Said(who, run.info.id, run.store.url, run.board.now, run.stop.is_set, run.redact.deep)
        try:
            server = health.HealthServer(s.host, s.port, said)
        except ConfigError as e:
            run.error = e
            settle(run.result, e)
            return run.result
        try:
            return self._watch()
        finally:
            server.close()

    def _watch(self) -> SessionResult:
        run = self._run
        thread = threading.Thread(target=run.work, name="anchovy", daemon=True)
        thread.start()
        while not self._wait():
            self._hear_signals()
            self._look_at_deadline()
            if run.stop.is_set() and self._overdue():
                return self._abandon()
            self._beat()
        self.hard = run.stop.is_set() and _threads_would_wait()
        return run.result

    def _beat(self) -> None:
        """The heart is a thread of its own: a datastore that does not answer must not hold up the look at signals."""
        if self._lease.due and not (self._heart is not None and self._heart.is_alive()):
            s = self._run.settings
            doing = self._run.board.doing(s.interval, s.execution_timeout) if s.service else None
            self._heart = threading.Thread(target=self._lease.beat, args=(doing,), name="lease", daemon=True)
            self._heart.start()

    def _hear_signals(self) -> None:
        if self._signals:
            signum = signal.Signals(self._signals[0])
            self._run.stop.set(stopped_by(signum, SIGNALS[signum]))

    def _wait(self) -> bool:
        """True when the work is done. A Ctrl-C in a program that called us is a stop like any other."""
        try:
            return self._run.done.wait(TICK)
        except KeyboardInterrupt:
            self._run.stop.set(stopped_by(signal.SIGINT, SIGNALS[signal.SIGINT]))
            return False

    def _look_at_deadline(self) -> None:
        run = self._run
        if run.deadline.passed():
            run.stop.set(run.deadline.error())
        if run.stop.timed_out:
            run.log.revoke(run.stop.reason)  # before anything is cancelled: nothing more may become visible

    def _overdue(self) -> bool:
        """Whether the grace has passed since the stop (or a second signal came); on the way there the work is nudged once."""
        now = self._run.clock.monotonic()
        if self._stopped_at is None:
            self._stopped_at = now
        waited = now - self._stopped_at
        grace = self._run.settings.grace
        if waited >= min(NUDGE, grace / 2):
            self._run.stop.nudges.give()
        return waited >= grace * 0.8 or len(self._signals) > 1

    def _abandon(self) -> SessionResult:
        """The work does not end: write down why, without it. What it has committed stands, it can commit nothing more."""
        run = self._run
        reason = run.stop.reason or AnchovyError("the session was abandoned")
        run.log.revoke(reason)
        self.hard = True
        run.error = reason
        settle(run.result, reason, service=run.settings.service)
        run.result.warnings.append("the work did not end within the grace period and was abandoned")
        record_end(run, reason)
        return run.result

    @contextmanager
    def _handlers(self) -> Iterator[None]:
        def told(signum: int, frame: FrameType | None) -> None:
            self._signals.append(signum)  # only noted: a handler may interrupt anything, so it takes no lock

        before = {s: signal.signal(s, told) for s in SIGNALS}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, signal.SIG_DFL if handler is None else handler)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _threads_would_wait() -> bool:
    """Whether the operator left threads behind that Python would wait for at its end, for ever perhaps."""
    return any(not t.daemon and t is not threading.main_thread() and t.is_alive() for t in threading.enumerate())


def record_kill(settings: Settings, operator: str, grace: float, env: Mapping[str, str]) -> None:
    """What the supervisor writes down after it had to kill a session: its own process has loaded nothing and holds nothing."""
    clock, ids = SystemClock(), SystemIds()
    text = (
        f"the execution timeout of {settings.execution_timeout:g} s and the grace of {grace:g} s passed; the process was killed"
    )
    session = Session(ids.session(clock.now_us()), settings.id, settings.user)
    record = end_record(session, 0, operator, clock, AnchovyExecutionTimeout(text))
    store = open_store(settings.datastore, env, grace)
    _write_record(task_store(settings, store, f"{session.id}-killed"), lambda data: data, record)


def record_end(run: SessionRun, reason: AnchovyError) -> None:
    """A task record of a session that could not write its own."""
    record = end_record(run.info, run.result.batches, run.operator_cls.__name__, run.clock, reason)
    _write_record(run.parts.last_tasks(f"{run.info.id}-end"), run.redact.deep, record)


def _write_record(kept: TaskStore, masked: Callable[[Any], Any], record: TaskRecord) -> None:
    log = TaskLog(kept.write, masked)
    log.add(record)
    with suppress(AnchovyError):  # the exit code says it all the same
        log.write(record.batch_id)
