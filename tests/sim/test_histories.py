"""The production log in thousands of disasters: no row lost, none twice, and the same seed gives the same history."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from anchovies.testing.histories import simulate
from anchovies.testing.simulator import Violation

BLOCK = 100
HISTORIES = 10_000
KNOWN = [int(line) for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines() if line.strip() and line[0] != "#"]
SEEN = (
    "commit", "kill", "fault", "ghost", "stale", "fenced", "unknown", "edit", "quiet", "maintained", "collected", "retired",
    "reset", "restored", "gap", "busy", "interleaved", "shared out", "joined",
)  # fmt: skip


def run_block(start: int) -> tuple[Counter[str], str]:
    """A block of histories: what was seen, and the first that broke, by its seed."""
    seen: Counter[str] = Counter()
    for seed in range(start, start + BLOCK):
        try:
            seen.update(simulate(seed).stats)
        except Violation as e:
            return seen, f"seed {seed}: {e} (add it to tests/sim/seeds.txt; `anchovy chaos --seed {seed}` tells its story)"
    return seen, ""


def check(blocks: Iterable[tuple[Counter[str], str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for seen, broken in blocks:
        total.update(seen)
        if broken:
            pytest.fail(broken)
    return total


def test_histories() -> None:
    seen = check(map(run_block, (0, 100)))
    for what in SEEN:
        assert seen[what], f"no history had a {what}: the test tests less than it says"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_more_histories(notes: list[str]) -> None:
    """All processors at once, each with fresh interpreters."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        seen = check(pool.map(run_block, range(200, HISTORIES, BLOCK)))
    told = ", ".join(f"{seen[what]:,} {what}" for what in ("commit", "fault", "kill", "ghost", "collected", "restored"))
    notes.append(f"simulated histories {HISTORIES - 200:,} (seeds 200 to {HISTORIES - 1}), no violation: {told}")


def test_seeds_that_once_failed() -> None:
    for seed in KNOWN:
        simulate(seed)


def test_one_seed_is_one_history() -> None:
    assert simulate(7).trace == simulate(7).trace
    assert simulate(7).trace != simulate(8).trace


def test_a_history_is_told_in_words() -> None:
    told: list[str] = []
    world = simulate(8, tell=told.append)
    text = "\n".join(told)
    assert world.trace == simulate(8).trace, "telling changes nothing"
    for words in ("creates slot 1 of the log", "starts", "is killed", "the answer is lost", "everything has come together"):
        assert words in text
    assert "$log" not in text and "\n\n" not in text
