"""Every fault point that a download comes to with its datastore on S3: killed there, failed there, held up there. No lock of the
system helps in a bucket, and what a dead session has left there nobody sweeps but the log; then undisturbed runs finish it.

`test_kill_points.py` does it on a folder, with uploads and maintenance; what is below the store is another matter here.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from anchovies.store.base import Store
from anchovies.store.faultpoints import POINTS
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.lease import LeaseInfo
from anchovies.store.open import open_store
from anchovies.testing import oracle
from anchovies.testing.buckets import Bucket, bucket, missing
from anchovies.testing.faultmatrix import MAIN
from anchovies.testing.processes import Hatchery
from anchovies.testing.testbed import World

pytestmark = pytest.mark.server
HOME, N, ENDS = Home("t", "oracle"), 14, (3, 6, 9, 11)
TABLES = ("ints", "plain")
#: what no download does without, beside much else
MUST = [
    *(p for p in POINTS if p.startswith(("format.", "slot.", "snapshot.", "result.", "mirror.", "probe.", "manifest.get"))),
    *("manifest.put.before", "manifest.put.after", "ledger.get.before", "ledger.put.before", "ledger.put.after"),
    *("data.put.before", "data.put.after", "lease.put.before", "lease.put.after", "head.put.before", "head.put.after"),
]
#: the dead are not waited for: an old lease is taken over at once, as after a minute
IMPATIENT = "import sys\nsys.path.insert(0, '')\nfrom anchovies.store import lease\nlease.BEAT, lease.TTL = 0.01, 0.0\n"
#: what a ledger of thousands comes to, with one of some dozens: records too long for one object, snapshots in parts
SMALL = "from anchovies.store import ledgers, log\nledgers.INLINE, ledgers.SHARD, log.MAX_RECORD = 5, 8, 2500\n"
LEDGERED = """
import os
from anchovies.sdk import Downloader, context, source

class Ledgered(Downloader):
    @source("ints")
    def ints(self, **kwds):
        ledger = context().ledger("seen")
        for i in range(1, int(os.environ["ORACLE_N"]) + 1):
            if ledger.get(f"{i} {'x' * 90}") is None:
                yield {"i": i}
                ledger.put(f"{i} {'x' * 90}", {"i": i})
