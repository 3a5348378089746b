"""The process behind `Hatchery`: it reads an order a line, forks, and says who was born and how they ended.

It must have no thread when it forks. So it loads no pyarrow, which starts one; each child does that for itself.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any


def main() -> None:
    """Until standard input ends; then all children are killed. The arguments name the modules to load."""
    for name in sys.argv[1:]:
        import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError(f"one of these has started a thread: {' '.join(sys.argv[1:])}")
    gc.freeze()
    bell, ring = os.pipe()
    os.set_blocking(ring, False)
    signal.signal(signal.SIGCHLD, lambda signum, frame: None)
    signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
    alive: set[int] = set()
    heard = b""
    while True:
        ready = select.select([0, bell], [], [])[0]
        if bell in ready:
            os.read(bell, 4096)
            _reap(alive)
        if 0 in ready:
            data = os.read(0, 1 << 20)
            if not data:
                break
            *orders, heard = (heard + data).split(b"\n")
            for order in orders:
                alive.add(_hatch(json.loads(order), (bell, ring)))
    for pid in alive:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _say(text: str) -> None:
    os.write(1, (text + "\n").encode())


def _reap(alive: set[int]) -> None:
    while alive:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        alive.discard(pid)
        _say(f"ended {pid} {os.waitstatus_to_exitcode(status)}")


def _hatch(egg: Mapping[str, Any], pipes: tuple[int, int]) -> int:
    """Fork; the child never returns."""
    pid = os.fork()
    if pid:
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)  # both do it: whoever is told of it may kill the group at once
        _say(f"born {pid}")
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        _settle(egg, pipes)
        code = _live(egg)
    except BaseException as e:  # nothing of the child may come back into the hatchery's loop
        os.write(2, f"{type(e).__name__}: {e}\n".encode())
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _settle(egg: Mapping[str, Any], pipes: tuple[int, int]) -> None:
    """Into its own folder, environment and files, as if it had been started there."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for fd in pipes:
        os.close(fd)
    os.chdir(egg["cwd"])
    os.environ.clear()
    os.environ.update(egg["env"])
    out = str(egg["out"])
    for fd, path in ((0, os.devnull), (1, out), (2, out.rpartition(".")[0] + ".err")):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, fd)
        os.close(opened)


def _live(egg: Mapping[str, Any]) -> int:
    sys.argv = ["-c", *egg["argv"]]
    try:
        exec(compile(egg["entry"], "<entry>", "exec"), {"__name__": "__main__"})  # noqa: S102
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else int(e.code is not None)
    return 0
