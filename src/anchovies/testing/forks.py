"""Real processes by the hundred: children forked from one that has loaded the command line and nothing that starts a thread.

Each is a process of its own that can be killed; only the loading of modules, half of a short run, is paid once.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

#: Loaded before the first fork; none of them starts a thread or opens anything.
LOADED = ("anchovies.cli.start", "anchovies.engine.api", "anchovies.store.faultpoints", "anchovies.store.maintain")


class Forks:
    """The process that forks. One run at a time each; have several for several."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", "from anchovies.testing.forks import serve; serve()"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own interpreter

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._process as process:
            process.kill()

    def run(self, args: list[str], cwd: Path, env: dict[str, str], out: Path, code: str = "") -> int:
        """`anchovy <args>` in `cwd`, after `code` was executed in its process; its exit code, negative where a signal killed it.

        Without `args`: `code` alone. What it says lies in `out` and, on standard error, in `out` with `.err`.
        """
        job = {"args": args, "cwd": str(cwd), "env": env, "out": str(out), "code": code}
        pipe = self._process
        assert pipe.stdin is not None and pipe.stdout is not None
        pipe.stdin.write(json.dumps(job) + "\n")
        pipe.stdin.flush()
        return int(pipe.stdout.readline())


def serve() -> None:
    """Fork a child for each line of standard input, and say how it ended."""
    for name in LOADED:
        import_module(name)
    gc.freeze()
    assert threading.active_count() == 1, "only a process without threads may fork"
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _child(json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _child(job: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    out = Path(job["out"])
    for fd, path, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, out.with_suffix(".err"), os.O_WRONLY)):
        new = os.open(path, flags | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(new, fd)
        os.close(new)
    exec(job["code"], {"__name__": "child"})  # noqa: S102 - the test's own words
    if job["args"]:
        import_module("anchovies.cli.main").main(job["args"])
