"""Building the connections of an operator, opening them on first use or at STARTUP, closing them in reverse order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from anchovies.core.errors import AnchovyError, ConfigError, RetryableError
from anchovies.core.faultpoint import fault
from anchovies.core.retry import Retry
from anchovies.core.secret import Secret
from anchovies.core.suggest import nearest
from anchovies.engine.handles import Handle, handle_of
from anchovies.engine.limits import StopSignal
from anchovies.sdk.connection import variable_of
from anchovies.sdk.context import context
from anchovies.sdk.operator import Operator

TRIES = 4
BASE = 0.25
OTHERS = ("datastore", "into")  # connections that are no operator's
NEAR = 0.7
Key = tuple[str, int]  # id, and thread (0: all of them)


class Connections(Mapping[str, Any]):
    """Connections by id. Looking one up opens it, in whatever thread; each is opened once, or once for each thread.

    Attributes are checked when this is made: ConfigError lists all that is missing or wrong, of all of them. `warnings`:
    sentences about variables that no connection takes, but one might have been meant to.
    """

    def __init__(
        self, operator: type[Operator], given: Mapping[str, Mapping[str, Secret]], stop: StopSignal, retry: Retry
    ) -> None:
        self._stop, self._retry = stop, retry
        self.overdue: BaseException | None = None  # the stop that a `close` had to be ended for
        self._turn = threading.Lock()
        self._each = operator.connections_that("each_thread")
        self._eager = operator.connections_that("at_startup") - self._each
        self._factories = factories = operator.connection_classes()
        self._given = given
        self._handles: dict[Key, Handle] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._open: dict[Key, Any] = {}  # in the order in which they were opened
        strays = _strays(factories, given)
        wrong = []
        for cnxn_id in factories:
            self._locks[cnxn_id] = threading.RLock()
            try:
                self._handles[cnxn_id, 0] = self._make(cnxn_id)
            except ConfigError as e:
                wrong.append(_explained(e, cnxn_id, strays))
        if wrong:
            raise _all_of(wrong)
        self.warnings = [
            f"{variable_of(stray, '…')} is set, but {operator.__name__} has no connection {stray!r}: did you mean {meant!r}?"
            for stray, meant in strays.items()
            if stray != "default"
        ]

    def _make(self, cnxn_id: str) -> Handle:
        return handle_of(cnxn_id, self._factories[cnxn_id], self._given.get(cnxn_id.lower(), {}))

    def __getitem__(self, cnxn_id: str) -> Any:
        if cnxn_id not in self._factories:
            raise KeyError(cnxn_id)
        key = cnxn_id, threading.get_ident() if cnxn_id in self._each else 0
        handle = self._handles.get(key)
        if handle is not None and key in self._open and handle.is_open:
            return self._open[key]
        with self._locks[cnxn_id]:  # sinks, and tables beside one another, have threads of their own
            handle = self._handles.get(key) or self._make(cnxn_id)
            if key not in self._open or not handle.is_open:
                made = self._opened(cnxn_id, handle)
                with self._turn:
                    self._handles[key], self._open[key] = handle, made
            return self._open[key]

    def __contains__(self, cnxn_id: object) -> bool:
        return cnxn_id in self._factories

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def __len__(self) -> int:
        return len(self._factories)

    def startup(self) -> None:
        """Open those that are opened at STARTUP. Raises what one of them raises."""
        for cnxn_id in self._factories:
            if cnxn_id in self._eager:
                with self._stop.nudges:
                    self[cnxn_id]

    def _opened(self, cnxn_id: str, handle: Handle) -> Any:
        """Open, again with backoff where that may help, until the session stops."""
        tried = 0
        while True:
            self._stop.check()
            try:
                fault("connection.open.before", RetryableError)
                made = handle.open()
                fault("connection.open.after", RetryableError)
                return made
            except BaseException as e:
                with suppress(Exception):  # what it had come to
                    handle.close()
                if not isinstance(e, RetryableError):
                    raise
                tried += 1
                e.where.setdefault("tries", tried)  # whoever asked for it need not ask again
                seconds = self._retry.pause(tried, e.retry_after)
                if seconds is None:
                    raise
                _tell(f"connection {cnxn_id!r}: {e}; it is opened again (try {tried + 1} of {self._retry.attempts})")
                if self._stop.wait(seconds):
                    raise

    def close(self, *, keep: bool = False) -> list[str]:
        """Close what is open, the last first. Returns what went wrong, in words. `keep`: but for those of STARTUP."""
        wrong = []
        for key in reversed(list(self._open)):
            cnxn_id, thread = key
            if keep and cnxn_id in self._eager:
                continue
            with self._turn:
                del self._open[key]
                handle = self._handles.pop(key) if thread else self._handles[key]
            try:
                with self._stop.guard():
                    handle.close()
            except BaseException as e:  # whatever one of them raises, the others are closed
                if (reason := self._stop.meaning(e)) is not e:
                    self.overdue, e = reason, reason
                kind = "" if isinstance(e, AnchovyError) else f"{type(e).__name__}: "
                wrong.append(f"connection {cnxn_id!r} did not close: {kind}{e}")
        return wrong


def _tell(warning: str) -> None:
    """Told where somebody can hear it, and counted in the record of the task."""
    with suppress(ConfigError):  # outside of a run
        ctx = context()
        data = getattr(ctx.task, "data", {})
        ctx.task.with_(retries=data.get("retries", 0) + 1)
        ctx.progress(warning=warning)


def _strays(factories: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Ids that variables name and no connection has, but one has nearly: stray → meant. Others are other anchovies'."""
    known = {i.lower(): i for i in factories}
    others = [i for i in given if i not in known and i not in OTHERS]
    near = {i: found for i in others if (found := nearest(i, known.values(), NEAR))}
    if "default" in others and len(known) == 1:
        near["default"] = next(iter(known.values()))
    return near


def _explained(error: ConfigError, cnxn_id: str, strays: Mapping[str, str]) -> ConfigError:
    """With the variables that were meant for it, perhaps."""
    meant = [variable_of(stray, "…") for stray, to in strays.items() if to == cnxn_id]
    if not meant:
        return error
    return ConfigError(
        error.message, hint=f"{meant[0]} is set: did you mean {variable_of(cnxn_id, '…')}? {error.hint}", connection=cnxn_id
    )


def _all_of(errors: list[ConfigError]) -> ConfigError:
    """One error that says everything."""
    if len(errors) == 1:
        return errors[0]
    hints = [f"{e.where['connection']}: {e.hint}" for e in errors]
    return ConfigError("; ".join(e.message for e in errors), hint="; ".join(hints))
