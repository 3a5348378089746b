"""Real processes of a graph with threads, a chain, a fan-in and caches, killed at random fault points, until one comes to its end.

In every record of the log, rows and checkpoint values fit each other; in the end each row is there once.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.schema import batch_to_rows
from anchovies.store.datafile import read_batches
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.open import open_store

KILLS = int(os.environ.get("ANCHOVIES_KILLS") or 6)
PAGES, ROWS = 12, 5  # more pages at each start

OPERATOR = f"""
import sys
import pyarrow as pa
from anchovies import run
from anchovies.sdk import Downloader, context, sink, source

class Graph(Downloader):
    @source("a")
    def a(self, table, **kwds):
        yield from self.pages(table)

    @source("b")
    def b(self, table, **kwds):
        yield from self.pages(table)

    @source("c", cache=True)
    def c(self, table, **kwds):
        yield from self.pages(table)

    def pages(self, table):
        cursor = context().checkpoint(table)
        for page in range(cursor.get(0), int(sys.argv[3])):
            yield pa.Table.from_pylist([{{"of": table, "n": page * {ROWS} + i}} for i in range({ROWS})])
            cursor.set(page + 1)

    @source("both")
    @sink("a", streaming=True)
    def from_a(self, stream):
        yield from stream

    @source("both")
    @sink("b", streaming=True)
    def from_b(self, stream):
        for batch in stream.batches():
            yield batch

    @source("late", cache=True)
    @sink("c", streaming=True, cache=True)
    def from_c(self, stream):
        yield from stream

try:
    run(Graph, id="g", user="u", datastore=sys.argv[1], threads=2, commit_bytes=1, commit_seconds=0, data_buffer_cls=sys.argv[2])
except Exception as e:
    sys.exit(f"{{type(e).__name__}}: {{e}}")
"""
MADE = {"both": ("a", "b"), "late": ("c",)}


def history(url: str) -> list[tuple[dict[str, Counter[Any]], dict[str, int]]]:
    """Rows of each table and checkpoint values, after every record."""
    store = open_store(url)
    rows: dict[str, Counter[Any]] = {}
    values: dict[str, int] = {}
    found = []
    for record in Reader(store, Home("u", "g")).records(0, ""):
        for f in record.change.files:
            mine = [(r["of"], r["n"]) for b in read_batches(store, f) for r in batch_to_rows(b)]
            rows[f.table] = rows.get(f.table, Counter()) + Counter(mine)
        values |= {k: v.value for k, v in record.change.checkpoints.set.items()}
        found.append((dict(rows), dict(values)))
    return found


def pages(of: str, count: int) -> Counter[Any]:
    return Counter((of, n) for n in range(count * ROWS))


@pytest.mark.slow
@pytest.mark.parametrize("buffer", ["parquet", "jsonl"])
def test_a_graph_with_threads_and_caches_survives_kill_nine(tmp_path: Path, seed: int, buffer: str) -> None:
    choose, url = random.Random(seed), f"file://{tmp_path / 'fish'}"
    temp = tmp_path / "temp"
    temp.mkdir()
    killed = 0
    for turn in range(KILLS + 1):
        where = choose.choice(["*", "*", "commit.*", "log.*", "source.next.*"])
        fault = "" if turn == KILLS else f"{where}:kill@{choose.randint(1, 40)}"
        env = {**os.environ, "ACHVY_FAULT": fault, "TMPDIR": str(temp)}
        command = [sys.executable, "-c", OPERATOR, url, buffer, str(PAGES * (turn + 1))]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        killed += done.returncode != 0
        assert os.listdir(temp) == []
        for rows, values in history(url):
            for root in "abc":
                assert rows.get(root, Counter()) == pages(root, values.get(root, 0))
            for made, of in MADE.items():
                assert rows.get(made, Counter()) == sum((pages(root, values.get(root, 0)) for root in of), Counter())
    assert done.returncode == 0
    assert killed >= KILLS // 3, "the faults were never reached"
    assert history(url)[-1][1] == dict.fromkeys("abc", PAGES * (KILLS + 1))
