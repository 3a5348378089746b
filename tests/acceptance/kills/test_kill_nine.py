"""`kill -9` at any moment, again and again: each row arrives, once."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from anchovies.testing import oracle

SMALL = (
    ("--commit-bytes", "1"),
    ("--commit-bytes", "1"),
    ("--commit-seconds", "0.2"),
    ("--commit-bytes", "1", "--data-buffer-cls", "jsonl"),
)
PICKS = ("ints", "ints", "a,b", "whole", "plain")


@dataclass
class Lane:
    """A place where one process runs after another: the downloader's, or the uploaders'."""

    run: Any = None
    kind: str = ""
    due: float = 0.0
    soft: bool = False
    told: bool = False


@dataclass
class Storm:
    """Downloader and uploader side by side, killed at random moments, until `kills` of them were killed while they ran."""

    world: Any
    kills: int
    n: int
    pace: float
    killed: int = 0
    stopped: int = 0
    ended: int = 0
    by_side: dict[str, int] = field(default_factory=lambda: {"download": 0, "upload": 0})

    def blow(self) -> None:
        lanes = {"download": Lane(), "upload": Lane()}
        while self.killed < self.kills or min(self.by_side.values()) < self.kills // 5:
            for side, lane in lanes.items():
                if lane.run is None:
                    self.start(side, lane)
                elif lane.run.code is not None:
                    self.over(lane)
                elif time.monotonic() >= lane.due and not lane.told:
                    self.strike(side, lane)
            time.sleep(0.005)
        for lane in lanes.values():
            if lane.run is not None:
                lane.run.kill()

    def start(self, side: str, lane: Lane) -> None:
        rnd = self.world.random
        often = ["-t", "60"] if rnd.random() < 0.15 else []  # under a supervisor
        if side == "download":
            picked = [x for t in rnd.choice(PICKS).split(",") for x in ("-e", t)]
            if rnd.random() < 0.2:
                often += ["-S", "--interval", "0.05"]
            small, step = rnd.choice(SMALL), rnd.choice((1, 3, 7, 20))
            lane.run = self.world.download(*picked, *often, small=small, n=self.n, pace=self.pace, step=step)
        else:
            lane.kind = rnd.choice(sorted(self.world.urls))
            if rnd.random() < 0.4:
                often += ["-S", "--interval", "0.05"]
            lane.run = self.world.upload(lane.kind, *often)
        lane.due = time.monotonic() + rnd.uniform(0.05, 1.5)
        lane.soft, lane.told = rnd.random() < 0.1, False

    def strike(self, side: str, lane: Lane) -> None:
        if lane.soft:
            lane.told = True
            lane.run.signal(signal.SIGTERM)
            self.stopped += 1
        elif lane.run.kill():
            self.killed += 1
            self.by_side[side] += 1
            self.over(lane, killed=True)

    def over(self, lane: Lane, killed: bool = False) -> None:
        """A process has ended: only in ways it may; what lies in the database is whole at this very moment."""
        code = lane.run.code
        # a SIGTERM that comes before there is a handler ends the interpreter as it ends any program
        fine = {0, 143, -signal.SIGTERM} if lane.told else {0, -signal.SIGKILL} if killed else {0}
        assert code in fine, f"exit {code}: {lane.run.said}"
        self.ended += code == 0
        if lane.kind and self.world.random.random() < 0.2:
            self.world.check_prefixes(lane.kind)
        lane.run = None

    def calm(self) -> None:
        """Undisturbed runs until everything has arrived."""
        for _ in range(100):
            run = self.world.download(small=(), n=self.n, step=50, task=self.n)
            assert run.wait() == 0, run.said
            if run.result()["status"] == "ok" and self.world.checkpoints() == dict.fromkeys(oracle.CHECKPOINTS, self.n):
                break
        for kind in self.world.urls:
            while True:  # the last one's child may be dying still
                run = self.world.upload(kind)
                assert run.wait() == 0, run.said
                if run.result()["status"] == "ok":
                    break


@pytest.mark.server
@pytest.mark.parametrize(
    ("kills", "n", "pace"),
    [
        pytest.param(20, 600, 0.01, id="short"),
        pytest.param(200, 4000, 0.01, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ],
)
def test_killed_downloaders_and_uploaders(wide_world, notes: list[str], kills: int, n: int, pace: float) -> None:  # type: ignore[no-untyped-def]
    storm = Storm(wide_world, kills, n, pace)
    began = time.monotonic()
    storm.blow()
    storm.calm()
    wide_world.check_log(n)
    for kind in wide_world.urls:
        wide_world.check_database(kind, n)
        wide_world.check_receipts(kind, f"to_{kind}", n)
    assert storm.killed >= kills
    seconds = time.monotonic() - began
    notes.append(
        f"killed while running: {storm.by_side}; SIGTERM {storm.stopped}, ended by themselves {storm.ended}, "
        f"{wide_world.slots()} commits; {seconds:.0f} s"
    )
