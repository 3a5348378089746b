"""However an operator misbehaves: `-t` ends it, nothing half is visible, and a good run goes on from there.

Every case is an `anchovy start` of its own, supervisor and all. Most of their time is waiting, so many run at once. Nothing here
measures a time: what does not end by itself is killed by a watchdog far away, and then its exit code is not the one expected.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import anchovies
from anchovies.core.schema import batch_to_rows
from anchovies.engine.verify import Verifier
from anchovies.store.audit import has_log
from anchovies.store.datafile import read_batches
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.open import open_store
from anchovies.testing.processes import Hatchery

HERE = Path(__file__).parent
ENTRY = "from anchovies.cli.main import main\nmain()"
WATCHDOG = 90
AT_ONCE = 16
AT_IMPORT = {"BusyImport": "while True:\n    pass\n", "DeafImport": "import signal\nfor s in (2, 15):\n    signal.signal(s, 1)\n"}

#: what ends by itself, and how: 1 something failed, 0 well, 7 and 139 what it did to itself, 143 a signal
ENDS = {
    "ThreadLives": 0, "AtExitHangs": 0, "FinalizerHangs": 0, "ForksAndGoesOn": 0, "ClosesOutput": 0, "ForksAndLeaves": 0,
    "Recursion": 1, "SystemExits": 1, "Interrupts": 1, "RaisesItsOwn": 1, "LeavesGenerator": 1, "RaisesUnspeakable": 1,
    "DumpsAndExits": 1, "ExitsHard": 7, "Crashes": 139, "TerminatesItself": 143,
}  # fmt: skip
#: what stands in the way of every row
BEFORE = ("HookSpins", "StartupSpins", "DiscoverySpins", "InitSpins", "BusyImport")


def _load() -> ModuleType:
    spec = util.spec_from_file_location("misbehaving", HERE / "misbehaving.py")
    assert spec and spec.loader
    found = util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


ops = _load()
OTHERS = ("Good", "Base", "Beside")
CASES = [n for n, c in vars(ops).items() if isinstance(c, type) and issubclass(c, ops.Good) and n not in OTHERS]
CASES += AT_IMPORT


@dataclass
class Ended:
    code: int | None
    said: str
    folder: Path
    reached: bool

    @property
    def store(self) -> Any:
        return open_store(str(self.folder / "home"))

    @property
    def rows(self) -> list[tuple[int, int]]:
        """In the order of the log."""
        files = [f for r in Reader(self.store, Home("me", "x")).records(0, "") for f in r.change.files if f.table == "t"]
        return [(row["n"], row["i"]) for f in files for b in read_batches(self.store, f) for row in batch_to_rows(b)]


def _start(case: str, folder: Path, hatchery: Hatchery) -> Ended:
    folder.mkdir()
    shutil.copy(HERE / "misbehaving.py", folder / "ops.py")
    if case in AT_IMPORT:
        with (folder / "ops.py").open("a") as f:
            f.write(f"\n\nclass {case}(BusyLoop):\n    pass\n\n\n{AT_IMPORT[case]}")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ACHVY_")}
    env = {**clean, "ACHVY_HOME": str(folder / "home"), "LOGNAME": "me", "PYTHONDONTWRITEBYTECODE": "1"}
    beside = ["--threads", "2"] if issubclass(getattr(ops, case, ops.Good), ops.Beside) else []
    limits = ["-t", "60" if case in ENDS else "2.5", "--grace", "2", "--commit-bytes", "1"]
    command = ["start", "-op", f"./ops.py:{case}", "-i", "x", *limits, *beside]
    if case in ("WaitsForInput", "FillsStdout"):
        return _with_pipes(case, command, folder, env)
    run = hatchery.start(command, ENTRY, folder, env, folder / "run.out")
    try:
        code: int | None = run.wait(WATCHDOG)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        run.close()
    return Ended(code, run.said, folder, (folder / "reached").exists())


def _with_pipes(case: str, command: list[str], folder: Path, env: dict[str, str]) -> Ended:
    """Standard input that nobody writes to, or standard output and error that nobody reads."""
    read, write = os.pipe()
    mine: dict[str, Any] = {"stdin": read} if case == "WaitsForInput" else {"stdout": write, "stderr": write}
    process = subprocess.Popen([sys.executable, "-c", ENTRY, *command], cwd=folder, env=env, start_new_session=True, **mine)
    try:
        code: int | None = process.wait(WATCHDOG)
    except subprocess.TimeoutExpired:
        process.kill()
        code = None
    finally:
        os.close(read)
        os.close(write)
    return Ended(code, "", folder, (folder / "reached").exists())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, hatchery: Hatchery) -> Iterator[dict[str, Future[Ended]]]:
    """All of them, a dozen at once."""
    folder = tmp_path_factory.mktemp("misbehaving")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {case: pool.submit(_start, case, folder / case, hatchery) for case in CASES}


def test_there_are_fifty_of_them() -> None:
    assert len(CASES) >= 50
    assert set(ENDS) | set(BEFORE) <= set(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_it_ends_and_a_good_run_goes_on(runs: dict[str, Future[Ended]], case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = runs[case].result()
    assert ended.code == ENDS.get(case, 3), ended.said
    kept = ended.rows
    assert kept == [(n, i) for n in range(len(kept) // 10) for i in range(10)], "not whole units, in order"
    if case in BEFORE:
        assert not kept
    assert _broken(ended) == []
    monkeypatch.chdir(ended.folder)
    result = anchovies.run(ops.Good, id="x", user="me", datastore=str(ended.folder / "home"))
    assert result.exit_code == 0
    assert result.status == "ok"
    assert ended.rows == [(n, i) for n in range(6) for i in range(10)], "rows lost or doubled"


@pytest.mark.slow
def test_most_of_them_came_to_where_they_misbehave(runs: dict[str, Future[Ended]]) -> None:
    """On a machine that is slow enough the time passes before; then that is all that was seen."""
    reached = [c for c in CASES if runs[c].result().reached]
    assert len(reached) > len(CASES) / 2, reached


def _broken(ended: Ended) -> list[str]:
    """What `anchovy verify` finds wrong; where nothing was ever committed there is nothing to verify."""
    home = Home("me", "x")
    if not has_log(ended.store, home):
        return []
    verified = Verifier(ended.store, deep=True).verify(home)
    return [str(line.broken) for line in verified.lines if not line.ok]
