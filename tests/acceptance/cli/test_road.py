"""The command line as a person uses it: the demo, a run from a file of one's own, exit codes of whole processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NUMBERS = """
from anchovies.sdk import Downloader, context, source

class Numbers(Downloader):
    @source("numbers")
    def numbers(self, **kwds):
        last = context().checkpoint("last")
        start = last.get(0) + 1
        yield from ({"n": n} for n in range(start, start + 100))
        last.set(start + 99)

    @source("broken")
    def broken(self, **kwds):
        yield {"n": 1}
        raise ValueError("no more correct-horse")
"""


@pytest.fixture
def anchovy(tmp_path: Path):  # type: ignore[no-untyped-def]
    """`anchovy('start', …)` in a process of its own, in an empty folder with `numbers_.py`."""
    (tmp_path / "numbers_.py").write_text(NUMBERS)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ACHVY_")}
    env = {**clean, "ACHVY_HOME": str(tmp_path / "home"), "LOGNAME": "me", "ACHVY_CNXN__API__TOKEN": "correct-horse"}

    def run(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "anchovies.cli.main", *args]
        return subprocess.run(command, cwd=tmp_path, env=env | more, capture_output=True, text=True, timeout=100)

    return run


def test_the_demo(anchovy, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = anchovy("demo", "--dir", "here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 rows slot 2 (1 changed, 2 unchanged)" in done.stdout
    first, second = re.findall(r"1001 +1 +anchovies, 1 kg +(\S+) .*? (\d{16}) *(\d{16})?\n", done.stdout)
    assert (first[0], second[0], first[2], second[2]) == ("18.50", "17.00", second[1], "")
    fourth = done.stdout.partition("4. And again")[2]
    assert fourth.count("0 rows in 0 commits") == 2
    assert "correct-horse" not in done.stdout
    assert (tmp_path / "here/warehouse.duckdb").is_file()
    again = anchovy("demo", "--dir", ".")
    assert (again.returncode, again.stdout) == (2, "")
    assert "is not empty" in again.stderr


def test_a_run_and_its_checkpoints(anchovy) -> None:  # type: ignore[no-untyped-def]
    for _ in range(2):
        done = anchovy("start", "-op", "./numbers_.py:Numbers", "-i", "n", "-e", "numbers", "--json")
        assert done.returncode == 0, done.stderr
    assert [(t["rows"], t["kept"]) for t in json.loads(done.stdout)["tables"]] == [(100, 100)]
    assert done.stderr == ""
    assert anchovy("checkpoint", "get", "last", "-i", "n").stdout == "200\n"
    assert json.loads(anchovy("checkpoint", "-i", "n", "--json").stdout) == {"last": {"value": 200, "tbls": ["numbers"]}}
    history = json.loads(anchovy("checkpoint", "history", "-i", "n", "--json").stdout)
    assert [(h["slot"], h["value"]) for h in history] == [(1, 100), (2, 200)]
    lost = anchovy("checkpoint", "get", "lats", "-i", "n")
    assert (lost.returncode, "did you mean 'last'?" in lost.stderr) == (2, True)


def test_a_failing_table_exits_1_and_shows_no_secret(anchovy) -> None:  # type: ignore[no-untyped-def]
    done = anchovy("start", "-op", "numbers_.Numbers", "-i", "n")
    assert done.returncode == 1
    assert "committed numbers 100 rows slot 1" in done.stderr
    assert "broken: ValueError: no more *** (numbers_.py:15, in broken)" in done.stderr
    assert "correct-horse" not in done.stderr + done.stdout


def test_a_table_that_is_not_there_exits_2(anchovy) -> None:  # type: ignore[no-untyped-def]
    done = anchovy("start", "-op", "numbers_.Numbers", "-i", "n", "-e", "nubmers")
    assert done.returncode == 2
    assert "did you mean 'numbers'?" in done.stderr


def test_a_timeout_exits_3(anchovy, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    stuck = "from anchovies.sdk import Downloader, source\nclass Stuck(Downloader):\n    @source('t')\n    def t(self, **kwds):\n"
    (tmp_path / "stuck.py").write_text(stuck + "        yield {'n': 1}\n        while True:\n            pass\n")
    done = anchovy("start", "-op", "stuck.Stuck", "-i", "s", "-t", "0.3", "--grace", "0.5")
    assert done.returncode == 3, done.stderr


def test_a_call_that_holds_the_interpreter_is_killed_and_recorded(anchovy, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    held = "from anchovies.sdk import Downloader, source\nclass Held(Downloader):\n    @source('t')\n    def t(self, **kwds):\n"
    (tmp_path / "held.py").write_text(held + "        yield {'n': 1}\n        yield {'n': pow(3, 10**9)}\n")
    done = anchovy("start", "-op", "held.Held", "-i", "h", "-t", "0.3", "--grace", "0.3", "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["err_type"] == "AnchovyExecutionTimeout"
    logs = list((tmp_path / "home/me/h/$task_logs").iterdir())
    assert [json.loads(f.read_text())["data"]["err_type"] for f in logs] == ["AnchovyExecutionTimeout"]


def test_preview_and_plan_store_nothing(anchovy, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shown = anchovy("preview", "-op", "numbers_.Numbers", "-i", "n", "-e", "numbers", "-n", "3", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["numbers"]["rows"] == [{"n": 1}, {"n": 2}, {"n": 3}]
    planned = anchovy("plan", "-op", "numbers_.Numbers", "-i", "n", "-e", "numbers")
    assert planned.returncode == 0, planned.stderr
    assert "numbers" in planned.stdout
    assert not (tmp_path / "home").exists()


def test_a_ledger_is_counted_listed_and_shown(anchovy, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a.csv").write_text("id\n1\n")
    config = '{"tbls": {"files": {"path": "*.csv"}}}'
    done = anchovy("start", "-op", "files.CsvDownloader", "-i", "f", "-c", config, ACHVY_CNXN__PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "ledger:files" in anchovy("checkpoint", "list", "-i", "f").stdout
    assert json.loads(anchovy("checkpoint", "-i", "f", "--json").stdout) == {"ledger:files": {"entries": 1}}
    assert list(json.loads(anchovy("checkpoint", "get", "ledger:files", "-i", "f").stdout)) == ["a.csv"]
    assert json.loads(anchovy("checkpoint", "history", "-i", "f", "--json").stdout)[0]["value"] == "1 put, 0 deleted"
