"""Simulated histories without end: `python -m anchovies.testing.endless SEED`. Every second or so it says a line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter

from anchovies.testing.histories import simulate
from anchovies.testing.simulator import Violation


def main(seed: int) -> int:
    counts: Counter[str] = Counter()
    told = time.monotonic()
    while True:
        try:
            counts.update(simulate(seed).stats)
        except Violation as e:
            say(counts, seed, f"history {seed} breaks a promise: {e}")
            return 1
        counts["histories"] += 1
        seed += 1
        if time.monotonic() - told >= 1:
            say(counts, seed)
            counts, told = Counter(), time.monotonic()


def say(counts: Counter[str], seed: int, violation: str = "") -> None:
    print(json.dumps({"counts": counts, "next": seed, "violation": violation}), flush=True)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
