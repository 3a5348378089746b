"""A run that finds nothing: what it loads, what it asks of the datastore, what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

OPERATORS = """
from anchovies.sdk import Downloader, Uploader, context, sink, source

class Once(Downloader):
    @source("t")
    def t(self):
        if context().checkpoint("n").get() is None:
            yield {"n": 1}
            context().checkpoint("n").set(1)

class Up(Uploader):
    @sink()
    def take(self, stream):
        list(stream)
"""

HEAVY = {"pyarrow", "numpy", "rich", "duckdb", "asyncssh", "asyncio", "sqlite3"}
RUN = "import sys; from anchovies.cli.main import run; code = run(sys.argv[1:]); print('loaded', *sys.modules); sys.exit(code)"


def start(folder: Path, *args: str) -> tuple[set[str], set[str]]:
    """(modules that one run loaded, objects that lie in the datastore after it)."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ACHVY_")}
    env = {**clean, "ACHVY_HOME": str(folder / "home"), "LOGNAME": "me"}
    command = [sys.executable, "-c", RUN, "start", "-op", *args]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = {m.partition(".")[0] for m in done.stdout.splitlines()[-1].split()}
    return loaded, {str(p) for p in (folder / "home").rglob("*") if p.is_file()}


def test_an_idle_run_loads_nothing_heavy_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text(OPERATORS)
    for args in (["./ops.py:Once", "--id", "a"], ["./ops.py:Up", "--id", "up", "-U", "a"]):
        busy, before = start(tmp_path, *args)
        assert "pyarrow" in busy, "the first run has rows: the test says nothing"
        idle, after = start(tmp_path, *args)
        assert not idle & HEAVY
        assert after == before
