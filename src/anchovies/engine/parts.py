"""Classes that people put in place of ours (`--task-store-cls` and its sisters): found and checked at the start, and fenced in.

What one of them writes is a copy for people. So when a `write` raises, that is told, naming the setting and the class, and the
run goes on; records of tasks and results are then kept where ours would have kept them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import msgspec

from anchovies.core import values
from anchovies.core.declared import BY_NAME
from anchovies.core.errors import AnchovyError, ConfigError, FatalError
from anchovies.core.registry import resolve_class
from anchovies.core.settings import Settings
from anchovies.engine.limits import Deadline, StopSignal
from anchovies.sdk import parts as sdk
from anchovies.sdk.result import SessionResult
from anchovies.store.base import Store
from anchovies.store.buffers import expect_buffer
from anchovies.store.tasklog import TaskRecord

_SDK = "anchovies.sdk.parts"
#: setting → (what it is called, our class, its methods)
KINDS: Mapping[str, tuple[str, type, tuple[str, ...]]] = {
    "checkpoint_cls": ("checkpoint store", sdk.CheckpointStore, ("encode", "decode", "write")),
    "task_store_cls": ("task store", sdk.TaskStore, ("write",)),
    "tbl_store_cls": ("table store", sdk.TblStore, ("write",)),
    "result_store_cls": ("result store", sdk.ResultStore, ("write",)),
    "session_cls": ("session class", sdk.Session, ()),
    "batch_cls": ("batch class", sdk.Batch, ("time_left", "check")),
}
OURS = {"HiveTaskStore": f"{_SDK}:HiveTaskStore", "HiveTaskMetastore": f"{_SDK}:HiveTaskStore"}
_SESSION = re.compile(r"[A-Za-z0-9._-]{1,120}")
#: what a class of a person's may raise and is only told of; a stop that is meant for us passes
_RAISED = (Exception, SystemExit)
Warn = Callable[[str], None]


class BatchLimits(msgspec.Struct):
    """What ends a batch early. The engine asks it, and a class of a person's cannot answer in its place."""

    deadline: Deadline
    stop: StopSignal

    def time_left(self) -> float | None:
        return self.deadline.left()

    def check(self) -> None:
        if self.deadline.passed():
            self.stop.set(self.deadline.error())
        self.stop.check()


class Parts:
    """The parts of one session. Raises ConfigError for a class that is not there, lacks a method, or cannot be made."""

    def __init__(self, settings: Settings, store: Store, session_id: str) -> None:
        self._classes = {name: _class_of(settings, name) for name in KINDS}
        self.session = self._make("session_cls", session_id, settings.id, settings.user)
        _check_id(self._named("session_cls"), self.session, session_id)
        place = self._place = sdk.Place(settings.user, settings.id, self.session.id, store)
        self._ours = {"task_store_cls": sdk.TaskStore(place), "result_store_cls": sdk.ResultStore(place)}
        self.tasks = self._make("task_store_cls", place)
        self._tables = self._make("tbl_store_cls", place)
        self._results = self._make("result_store_cls", place)
        self._checkpoints = self._make("checkpoint_cls", place)
        if settings.data_buffer_cls != BY_NAME["data_buffer_cls"].default:
            expect_buffer(settings.data_buffer_cls)

    def _make(self, name: str, *args: Any) -> Any:
        try:
            return self._classes[name](*args)
        except _RAISED as e:
            raise ConfigError(f"{self._named(name)} could not be made: {_phrase(e)}", setting=name) from e

    def _named(self, name: str) -> str:
        return f"{BY_NAME[name].flags[0]} {BY_NAME[name].show(self._classes[name])}"

    def batch(self, number: int, deadline: Deadline, stop: StopSignal) -> sdk.Batch:
        """What `batch()` gives."""
        limits = BatchLimits(deadline, stop)
        found: sdk.Batch = self._make("batch_cls", number, limits)
        if getattr(found, "_limits", None) is not limits or found.id != number:
            raise ConfigError(
                f"{self._named('batch_cls')} is not made whole", hint="in its __init__: super().__init__(id, limits)"
            )
        return found

    # checkpoints

    @property
    def own_checkpoints(self) -> bool:
        """Whether a class of a person's stands between sources and the values in the log."""
        return self._classes["checkpoint_cls"] is not sdk.CheckpointStore

    def encode(self, key: str, value: Any) -> Any:
        """The plain JSON that the log keeps of a value. Raises FatalError that names the class."""
        return values.encode(self._turn("encode", key, value))

    def decode(self, key: str, kept: Any) -> Any:
        """The value of what the log keeps. Raises FatalError that names the class."""
        return self._turn("decode", key, values.decode(kept))

    def _turn(self, method: str, key: str, value: Any) -> Any:
        try:
            return getattr(self._checkpoints, method)(key, value)
        except _RAISED as e:
            said = f"{self._named('checkpoint_cls')}: {method} of the checkpoint {key!r} failed: {_phrase(e)}"
            raise FatalError(said, hint="nothing was committed for it; mend the class, or run without it", key=key) from e

    # copies for people

    def mirror(self, tables: Mapping[str, Any], checkpoints: Mapping[str, Any], warn: Warn) -> None:
        """Copies of what was committed. Where ours cannot be written, that is nobody's loss."""
        self._copies("tbl_store_cls", self._tables, tables, warn)
        self._copies("checkpoint_cls", self._checkpoints, checkpoints, warn)

    def _copies(self, name: str, part: Any, every: Mapping[str, Any], warn: Warn) -> None:
        for key, value in every.items():
            try:
                part.write(key, deepcopy(value))
            except _RAISED as e:
                if self._classes[name] is not KINDS[name][1] or not isinstance(e, AnchovyError):
                    warn(f"{self._named(name)}: write({key!r}) failed: {_phrase(e)}")
                return

    def keep_tasks(self, records: Sequence[TaskRecord], batch: int, warn: Warn) -> None:
        """Keep what tasks came to: where the setting says, else where ours does. Raises StoreUnavailable."""
        self._keep("task_store_cls", self.tasks, warn, deepcopy(list(records)), batch)

    def keep_result(self, result: SessionResult, warn: Warn) -> None:
        """Keep what the session came to, likewise."""
        self._keep("result_store_cls", self._results, warn, deepcopy(result))

    def _keep(self, name: str, part: Any, warn: Warn, *args: Any) -> None:
        ours = self._ours[name]
        if type(part) is not type(ours):
            try:
                part.write(*args)
                return
            except _RAISED as e:
                warn(f"{self._named(name)}: write failed, so it was kept in the default place: {_phrase(e)}")
        ours.write(*args)  # type: ignore[attr-defined]

    def last_tasks(self, session_id: str) -> sdk.TaskStore:
        """Keeps the records of a session that had to be abandoned: a class of ours, because others may hang."""
        kind = sdk.HiveTaskStore if type(self.tasks) is sdk.HiveTaskStore else sdk.TaskStore
        return kind(msgspec.structs.replace(self._place, session_id=session_id))

    def close(self, warn: Warn) -> None:
        """Let parts that have a `close` give back what they hold."""
        for name, part in (
            ("checkpoint_cls", self._checkpoints),
            ("task_store_cls", self.tasks),
            ("tbl_store_cls", self._tables),
            ("result_store_cls", self._results),
        ):
            try:
                if hasattr(part, "close"):
                    part.close()
            except _RAISED as e:
                warn(f"{self._named(name)}: close failed: {_phrase(e)}")


