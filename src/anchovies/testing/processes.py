"""Real processes of anchovies that can be killed, stopped and started twice, many a second.

`Spawned` is a fresh interpreter. A `Hatchery` is one that has loaded what a run needs (and has no thread); each `Forked` run is
a child of it, in a process group of its own, and costs a fraction of a start.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

TimeoutExpired = subprocess.TimeoutExpired


class Run(ABC):
    """One process of an anchovy, in a process group of its own. Its standard output and error lie in files."""

    pid: int

    def __init__(self, out: Path) -> None:
        self.out, self.err = out, out.with_suffix(".err")
        self.born = time.monotonic()

    @property
    @abstractmethod
    def code(self) -> int | None:
        """How it ended, -9 for SIGKILL; None while it runs."""

    def signal(self, signum: int) -> None:
        """To the whole group, if it still runs."""
        if self.code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signum)

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        self.signal(signal.SIGSTOP)
        with suppress(FileNotFoundError, ProcessLookupError):
            while self.code is None and Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                time.sleep(0.005)

    def kill(self) -> bool:
        """SIGKILL to the whole group. True: it was running, and died of it."""
        self.signal(signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def wait(self, seconds: float = 60) -> int:
        until = time.monotonic() + seconds
        while (code := self.code) is None:
            if time.monotonic() > until:
                raise TimeoutExpired(str(self.out), seconds)
            time.sleep(0.002)
        return code

    def close(self) -> None:
        self.signal(signal.SIGCONT)
        self.kill()

    @property
    def said(self) -> str:
        return self.err.read_text() + self.out.read_text()

    def result(self) -> dict[str, Any]:
        """What `--json` printed."""
        found: dict[str, Any] = json.loads(self.out.read_text())
        return found


class Spawned(Run):
    """An interpreter of its own, with a gate: its standard input is open until `release()`."""

    def __init__(self, argv: list[str], entry: str, cwd: Path, env: Mapping[str, str], out: Path) -> None:
        super().__init__(out)
        with self.out.open("wb") as stdout, self.err.open("wb") as stderr:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", entry, *argv], cwd=cwd, env=dict(env), stdin=subprocess.PIPE, stdout=stdout, stderr=stderr,
                start_new_session=True,
            )  # fmt: skip
        self.pid = self.process.pid

    @property
    def code(self) -> int | None:
        return self.process.poll()

    def wait(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)

    def release(self) -> None:
        """Open the gate."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close(self) -> None:
        super().close()
        self.release()


class Forked(Run):
    """A child of a hatchery."""

    def __init__(self, pid: int, out: Path, ended: Mapping[int, int]) -> None:
        super().__init__(out)
        self.pid, self._ended = pid, ended
        self._code: int | None = None

    @property
    def code(self) -> int | None:
        if self._code is None:
            self._code = self._ended.get(self.pid)
        return self._code


class Hatchery:
    """Starts runs by forking a process that has loaded `modules`. They all end with it."""

    def __init__(self, modules: tuple[str, ...] = ()) -> None:
        command = [sys.executable, "-c", "from anchovies.testing.hatching import main; main()", *modules]
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
        )
        self._born: queue.Queue[int | None] = queue.Queue()
        self._ended: dict[int, int] = {}
        self._turn = threading.Lock()
        self._ear = threading.Thread(target=self._listen, name="hatchery", daemon=True)
        self._ear.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, *numbers = line.split()
            if word == "born":
                self._ended.pop(int(numbers[0]), None)  # the kernel gives numbers out again
                self._born.put(int(numbers[0]))
            else:
                self._ended[int(numbers[0])] = int(numbers[1])
        self._born.put(None)

    def start(self, argv: list[str], entry: str, cwd: Path, env: Mapping[str, str], out: Path) -> Forked:
        """What `python -c entry argv…` does, but for the time it takes."""
        egg = {"argv": argv, "entry": entry, "cwd": str(cwd), "env": dict(env), "out": str(out)}
        out.with_suffix(".err").write_bytes(b"")
        out.write_bytes(b"")
        assert self._process.stdin is not None
        with self._turn:  # or two threads would take each other's child
            self._process.stdin.write(json.dumps(egg) + "\n")
            pid = self._born.get(timeout=30)
        if pid is None:
            raise RuntimeError(f"the hatchery has ended: {self._process.wait()}")
        return Forked(pid, out, self._ended)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._ear.join(30)
        self._process.stdout.close()
