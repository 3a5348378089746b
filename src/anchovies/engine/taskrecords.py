"""Records of the task log, made of what has ended."""

from __future__ import annotations

import threading

from anchovies.core.clock import Clock, iso
from anchovies.engine.context import RunTask
from anchovies.sdk.session import Session
from anchovies.store.tasklog import TaskRecord


def record_of(session: Session, batch: int, operator: str, task: RunTask, clock: Clock) -> TaskRecord:
    """What the log says of a task that ends now, in this thread."""
    return TaskRecord(
        anchovy_id=session.anchovy_id,
        anchovy_user=session.user,
        session_id=session.id,
        batch_id=batch,
        thread_id=threading.get_ident(),
        operator=operator,
        task_type=task.type,
        duration=task.duration_ms(),
        timestamp=iso(clock.now_us()),
        status=task.status,
        tbl=task.tbl,
        data=task.data,
    )


def end_record(session: Session, batch: int, operator: str, clock: Clock, error: BaseException) -> TaskRecord:
    """What the log says of a session that ended without a task that could say it."""
    return record_of(session, batch, operator, RunTask("ERROR", None, clock).failed(error), clock)