def task_store(settings: Settings, store: Store, session_id: str) -> sdk.TaskStore:
    """For a process that must load nothing of a person's: the task store of that name, if it is one of ours, else the default."""
    ours = sdk.HiveTaskStore if settings.task_store_cls in OURS else sdk.TaskStore
    return ours(sdk.Place(settings.user, settings.id, session_id, store))


def _class_of(settings: Settings, name: str) -> type:
    what, base, methods = KINDS[name]
    if (said := getattr(settings, name)) is None:
        return base
    flag = BY_NAME[name].flags[0]
    try:
        found = resolve_class(said, what, OURS if name == "task_store_cls" else {})
    except ConfigError as e:
        raise ConfigError(f"{flag}: {e.message}", hint=e.hint, setting=name) from e
    if not methods or base is sdk.Batch:
        _check_face(f"{flag} {BY_NAME[name].show(found)}", found, base, methods)
    for method in methods:
        if not callable(getattr(found, method, None)):
            takes = ", ".join(tuple(inspect.signature(getattr(base, method)).parameters)[1:])
            hint = f"a {what} is a subclass of {_SDK}.{base.__name__}, or has {', '.join(methods)}"
            raise ConfigError(f"{flag} {BY_NAME[name].show(found)} has no method {method}({takes})", hint=hint, setting=name)
    return found


def _check_face(named: str, found: type, base: type, methods: Sequence[str]) -> None:
    """Sessions and batches are of ours, and what the engine asks them is answered by ours."""
    if not issubclass(found, base):
        raise ConfigError(
            f"{named} is not a subclass of {_SDK}.{base.__name__}", hint=f"class {found.__name__}({base.__name__}): …"
        )
    for method in methods:
        if getattr(found, method) is not getattr(base, method):
            raise ConfigError(f"{named} overrides {method}(), which the deadline relies on", hint="give the method another name")


def _check_id(named: str, session: sdk.Session, given: str) -> None:
    if not (isinstance(session.id, str) and session.id.startswith(given) and _SESSION.fullmatch(session.id)):
        raise ConfigError(
            f"{named}: the id {values.short(session.id)} does not go on from {given!r}",
            hint="keep the id that is given; a name may follow it, of letters, digits, '.', '_' and '-'",
        )


def _phrase(e: BaseException) -> str:
    return str(e) if isinstance(e, AnchovyError) else f"{type(e).__name__}: {e}"
