"""What may end a batch before its work is done: the deadline, a signal, a failed sibling."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import msgspec

from anchovies.core.clock import Clock
from anchovies.core.errors import AnchovyError, AnchovyExecutionTimeout, Stopped

COPY = 70  # the exit code of a copy of the process that had no business here


class Deadline(msgspec.Struct):
    """The moment (monotonic seconds) by which a batch must have ended; None: never."""

    clock: Clock
    at: float | None = None
    timeout: float | None = None

    def left(self) -> float | None:
        return None if self.at is None else max(0.0, self.at - self.clock.monotonic())

    def passed(self) -> bool:
        return self.at is not None and self.clock.monotonic() >= self.at

    def error(self) -> AnchovyExecutionTimeout:
        return AnchovyExecutionTimeout(
            f"the execution timeout of {self.timeout:g} s passed; what was committed stays, the rest was thrown away",
            hint="give it more time (-t), or let the source set checkpoints so that each run gets further",
        )


class StopSignal:
    """One flag a session: why it must end, if it must. Set from the waiting thread, looked at from all others."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason: AnchovyError | None = None
        self._of_batch: AnchovyError | None = None
        self.nudges = Nudges()
        self._also: list[Callable[[], None]] = []

    def set(self, reason: AnchovyError) -> None:
        """The first reason stays."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()
            for do in list(self._also):
                do()

    def also(self, do: Callable[[], None]) -> None:
        """Call `do` when it is set: for who waits for something else as well. It must neither block nor raise."""
        self._also.append(do)

    def no_more(self, do: Callable[[], None]) -> None:
        self._also.remove(do)

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep that a stop ends early; True if it did."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raise the reason, if there is one."""
        if self.reason is not None:
            raise self.reason
        if self._of_batch is not None:
            raise self._of_batch

    def set_batch(self, reason: AnchovyError | None) -> None:
        """One table ended the whole batch: those beside it end as well. None: the next batch may begin."""
        self._of_batch = reason

    def guard(self) -> AbstractContextManager[None]:
        """Around hooks, and whatever else tidies up: it is nudged as well, but not where it began after the stop."""
        return nullcontext() if self.is_set() else self.nudges

    def meaning(self, error: BaseException) -> BaseException:
        """The error itself, or the reason of the stop, where that, or a nudge, is what it was raised from (an operator that wraps
        whatever it catches; a generator that does not let itself be closed)."""
        reason = self.reason or self._of_batch
        if reason is None:
            return error
        return reason if any(isinstance(e, Nudge) or e is reason for e in _chain(error)) else error

    @property
    def timed_out(self) -> bool:
        return isinstance(self.reason, AnchovyExecutionTimeout)


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it was raised from, the last first."""
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found:
        found.append(at)
        at = at.__cause__ or at.__context__
    return found


def stopped_by(signum: int, name: str) -> Stopped:
    """The reason that a signal gives."""
    return Stopped(f"stopped by {name}; whole units that were read are committed", signal=signum)


class Halt:
    """One flow's reasons to end: a failure in one of its threads (the first one counts), and whatever ends the batch."""

    def __init__(self, check: Callable[[], None], nudges: Nudges) -> None:
        self.error: BaseException | None = None
        self.nudges = nudges
        self._check = check
        self._turn = threading.Lock()
        self._thread = threading.get_ident()

    def fail(self, error: BaseException) -> None:
        """In a sink's thread: end the whole flow, also where its source does not look."""
        with self._turn:
            first = self.error is None
            self.error = self.error or error
        if first and self._thread != threading.get_ident():
            self.nudges.give(self._thread)

    def check(self) -> None:
        """Raise what ended the flow, if anything has. In the thread of a sink another part's failure is only told."""
        if self.error is not None:
            if self._thread == threading.get_ident():
                raise self.error
            raise Stopped("another part of the flow that feeds this sink has failed") from None
        self._check()

    def meaning(self, error: BaseException) -> BaseException:
        """The error itself, or the failure that a nudge stands for."""
        if self.error is None:
            return error
        return self.error if any(isinstance(e, Nudge) for e in _chain(error)) else error


class Nudge(BaseException):
    """Raised inside of code that does not see the stop by itself; no `except Exception` holds it up. The reason is the stop's."""


class Nudges:
    """Raising `Nudge` in every working thread, but only while it runs the operator's code: `with nudges:` around each call of it.

    Our own code is never interrupted: between a commit and the note that it landed, a stray exception would throw committed
    files away. Where the operator's code calls ours back (a sink that asks its stream for rows), that part is `with
    nudges.paused():`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: dict[int, bool] = {}  # threads that run the operator's code; whether they were nudged there
        self._given = False
        self._process = os.getpid()

    def give(self, thread: int | None = None) -> bool:
        """Ask the interpreter to raise `Nudge` at the next bytecode of the operator's code, once a call: the way out of `while
        True: pass`. It does nothing to a thread that sits in a C call; the supervisor ends those. `thread`: only there.

        False: nobody is, or was, inside.
        """
        with self._lock:
            wanted = [t for t, given in self._inside.items() if not given and thread in (None, t)]
            for t in wanted:
                self._inside[t] = self._given = True
                _raise_in(t, Nudge)
            return self._given

    def __enter__(self) -> None:
        with self._lock:
            self._inside[threading.get_ident()] = False

    def __exit__(self, *exc: object) -> None:
        self._leave()

    def _leave(self) -> bool | None:
        """Whether this thread was nudged inside; None: it was not inside."""
        if os.getpid() != self._process:
            _end_copy()
        me = threading.get_ident()
        with self._lock:
            given = self._inside.pop(me, None)
        if given:
            _raise_in(me, None)  # given at the last moment and not raised yet: whoever goes on sees the stop itself
        return given

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Our own code, called by the operator's."""
        inside = self._leave() is not None
        try:
            yield
        finally:
            if inside:
                self.__enter__()


def _end_copy() -> None:
    """The operator called os.fork(), and its child came back from there: two processes must not go on as one session."""
    sys.stderr.write(
        "anchovies: a child that os.fork() made in an operator came back from it and is ended; let it call os._exit()\n"
    )
    sys.stderr.flush()
    os._exit(COPY)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Set, or take back, what a thread will raise next."""
    import ctypes  # only here: a run that ends by itself never needs it

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error))