"""
ENTRIES, WORKERS = 40, 3
SCENARIOS = ("taken-over", "fresh", "ledger", "long-record")


@dataclass
class Case:
    """A datastore of its own in the bucket, and the processes that run on it."""

    world: World
    hatchery: Hatchery
    there: Bucket
    store: Store

    ledger: bool = False

    def download(self, n: int = 0, fault: str = "") -> tuple[int, str]:
        """(exit code, what it said)."""
        n = n or (ENTRIES if self.ledger else N)
        env = {k: v for k, v in os.environ.items() if not k.startswith("ACHVY_")} | self.there.env
        env |= {"ACHVY_DATASTORE": self.there.url, "ORACLE_N": str(n), "ACHVY_FAULT": fault}
        self.world.started += 1
        out = self.world.folder / f"run{self.world.started}.out"
        counting = ["-op", "./oracle.py:Ints", "--config-file", "tables.yaml", "--commit-bytes", "1", "-e", "ints", "-e", "plain"]
        which = ["-op", "./ledgered.py:Ledgered"] if self.ledger else counting
        args = ["start", *which, "-i", "oracle", "--user", "t", "--json"]
        run = self.hatchery.start(args, IMPATIENT + (SMALL if self.ledger else "") + MAIN, self.world.folder, env, out)
        return run.wait(), run.said

    def finish(self) -> None:
        """Undisturbed runs make it whole."""
        code, said = self.download()
        assert code == 0 and '"skipped"' not in said, said
        if not self.ledger:
            return self.world.check_log(N, ENDS)
        oracle.check_counted(self.world.logged()["ints"], ENTRIES, "the log")
        assert len(Reader(self.store, HOME).state().ledgers["seen"]) == ENTRIES

    def objects(self) -> dict[str, bytes]:
        return {e.key: self.store.get(e.key) for e in self.store.list("")}


class Matrix:
    """Runs cases on one server, several at once."""

    def __init__(self, folder: Path, server: Bucket, hatchery: Hatchery) -> None:
        self._folder, self._server, self._hatchery = folder, server, hatchery
        self._numbers = itertools.count()
        self._turn = threading.Lock()
        self.pool = ThreadPoolExecutor(WORKERS)
        self.before: dict[str, dict[str, bytes]] = {"fresh": {}}
        self.hit: dict[str, set[str]] = {"kill": set(), "raise": set(), "stall": set()}

    def close(self) -> None:
        self.pool.shutdown()

    def _with(self, scenario: str, act: Callable[[Case], None]) -> None:
        with self._turn:
            number = next(self._numbers)
        there, folder = self._server.below(f"case-{number}"), self._folder / f"case{number}"
        folder.mkdir()
        try:
            with closing(open_store(there.url, there.env)) as store:
                for key, data in self.before[scenario].items():
                    store.put(key, data)
                world = World(folder, 0, {}, datastore=there.url, env=there.env, opened=lambda: store, tables=TABLES)
                (folder / "ledgered.py").write_text(LEDGERED)
                act(Case(world, self._hatchery, there, store, ledger=scenario in ("ledger", "long-record")))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def prepare(self) -> None:
        """`taken-over`: so many sessions that there are snapshots to delete, and the last one on another host did not let go.
        `ledger`: one with parts; `long-record`: no snapshot spares the next one to read its long record."""
        self.before["ledger"] = {}

        def some_sessions(case: Case) -> None:
            for n in ENDS:
                assert case.download(n)[0] == 0
            found = case.objects()
            lease = msgspec.json.decode(found[HOME.lease], type=LeaseInfo)
            found[HOME.lease] = msgspec.json.encode(msgspec.structs.replace(lease, free=False, host="elsewhere"))
            self.before["taken-over"] = found

        def a_ledger(case: Case) -> None:
            assert case.download(ENTRIES // 2)[0] == 0
            found = self.before["ledger"] = case.objects()
            self.before["long-record"] = {k: v for k, v in found.items() if not k.startswith(HOME.snapshots)}

        self._with("fresh", some_sessions)
        self._with("ledger", a_ledger)

    def points(self, scenario: str) -> Counter[str]:
        """How often an undisturbed run comes to each point."""
        found: Counter[str] = Counter()

        def trace(case: Case) -> None:
            code, said = case.download(fault="*:trace@0")
            assert code == 0, said
            found.update(line.split()[2][:-1] for line in said.splitlines() if line.startswith("fault point "))

        self._with(scenario, trace)
        return found

    def case(self, scenario: str, points: list[str], action: str, nth: int) -> str | None:
        """What is wrong after `action` at `points`; None: nothing."""

        def act(case: Case) -> None:
            code, said = case.download(fault=",".join(f"{p}:{action}@{nth}" for p in points))
            for point in points:
                assert f"fault point {point}: {action}\n" in said, f"{point} was not hit (exit {code}): {said}"
            assert code in {"kill": {-signal.SIGKILL}, "raise": {0, 1}, "stall": {0}}[action], f"exit {code}: {said}"
            assert "Traceback" not in said, said
            case.finish()

        try:
            self._with(scenario, act)
        except Exception as e:
            return f"{scenario}: {action}@{nth} at {', '.join(points)}: {type(e).__name__}: {str(e)[-1500:]}"
        with self._turn:
            self.hit[action].update(points)
        return None

    def run(self, cases: list[tuple[str, list[str], str, int]]) -> None:
        wrong = [said for said in self.pool.map(lambda c: self.case(*c), cases) if said]
        assert not wrong, f"{len(wrong)} of {len(cases)} cases:\n" + "\n\n".join(wrong[:10])


@pytest.fixture
def bucket_matrix(hatchery: Hatchery) -> Iterator[Matrix]:
    if reason := missing("s3"):
        pytest.skip(reason)
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with bucket("s3") as server, tempfile.TemporaryDirectory(dir=base, prefix="anchovies-") as folder:
        made = Matrix(Path(folder), server, hatchery)
        try:
            made.prepare()
            yield made
        finally:
            made.close()


def test_some_points(bucket_matrix: Matrix, seed: int) -> None:
    rnd = random.Random(seed)
    points = sorted(bucket_matrix.points("taken-over"))
    cases = [("taken-over", [p], rnd.choice(["kill", "kill", "raise"]), 1) for p in rnd.sample(points, 4)]
    bucket_matrix.run([*cases, ("fresh", ["slot.create.after"], "kill", 2), ("fresh", ["slot.create.after"], "raise", 1)])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_point_of_a_download(bucket_matrix: Matrix, notes: list[str]) -> None:
    matrix = bucket_matrix
    seen: set[str] = set()
    cases: list[tuple[str, list[str], str, int]] = []
    for scenario in SCENARIOS:
        counts = matrix.points(scenario)
        mine = [p for p in sorted(counts) if p not in seen or (scenario == "fresh" and p.startswith("slot.create"))]
        seen.update(mine)
        for point in mine:
            last = counts[point] if point.startswith(("slot.", "data.")) else 1  # how often a lease beats is a matter of time
            cases += [(scenario, [point], "kill", nth) for nth in sorted({1, last})]
            cases.append((scenario, [point], "raise", 1))
        cases += [(scenario, mine[i : i + 10], "stall", 1) for i in range(0, len(mine), 10)]
    matrix.run(cases)
    for action, hit in matrix.hit.items():
        assert hit == seen, f"never hit by {action}: {sorted(seen - hit)}"
    assert seen >= set(MUST), f"no download comes to {sorted(set(MUST) - seen)}"
    notes.append(f"fault points on S3: {len(seen)} points x 3 actions, {len(cases)} cases")
