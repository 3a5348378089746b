"""A storm: downloader and uploaders side by side, killed, stopped and cut off at random; then calm, then the judgement."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from anchovies.testing.oracle import CHECKPOINTS
from anchovies.testing.processes import Run
from anchovies.testing.testbed import World

SMALL = (
    ("--commit-bytes", "1"),
    ("--commit-bytes", "1"),
    ("--commit-seconds", "0.2"),
    ("--commit-bytes", "1", "--data-buffer-cls", "jsonl"),
)
PICKS = ("ints", "ints", "a,b", "whole", "plain")
#: How a run may end that was not killed, where its server or a rival troubles it: it says that it may be done again.
TROUBLE = frozenset({"RetryableError", "PositionMoved", "StoreUnavailable", "Fenced", "CommitUnknown", "StaleSession"})


class Trouble(Protocol):
    """What happens to a server meanwhile."""

    def tick(self) -> Counter[str]:
        """Called many times a second; what was done this time."""
        ...

    def over(self) -> None:
        """Everything is well again."""
        ...


@dataclass
class Lane:
    """A place where one process runs after another. `name`: `download`, or the beginning of an uploader's id."""

    name: str
    run: Run | None = None
    kind: str = ""
    due: float = 0.0
    told: bool = False
    asleep: bool = False


