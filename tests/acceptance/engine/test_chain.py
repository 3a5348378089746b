"""Three live services, each woken by the one before it: rows go through all of them in a moment, and each once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from statistics import median

import pytest

from anchovies.store.datafile import read_batches
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.open import open_store
from anchovies.store.record import Record
from anchovies.testing.processes import Run, Spawned

ROWS = 10
LONG = 60.0
MAIN = "from anchovies.cli.main import main; main()"
OPERATORS = """
import sqlite3, time
import pyarrow as pa
from anchovies.sdk import Downloader, batch, context, source

class Feed(Downloader):
    "All in one batch that does not end: what wakes the others is each commit."
    @source("t")
    def t(self):
        cursor = context().checkpoint("n")
        while True:
            n = cursor.get(0)
            yield pa.table({"n": [n]})
            cursor.set(n + 1)
            time.sleep(0.15)
            batch().check()

class Again(Downloader):
    "Reads the database that the uploader fills."
    @source("t")
    def t(self):
        cursor = context().checkpoint("n")
        db = sqlite3.connect("db.sqlite")
        try:
            found = db.execute("select n from feed__t where n > ? order by n", (cursor.get(-1),)).fetchall()
        except sqlite3.OperationalError:
            return  # there is no table yet
        finally:
            db.close()
        for n, in found:
            yield {"n": n}
            cursor.set(n)
"""
SERVICES = {
    "feed": ["-op", "./ops.py:Feed", "--commit-seconds", "0"],
    "warehouse": ["-op", "sql.Uploader", "-U", "feed", "--upstream-may-be-missing"],
    "again": ["-op", "./ops.py:Again", "-U", "warehouse"],
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Run]]:
    """Start one of the services; the interval is so long that nothing but a commit can wake it."""
    (tmp_path / "ops.py").write_text(OPERATORS)
    (tmp_path / "config.yaml").write_text("tbls: {t: {unique_by: n}}\n")
    env = {**os.environ, "ACHVY_HOME": str(tmp_path / "home"), "ACHVY_USER": "prod", "ACHVY_CNXN__DB__URL": "sqlite:///db.sqlite"}
    runs: list[Run] = []

    def one(name: str) -> Run:
        argv = ["start", "--id", name, "-S", "--interval", "3600", *SERVICES[name]]
        runs.append(Spawned(argv, MAIN, tmp_path, env, tmp_path / f"{name}.out"))
        return runs[-1]

    yield one
    for run in runs:
        run.close()


def records(folder: Path, id: str) -> list[Record]:
    store = open_store(str(folder / "home"))
    reader = Reader(store, Home("prod", id))
    return list(reader.records(0, "")) if reader.exists() else []


def rows(folder: Path, id: str) -> list[tuple[int, float]]:
    """(row, when its commit was made), in the order of the log."""
    store = open_store(str(folder / "home"))
    return [
        (n, datetime.fromisoformat(record.at).timestamp())
        for record in records(folder, id)
        for file in record.change.files
        for batch in read_batches(store, file)
        for n in batch.column("n").to_pylist()
    ]


@pytest.mark.slow
def test_three_live_services(tmp_path: Path, start: Callable[[str], Run], notes: list[str]) -> None:
    runs = [start(name) for name in SERVICES]
    end = time.monotonic() + LONG
    wanted = 0  # some more, once all three have begun
    while (have := len(rows(tmp_path, "again"))) < wanted or not wanted:
        wanted = wanted or (have and have + ROWS)
        assert time.monotonic() < end, [run.said for run in runs]
        assert [run.code for run in runs] == [None] * 3, [run.said for run in runs]
        time.sleep(0.1)
    for run in runs:
        run.signal(signal.SIGTERM)
    assert [run.wait() for run in runs] == [0, 0, 0], [run.said for run in runs]
    assert not [run.said for run in runs if "ERROR" in run.said or "error:" in run.said]
    first, last = dict(rows(tmp_path, "feed")), rows(tmp_path, "again")
    assert [n for n, _ in last] == list(range(len(last)))
    live = [at - first[n] for n, at in last[-5:]]
    notes.append(
        f"three live services: a row is committed by the third {median(live) * 1000:.0f} ms after the first, in the median"
    )


@pytest.mark.slow
def test_a_killed_link_goes_on_where_it_was(tmp_path: Path, start: Callable[[str], Run]) -> None:
    """SIGKILL to the middle one: the chain goes on when it is back, and each row is there once."""
    runs = {name: start(name) for name in SERVICES}
    end = time.monotonic() + LONG
    while not rows(tmp_path, "again"):
        assert time.monotonic() < end, [run.said for run in runs.values()]
        assert {run.code for run in runs.values()} == {None}, [run.said for run in runs.values()]
        time.sleep(0.05)
    assert runs["warehouse"].kill()
    runs["warehouse"] = start("warehouse")
    while len(rows(tmp_path, "again")) < ROWS:
        assert time.monotonic() < end, [run.said for run in runs.values()]
        time.sleep(0.1)
    found = [n for n, _ in rows(tmp_path, "again")]
    assert found == list(range(len(found)))
    well = subprocess.run(
        [sys.executable, "-c", MAIN, "healthcheck", "--id", "again", "-u", "prod", "-S", "--live"],
        env={**os.environ, "ACHVY_HOME": str(tmp_path / "home")}, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert well.returncode == 0, well.stdout + well.stderr
