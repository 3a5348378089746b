"""Each `…_cls` setting with a class from a file, a module or a plugin of one's own, through the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

OPERATOR = """
from anchovies.sdk import Downloader, Uploader, batch, context, session, sink, source

class Numbers(Downloader):
    @source("numbers")
    def numbers(self):
        last = context().checkpoint("last")
        yield {"n": last.get(0), "team": getattr(session(), "team", ""), "page": batch().turn() if hasattr(batch(), "turn") else 0}
        last.set(last.get(0) + 1)

class Prints(Uploader):
    @sink("numbers")
    def take(self, stream):
        with open("loaded", "a") as out:
            out.writelines(f"{row}\\n" for row in stream)
"""

PARTS = """
import json
from anchovies.sdk.parts import Batch, CheckpointStore, ResultStore, Session, TaskStore, TblStore

class Coded(CheckpointStore):
    def encode(self, key, value):
        return {"v": value}
    def decode(self, key, kept):
        return kept["v"]

class Tasks(TaskStore):
    def write(self, records, batch_id):
        with open("tasks.txt", "a") as out:
            out.writelines(f"{r.task_type} {r.tbl} {r.status}\\n" for r in records if r.tbl)

class Owned(TblStore):
    def write(self, name, tbl):
        super().write(name, {**tbl, "owner": "sales"})

class Results(ResultStore):
    def write(self, result):
        with open("result.json", "w") as out:
            json.dump({"status": result.status, "rows": result.rows}, out)

class Named(Session):
    team = "sales"

class Turning(Batch):
    def turn(self):
        return self.id * 10
"""

BUFFER = """
import json
from anchovies.sdk import rows

class Writer:
    def __init__(self, schema):
        self.lines = []
        self.rows = self.size_estimate = 0
    def write(self, batch):
        self.lines += [json.dumps(row) for row in rows.batch_to_rows(batch)]
        self.rows += batch.num_rows
    def finish(self):
        return "\\n".join(self.lines).encode()

class Plain:
    name = ext = "plain"
    def writer(self, schema):
        return Writer(schema)
    def read(self, data):
        yield rows.rows_to_batch([json.loads(line) for line in data.splitlines()])
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def anchovy(tmp_path: Path) -> Run:
    """`anchovy(…)` in a process of its own, in a folder with all of the above."""
    (tmp_path / "ops.py").write_text(OPERATOR)
    (tmp_path / "mine.py").write_text(PARTS)
    (tmp_path / "anchovies/plugins").mkdir(parents=True)
    (tmp_path / "anchovies/plugins/plain.py").write_text(BUFFER)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ACHVY_")}

    def run(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "anchovies.cli.main", *args]
        env = {**clean, "ACHVY_HOME": str(tmp_path / "home"), "LOGNAME": "me", **more}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_a_class_of_ones_own_for_every_part(anchovy: Run, tmp_path: Path) -> None:
    named = {
        "--checkpoint-cls": "./mine.py:Coded",
        "--tbl-store-cls": "mine:Owned",
        "--result-store-cls": "mine.Results",
        "--session-cls": "./mine.py:Named",
        "--batch-cls": "./mine.py:Turning",
        "--data-buffer-cls": "plain.Plain",
    }
    args = [x for pair in named.items() for x in pair]
    for _ in range(2):
        anchovy("start", "-op", "./ops.py:Numbers", "-i", "n", *args, ACHVY_TASK_METASTORE_CLASS="./mine.py:Tasks")
    home = tmp_path / "home/me/n"
    assert json.loads(anchovy("checkpoint", "-i", "n", "--json").stdout)["last"]["value"] == {"v": 2}
    assert (tmp_path / "tasks.txt").read_text() == "TBL numbers OK\n" * 2
    assert not (home / "$task_logs").exists()
    assert json.loads((home / "$tables/numbers.json").read_text())["owner"] == "sales"
    assert json.loads((tmp_path / "result.json").read_text()) == {"status": "ok", "rows": 1}
    assert len(list(home.glob("data/numbers/*/*.plain"))) == 2
    anchovy("start", "-op", "./ops.py:Prints", "-i", "p", "-U", "n", "--data-buffer-cls", "plain.Plain")
    assert (tmp_path / "loaded").read_text().splitlines() == [str({"n": n, "team": "sales", "page": 10}) for n in (0, 1)]
    anchovy("verify", "-i", "n", "--deep", ACHVY_DATA_BUFFER_CLS="plain.Plain")


def test_the_hive_store_of_the_original_readme(anchovy: Run, tmp_path: Path) -> None:
    for id in ("a", "b"):
        anchovy("start", "-op", "./ops.py:Numbers", "-i", id, ACHVY_TASK_METASTORE_CLASS="HiveTaskMetastore")
    found = sorted(p.relative_to(tmp_path / "home") for p in (tmp_path / "home/$task_logs").rglob("*.json"))
    assert [p.parts[:3] for p in found] == [("$task_logs", "anchovy_user=me", f"anchovy_id={id}") for id in ("a", "b")]
    assert not list((tmp_path / "home/me").rglob("$task_logs"))
