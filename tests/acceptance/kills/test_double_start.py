"""Two of one anchovy at the same moment: the lease keeps the second out; where it does not, the log fences it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

ROUNDS = [pytest.param(3, id="short"), pytest.param(20, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
STEP = 40


@dataclass
class Doubles:
    """Pairs of processes that begin at one moment, a pair of downloaders beside a pair of uploaders, round after round."""

    world: Any
    lease: bool
    n: int = 0
    skipped: int = 0
    fenced: int = 0
    again: int = 0
    ends: list[tuple[int, str, str]] = field(default_factory=list)

    def round(self) -> None:
        world, rnd = self.world, self.world.random
        self.n += STEP
        picked = [x for t in rnd.choice(("ints", "a,b", "whole", "plain", "")).split(",") if t for x in ("-e", t)]
        kind = rnd.choice(sorted(world.urls))
        common: Any = {"lease": self.lease, "gate": True}
        loads = [world.upload(kind, **common) for _ in range(2)]
        reads = [world.download(*picked, n=self.n, pace=0.02, step=10, task=self.n, **common) for _ in range(2)]
        for run in [*reads, *loads]:
            run.release()
        self.judge(reads)
        self.judge(loads)
        world.check_prefixes(kind)

    def judge(self, pair: list[Any]) -> None:
        """One of the two does the work; the other is kept out, or fenced, or finds nothing left to do."""
        found = []
        for run in pair:
            code = run.wait()
            result = run.result()
            found.append((code, result["status"], result["err_type"] or ""))
            self.again += any("committed first" in w for w in result["warnings"])
        said = "\n".join(run.said for run in pair)
        assert 0 in [code for code, _, _ in found], said
        for code, status, error in found:
            assert (code, status, error) in {(0, "ok", ""), (0, "skipped", ""), (1, "failed", "Fenced")}, said
        statuses = [status for _, status, _ in found]
        assert statuses != ["skipped", "skipped"], "each kept the other out"
        self.skipped += statuses.count("skipped")
        self.fenced += statuses.count("failed")

    def finish(self) -> None:
        """Nothing is missing and nothing doubled once everybody has gone home."""
        run = self.world.download(n=self.n, task=self.n, step=50)
        assert run.wait() == 0, run.said
        while self.world.checkpoints()["whole"] < self.n:
            assert self.world.download("-e", "whole", n=self.n, task=self.n).wait() == 0
        self.world.check_log(self.n, ends=range(STEP, self.n, STEP))
        for kind in self.world.urls:
            run = self.world.upload(kind)
            assert run.wait() == 0, run.said
            self.world.check_database(kind, self.n)


@pytest.mark.server
@pytest.mark.parametrize("lease", [True, False], ids=["lease", "no-lease"])
@pytest.mark.parametrize("rounds", ROUNDS)
def test_two_at_the_same_moment(wide_world, notes: list[str], rounds: int, lease: bool) -> None:  # type: ignore[no-untyped-def]
    doubles = Doubles(wide_world, lease)
    for _ in range(rounds):
        doubles.round()
    doubles.finish()
    notes.append(f"{rounds} rounds of 2 + 2: skipped {doubles.skipped}, fenced {doubles.fenced}, begun again {doubles.again}")
    if lease:
        assert doubles.skipped >= rounds // 2
        assert doubles.fenced == 0
    else:
        assert doubles.skipped == 0
        assert doubles.fenced + doubles.again >= rounds // 2
