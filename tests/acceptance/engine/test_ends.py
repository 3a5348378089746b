"""However user code sits there, the process ends in time, only whole commits are visible, and the task log says why.

All processes are started at once, because most of their time is waiting.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.schema import batch_to_rows
from anchovies.store.datafile import read_batches
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.open import open_store

OPERATORS = r"""
import re, socket, subprocess, sys, threading, time
import pyarrow as pa
from anchovies.sdk import Downloader, context, source

class Base(Downloader):
    @source("t")
    def t(self):
        for n in range(3):
            yield pa.table({"n": [n] * 10})
            context().checkpoint("n").set(n)
        yield pa.table({"n": [99]})
        print("reached", flush=True)
        self.sit()
        yield pa.table({"n": [100]})

class Busy(Base):
    def sit(self):
        while True:
            pass

class Stubborn(Base):
    def sit(self):
        while True:
            try:
                while True:
                    pass
            except Exception:
                continue

class Unstoppable(Base):
    def sit(self):
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except BaseException:
                continue

class Socket(Base):
    def sit(self):
        a, b = socket.socketpair()
        a.recv(1)

class Sleep(Base):
    def sit(self):
        time.sleep(1000)

class Power(Base):
    def sit(self):
        pow(7, 10 ** 9)

class Regex(Base):
    def sit(self):
        re.match(r"(a+)+b", "a" * 60)

class Child(Base):
    def sit(self):
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1000)  # leftover"])

class Thread(Base):
    def sit(self):
        threading.Thread(target=time.sleep, args=(1000,)).start()

class Chatty(Base):
    def sit(self):
        while True:
            time.sleep(0.01)
            context().batch.check()
"""

SITTING = ["Busy", "Stubborn", "Unstoppable", "Socket", "Sleep", "Power", "Regex", "Child", "Thread", "Chatty"]


@dataclass
class Ended:
    """A process that has ended, and what lies in its datastore."""

    code: int
    out: str
    home: Path

    @property
    def rows(self) -> list[int]:
        store = open_store(str(self.home))
        records = Reader(store, Home("me", "x")).records(0, "")
        files = [f for r in records for f in r.change.files]
        return [row["n"] for f in files for b in read_batches(store, f) for row in batch_to_rows(b)]

    @property
    def checkpoint(self) -> Any:
        found = Reader(open_store(str(self.home)), Home("me", "x")).state().checkpoints.get("n")
        return None if found is None else found.value

    @property
    def log(self) -> list[dict[str, Any]]:
        files = sorted((self.home / "me/x/$task_logs").glob("*"))
        return [json.loads(line) for f in files for line in f.read_text().splitlines()]


class Running:
    """`anchovy start -op ops.py:<cls>` in a process of its own."""

    def __init__(self, folder: Path, cls: str, *args: str) -> None:
        folder.mkdir()
        (folder / "ops.py").write_text(OPERATORS)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ACHVY_")}
        env = {**clean, "ACHVY_HOME": str(folder / "home"), "LOGNAME": "me", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "anchovies.cli.main", "start", "-op", f"./ops.py:{cls}", "--id", "x", *args]
        self.home = folder / "home"
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def reach(self) -> None:
        """Wait until the source sits."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "reached" in line:
                return
        raise AssertionError("it ended before it sat")

    def end(self) -> Ended:
        out, _ = self.process.communicate(timeout=30)  # the pipe closes when the last process that holds it has ended
        return Ended(self.process.returncode, out, self.home)


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Running]]:
    """All that sit, with a timeout of 1 s and a grace of 2 s; commits at every mark."""
    folder = tmp_path_factory.mktemp("timed")
    running = {
        cls: Running(folder / cls, cls, "-t", "1.5", "--grace", "2", "--commit-bytes", "1", "--no-progress") for cls in SITTING
    }
    yield running
    for r in running.values():
        if r.process.poll() is None:
            r.process.kill()
            r.process.communicate()


@pytest.mark.parametrize("cls", [s for s in SITTING if s != "Thread"])
def test_a_timeout_ends_whatever_sits_there(timed: dict[str, Running], cls: str) -> None:
    ended = timed[cls].end()
    assert ended.code == 3, ended.out
    assert set(ended.rows) <= {0, 1, 2}, "rows after the last mark became visible"
    assert len(ended.rows) % 10 == 0
    assert ended.checkpoint == (max(ended.rows) if ended.rows else None)
    assert any(r["data"].get("err_type") == "AnchovyExecutionTimeout" for r in ended.log), ended.log


def test_a_thread_that_is_left_behind_holds_nobody_up(timed: dict[str, Running]) -> None:
    ended = timed["Thread"].end()
    assert ended.code == 0, ended.out
    assert len(ended.rows) == 32


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(("cls", "supervised"), [("Busy", False), ("Sleep", False), ("Chatty", False), ("Chatty", True)])
def test_a_signal_ends_a_task_with_whole_units(tmp_path: Path, cls: str, signum: int, code: int, supervised: bool) -> None:
    r = Running(tmp_path / "x", cls, "--grace", "1", "--commit-bytes", "1", *(["-t", "60"] if supervised else []))
    r.reach()
    r.process.send_signal(signum)
    ended = r.end()
    assert ended.code == code, ended.out
    assert ended.rows == [n for n in range(3) for _ in range(10)]
    assert ended.checkpoint == 2
    assert any(x["data"].get("err_type") == "Stopped" for x in ended.log)


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    r = Running(tmp_path / "x", "Sleep", "--grace", "1000")
    r.reach()
    r.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    r.process.send_signal(signal.SIGINT)
    ended = r.end()
    assert ended.code == 130


def test_the_child_dies_with_its_supervisor(tmp_path: Path) -> None:
    r = Running(tmp_path / "x", "Sleep", "-t", "60")
    r.reach()
    children = Path(f"/proc/{r.process.pid}/task/{r.process.pid}/children").read_text().split()
    assert len(children) == 1
    r.process.kill()
    r.process.communicate()
    for _ in range(100):
        if _gone(int(children[0])):
            return
        time.sleep(0.05)
    raise AssertionError("the child lives on")


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_service_drains_on_sigterm(tmp_path: Path) -> None:
    r = Running(tmp_path / "x", "Chatty", "-S", "--commit-bytes", "1", "--grace", "5")
    r.reach()
    r.process.send_signal(signal.SIGTERM)
    ended = r.end()
    assert ended.code == 0, ended.out
    assert ended.rows == [n for n in range(3) for _ in range(10)]
