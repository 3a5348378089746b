"""Run whole processes in turn and say what they took."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class BenchError(Exception):
    """A job could not be measured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One process and its children: seconds of wall clock, seconds of CPU (user and system), peak memory in MiB."""

    wall: float
    cpu: float
    peak: float


@dataclass(frozen=True, slots=True)
class Side:
    """What is run. `before` makes the ground clean (not measured); `after` looks whether it did its work."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Goal:
    """How many times the floor ours may take: wall clock, CPU; and MiB of memory."""

    wall: float
    cpu: float | None = None
    peak: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """`floor` and `ours` do the same work on `rows` rows (0: an idle run)."""

    name: str
    what: str
    rows: int
    floor: Side
    ours: Side
    goal: Goal


def once(side: Side) -> Sample:
    """Run it and wait. Raises BenchError with the end of what it printed."""
    side.before()
    read, write = os.pipe()
    with tempfile.TemporaryFile() as out, os.fdopen(read) as said:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", LAUNCH, str(write), *side.command],
            env={**os.environ, **side.env},
            cwd=side.cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            pass_fds=[write],
        )
        os.close(write)
        took = said.read()
        if code := child.wait():
            out.seek(0)
            raise BenchError(f"{side.name} ended with {code}:\n{out.read().decode(errors='replace')[-3000:]}")
    side.after()
    found = json.loads(took)
    return Sample(found["wall"], found["cpu"], found["peak"])


LAUNCH = str(Path(__file__).parent / "launch.py")


def median(samples: Sequence[Sample]) -> Sample:
    """The median of each figure by itself."""
    return Sample(*(statistics.median(getattr(s, f) for s in samples) for f in ("wall", "cpu", "peak")))


def measure(job: Job, runs: int) -> bool:
    """Floor, ours, floor, ours…, once unmeasured to warm up. Prints the table; says whether the goal was met."""
    print(f"\n{job.name}  {job.what}")
    once(job.floor)
    once(job.ours)
    pairs = [(once(job.floor), once(job.ours)) for _ in range(runs)]
    floor, ours = (median([p[i] for p in pairs]) for i in (0, 1))
    spread = statistics.quantiles([b.wall / a.wall for a, b in pairs], n=4) if runs > 1 else [ours.wall / floor.wall] * 3
    for side, got in ((job.floor, floor), (job.ours, ours)):
        rate = f"{job.rows / got.wall:>12,.0f} rows/s" if job.rows else ""
        print(f"  {side.name:<34} {got.wall:8.3f} s wall {got.cpu:8.3f} s CPU {got.peak:8.1f} MiB{rate}")
    wall, cpu = ours.wall / floor.wall, ours.cpu / floor.cpu
    print(f"  ratio {wall:.2f} wall (quartiles of the pairs {spread[0]:.2f} to {spread[2]:.2f}), {cpu:.2f} CPU, median of {runs}")
    return _verdict(job.goal, wall, cpu, ours.peak)


def _verdict(goal: Goal, wall: float, cpu: float, peak: float) -> bool:
    checks = [("wall", wall, goal.wall), ("CPU", cpu, goal.cpu), ("MiB", peak, goal.peak)]
    said = [(f"{name} {limit:g}", got <= limit) for name, got, limit in checks if limit is not None]
    print("  goal  " + ", ".join(f"{text}: {'met' if ok else 'MISSED'}" for text, ok in said))
    return all(ok for _, ok in said)
