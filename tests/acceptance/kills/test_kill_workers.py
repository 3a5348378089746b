"""Four workers of one table with 64 splits: two are killed and started again at random, and it comes to what one worker comes to."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.schema import batch_to_rows
from anchovies.engine.verify import Verifier
from anchovies.store.datafile import read_batches
from anchovies.store.keys import Home
from anchovies.testing import oracle
from anchovies.testing.processes import Hatchery
from anchovies.testing.testbed import MODULES, World

pytestmark = pytest.mark.slow

SPLITS, WORKERS = 64, 4
SOURCE = f"""
import os, time
import pyarrow as pa
from anchovies.sdk import Downloader, context, source

UPTO, PACE = int(os.environ["ORACLE_N"]), float(os.environ.get("ORACLE_PACE", 0))


class Ranges(Downloader):
    @source("t", splits=[f"s{{i}}" for i in range({SPLITS})])
    def t(self, table, split, worker):
        done = context().checkpoint(f"{{table}}:{{split}}")
        for n in range(done.get(0), UPTO, 5):  # Arrow data are taken one by one, so that commits can fall between
            yield pa.table({{"split": [split] * 5, "i": range(n + 1, n + 6), "worker": [worker.num] * 5}})
            time.sleep(PACE)
            done.set(n + 5)
"""


class Crew:
    """A world of workers; `ended(n, of, run)` is told of each that ended by itself."""

    def __init__(self, folder: Path, seed: int, hatchery: Hatchery | None = None) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "ranges.py").write_text(SOURCE)
        self.world = World(folder, seed, {}, hatchery=hatchery, tables=())

    def start(self, num: int = 0, of: int = 1, *words: str, id: str = "crew", **more: Any) -> Any:
        share = ["--workers", str(of), "--worker-num", str(num)]
        small = ["--commit-bytes", "1", "--commit-seconds", "0"]
        return self.world.spawn("start", "-op", "./ranges.py:Ranges", "-i", id, *share, *small, *words, **more)

    def all(self, of: int, **more: Any) -> list[Any]:
        return [self.start(num, of, **more) for num in range(of)]

    def rows(self, id: str = "crew") -> list[tuple[str, int]]:
        """What was committed, in the order of the log."""
        files = [f for r in oracle.records(self.world.store, Home("t", id)) for f in r.change.files]
        found = [row for f in files for b in read_batches(self.world.store, f) for row in batch_to_rows(b)]
        return [(row["split"], row["i"]) for row in found]

    def judge(self, upto: int) -> None:
        """Each row once, in the order of its split; checkpoints and rows as one worker has them; the log is whole."""
        one, many = self.rows("one"), self.rows()
        assert len(many) == len(set(many)) and sorted(many) == sorted(one)
        assert len(one) == SPLITS * upto
        for split in {s for s, _ in many}:
            assert [i for s, i in many if s == split] == list(range(1, upto + 1)), split
        store = self.world.store
        checkpoints = [oracle.checkpoints(store, Home("t", id)) for id in ("one", "crew")]
        assert checkpoints[0] == checkpoints[1] == {f"t:s{i}": upto for i in range(SPLITS)}
        lines = Verifier(store).verify(Home("t", "crew")).lines
        assert not [line for line in lines if not line.ok]

    def close(self) -> None:
        self.world.close()


@pytest.fixture(scope="module")
def hatchery() -> Any:
    made = Hatchery(MODULES)
    yield made
    made.close()


@pytest.fixture
def crew(tmp_path: Path, hatchery: Hatchery) -> Any:
    made = Crew(tmp_path / "world", 1, hatchery)
    yield made
    made.close()


def storm(crew: Crew, rnd: random.Random, upto: int, kills: int) -> int:
    """All workers at once; two of them are killed, `kills` times in all, and started again. How many died."""
    doomed = rnd.sample(range(WORKERS), 2)
    running = dict(enumerate(crew.all(WORKERS, n=upto, pace=0.004)))
    died = tried = 0
    while running:
        if died < kills and tried < 4 * kills:  # one may have ended by itself just before
            tried += 1
            time.sleep(rnd.uniform(0.05, 0.5))
            num = rnd.choice(doomed)
            died += num in running and running[num].kill()
            running[num] = crew.start(num, WORKERS, n=upto, pace=0.004)
        else:
            for num, run in list(running.items()):
                assert run.wait() == 0, run.said
                del running[num]
        for num, run in list(running.items()):
            if num not in doomed and run.code is not None:
                assert run.code == 0, run.said
                del running[num]
    return died


@pytest.mark.parametrize("seed", range(2))
def test_killed_workers_come_to_what_one_comes_to(crew: Crew, seed: int, notes: list[str]) -> None:
    alone = crew.start(id="one", n=20)
    died = storm(crew, random.Random(seed), 20, kills=6)
    assert alone.wait() == 0 and died > 1, alone.said
    crew.judge(20)
    records = oracle.records(crew.world.store, Home("t", "crew"))
    assert {r.lane for r in records} == set(range(WORKERS)) and {r.workers for r in records} == {WORKERS}
    notes.append(f"seed {seed}: {WORKERS} workers, {SPLITS} splits, {died} killed with -9, {len(records)} commits: as one worker")


def test_another_number_of_workers_between_two_runs(crew: Crew) -> None:
    for upto, of in ((5, 4), (10, 3)):
        ended = [(run.wait(), run.said) for run in crew.all(of, n=upto)]
        again = [(run.wait(), run.said) for run in crew.all(of, n=upto)]  # a rival of another number may have been faster
        assert {code for code, _ in again} == {0}, (ended, again)
    assert crew.start(id="one", n=10).wait() == 0
    crew.judge(10)
    assert [r.workers for r in oracle.records(crew.world.store, Home("t", "crew")) if not r.change.files] == [3]


def test_another_number_of_workers_while_the_old_ones_run(crew: Crew, until: Callable[..., None]) -> None:
    old = crew.all(4, n=20, pace=0.05, lease=False)
    until(lambda: len({r.lane for r in oracle.records(crew.world.store, Home("t", "crew"))}) == 4)
    new = crew.all(3, n=20, lease=False)
    assert [run.wait() for run in new] == [0, 0, 0], [run.said for run in new]
    assert [(run.wait(), run.result()["err_type"]) for run in old] == [(1, "Fenced")] * 4
    assert all("shared by 3 workers now; this session is one of 4" in run.result()["err_msg"] for run in old)
    assert crew.start(id="one", n=20).wait() == 0
    crew.judge(20)