@dataclass
class Storm:
    """Blows until `kills` processes were killed while they ran, and `seconds` have passed.

    `n`: how far the oracle counts at the start; `rate`: how much further a second. `life`: how long a process may live before it
    is struck. `lanes`: what runs at the same time. `lease`: whether they are polite. `shaken`: runs may fail by themselves,
    because of a rival or a server. `fresh`: the share of processes that are interpreters of their own. `looks`: how often a
    database is looked at after a process has ended. `entry`: what they run.
    """

    world: World
    kills: int = 0
    seconds: float = 0.0
    n: int = 300
    rate: float = 20.0
    pace: float = 0.01
    life: tuple[float, float] = (0.03, 0.9)
    steps: Sequence[int] = (1, 3, 7, 20)
    lanes: Sequence[str] = ("download", "to", "to")
    serving: float = 0.3
    shaken: bool = False
    fresh: float = 0.1
    looks: float = 0.15
    lease: bool = True
    trouble: Trouble | None = None
    entry: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    ends: set[int] = field(default_factory=set)

    @property
    def killed(self) -> int:
        return self.counts["kills of downloaders"] + self.counts["kills of uploaders"]

    def blow(self) -> None:
        """The storm, the calm after it, and the judgement: AssertionError where a row is missing or twice."""
        self.began = time.monotonic()
        lanes = [Lane(name) for name in self.lanes]
        try:
            while not self.done():
                for lane in lanes:
                    self.look(lane, lanes)
                if self.trouble is not None:
                    self.counts += self.trouble.tick()
                time.sleep(0.004)
        finally:
            for lane in lanes:
                if lane.run is not None:
                    lane.run.close()
            if self.trouble is not None:
                self.trouble.over()
        self.calm()
        self.judge()

    def done(self) -> bool:
        sides = (self.counts["kills of downloaders"], self.counts["kills of uploaders"])
        return time.monotonic() - self.began >= self.seconds and self.killed >= self.kills and min(sides) >= self.kills // 5

    def look(self, lane: Lane, lanes: Sequence[Lane]) -> None:
        if lane.run is None:
            self.start(lane, {other.kind for other in lanes})
        elif lane.run.code is not None:
            self.over(lane, lane.run)
        elif time.monotonic() >= lane.due and not lane.told:
            self.strike(lane, lane.run)

    def start(self, lane: Lane, taken: set[str]) -> None:
        rnd = self.world.random
        words = ["-t", "60"] if rnd.random() < 0.15 else []  # under a supervisor
        if rnd.random() < self.serving:
            words += ["-S", "--interval", "0.05"]
        more: dict[str, Any] = {"fresh": rnd.random() < self.fresh, "lease": self.lease}
        if self.entry:
            more["entry"] = self.entry
        if lane.name == "download":
            self.upto()
            picks = [p for p in PICKS if set(p.split(",")) <= set(self.world.tables)]
            picked = [x for t in rnd.choice(picks).split(",") for x in ("-e", t)]
            more |= {"small": rnd.choice(SMALL), "n": self.n, "pace": self.pace, "step": rnd.choice(self.steps)}
            lane.run = self.world.download(*picked, *words, **more)
        else:
            kinds = sorted(self.world.urls)
            lane.kind = rnd.choice([k for k in kinds if k not in taken] or kinds)
            lane.run = self.world.upload(lane.kind, *words, name=f"{lane.name}_{lane.kind}", **more)
        lane.due = time.monotonic() + rnd.uniform(*self.life)
        lane.told = lane.asleep = False

    def upto(self) -> None:
        """The oracle counts on."""
        self.ends.add(self.n)
        self.n += int(self.rate * (time.monotonic() - self.began)) - self.counts["numbers"]
        self.counts["numbers"] = int(self.rate * (time.monotonic() - self.began))

    def strike(self, lane: Lane, run: Run) -> None:
        rnd = self.world.random
        if lane.asleep:
            run.signal(signal.SIGCONT)
            lane.asleep, lane.due = False, time.monotonic() + rnd.uniform(*self.life)
            return
        what = rnd.random()
        if what < 0.1:
            lane.told = True
            run.signal(signal.SIGTERM)
            self.counts["SIGTERM"] += 1
        elif what < 0.2:
            run.signal(signal.SIGSTOP)
            lane.asleep, lane.due = True, time.monotonic() + rnd.uniform(0.05, 1.0)
            self.counts["SIGSTOP"] += 1
        elif run.kill():
            self.counts["kills of downloaders" if lane.name == "download" else "kills of uploaders"] += 1
            self.over(lane, run, killed=True)

    def over(self, lane: Lane, run: Run, killed: bool = False) -> None:
        """A process has ended: only in ways it may; what lies in the database is whole at this very moment."""
        code = run.code
        # a SIGTERM that comes before there is a handler ends the interpreter as it ends any program
        fine = {0, 143, -signal.SIGTERM} if lane.told else {0, -signal.SIGKILL} if killed else {0}
        if code == 1 and self.shaken:
            self.refused(run)
        else:
            assert code in fine, f"exit {code}: {run.said}"
        self.counts["ended by themselves"] += code == 0
        if lane.kind and self.world.random.random() < self.looks:
            self.counts["looks at a database"] += self.world.check_prefixes(lane.kind)
        self.world.forget(run)
        lane.run, lane.kind = None, ""

    def refused(self, run: Run) -> None:
        """It failed: because of its server, or of a rival, and it says so."""
        try:
            result = run.result()
        except json.JSONDecodeError:
            raise AssertionError(f"no result: {run.said}") from None
        errors = (
            {t["err_type"] for t in result["tables"] if t.get("err_type")} if result["err_type"] == "TableFailures" else set()
        )
        for error in errors or {result["err_type"]}:
            assert error in TROUBLE, f"{error}: {run.said}"
            self.refusals[error] += 1

    def calm(self) -> None:
        """Undisturbed runs until everything has arrived."""
        world = self.world
        want = {key: self.n for key in CHECKPOINTS if key in world.tables}
        picked = [x for t in world.tables for x in ("-e", t)]
        for _ in range(100):
            run = world.download(*picked, small=(), n=self.n, step=1000, task=self.n, lease=self.lease)
            assert run.wait() == 0, run.said
            if run.result()["status"] == "ok" and world.checkpoints() == want:
                break
        for kind in world.urls:
            while True:  # the last one's child may be dying still
                run = world.upload(kind, lease=self.lease)
                assert run.wait() == 0, run.said
                if run.result()["status"] == "ok":
                    break

    def judge(self) -> None:
        self.world.check_log(self.n, ends=self.ends)
        for kind in self.world.urls:
            self.world.check_database(kind, self.n)
            self.counts["rows exactly once"] += self.n * len(self.world.tables)
            for name in {*self.lanes, "to"} - {"download"}:
                self.counts["loads"] += self.world.check_receipts(kind, f"{name}_{kind}", self.n)

    def __str__(self) -> str:
        counts = {k: v for k, v in self.counts.items() if k != "numbers"}
        said = ", ".join(f"{k} {v}" for k, v in sorted(counts.items()))
        refused = f"; refused: {dict(self.refusals)}" if self.refusals else ""
        return f"{said}{refused}; {self.world.slots()} commits; {time.monotonic() - self.began:.0f} s"
