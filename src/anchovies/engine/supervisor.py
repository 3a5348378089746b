"""The process that outlives a deadline: it forks before any thread or heavy import and only waits.

Work that sits in a C call with the interpreter's lock cannot be ended from inside; from here it can.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

ARM = struct.Struct("d")
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
LOOK = 1.0
LAST_WORDS = 2.0  # seconds, at least
TIMED_OUT = 3


def supervise(
    child: Callable[[Callable[[float | None], None]], int], timeout: float, grace: float, on_kill: Callable[[], None]
) -> int:
    """Run `child(arm)` in a forked process; its exit code, or 3 if it had to be killed at its deadline + `grace` seconds.

    The first deadline is `timeout` seconds from now; the child calls `arm(deadline)` (monotonic seconds) at the start of each
    batch, and `arm(None)` where none counts. Signals are forwarded; when this process dies, the child is killed too. `on_kill()`
    runs here after a kill. Call it before any thread exists.
    """
    read, write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os._exit(_in_child(child, write, parent))
    os.close(write)
    return _Parent(pid, read, time.monotonic() + timeout, grace, on_kill).wait()


def _in_child(child: Callable[[Callable[[float | None], None]], int], pipe: int, parent: int) -> int:
    os.setpgid(0, 0)
    import ctypes  # a run without a deadline never needs it

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 1  # it died before we could ask to be told
    return child(lambda at: _say(pipe, at))


def _say(pipe: int, at: float | None) -> None:
    os.write(pipe, ARM.pack(0.0 if at is None else at))


class _Parent:
    def __init__(self, pid: int, pipe: int, deadline: float, grace: float, on_kill: Callable[[], None]) -> None:
        self._pid, self._pipe, self._grace, self._on_kill = pid, pipe, grace, on_kill
        self._deadline: float | None = deadline
        for s in FORWARDED:
            signal.signal(s, self._forward)

    def _forward(self, signum: int, frame: FrameType | None) -> None:
        try:
            os.kill(self._pid, signum)
        except ProcessLookupError:
            return

    def wait(self) -> int:
        """Wait for the child, or for its time."""
        while True:
            left = None if self._deadline is None else self._deadline + self._grace - time.monotonic()
            if left is not None and left <= 0:
                return self._kill()
            ready = select.select([self._pipe], [], [], LOOK if left is None else min(left, LOOK))[0]
            if ready and not self._hear():
                return self._reap()
            if not ready and (code := self._poll()) is not None:
                return code  # a process that it left behind holds the pipe

    def _hear(self) -> bool:
        """What the child says of its deadline; False when it has ended (its end of the pipe is closed)."""
        data = os.read(self._pipe, ARM.size * 64)
        if not data:
            return False
        at = float(ARM.unpack(data[-ARM.size :])[0])
        self._deadline = at or None
        return True

    def _reap(self) -> int:
        """The pipe is closed: the child is ending, and its grandchildren are none of its result."""
        until = None if self._deadline is None else self._deadline + self._grace
        while until is not None and time.monotonic() < until:
            if (code := self._poll()) is not None:
                return code
            time.sleep(0.005)
        return self._kill() if until is not None else _exit_code(os.waitpid(self._pid, 0)[1])

    def _poll(self) -> int | None:
        done, status = os.waitpid(self._pid, os.WNOHANG)
        if not done:
            return None
        code = _exit_code(status)
        if code == TIMED_OUT:
            self._kill_group()
        return code

    def _kill_group(self) -> None:
        """End all that the child started and left, whether or not the child itself still belongs to its group."""
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)

    def _kill(self) -> int:
        os.kill(self._pid, signal.SIGKILL)
        self._kill_group()
        os.waitpid(self._pid, 0)
        self._last_words()
        return TIMED_OUT

    def _last_words(self) -> None:
        """`on_kill()`, but not for ever: the datastore may hang, and nobody may be reading what is printed."""
        signal.signal(signal.SIGALRM, lambda signum, frame: os._exit(TIMED_OUT))
        signal.setitimer(signal.ITIMER_REAL, max(LAST_WORDS, self._grace))
        self._on_kill()
        signal.setitimer(signal.ITIMER_REAL, 0)


def _exit_code(status: int) -> int:
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
