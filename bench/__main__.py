"""`python -m bench [J1 J2 …] [--runs N]`: ours and the floor in turn, on this machine, now."""

from __future__ import annotations

import argparse
import os
import platform
import sys

from bench.data import WORK
from bench.jobs import JOBS
from bench.measure import BenchError, measure


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(JOBS)} (J5 is both); none: all")
    parser.add_argument("--runs", type=int, default=5, help="of each side; the median counts (default 5)")
    args = parser.parse_args()
    names = [
        j for j in JOBS if not args.jobs or any(j.lower() in (a.lower(), a.lower() + "a", a.lower() + "b") for a in args.jobs)
    ]
    if not names or args.runs < 1:
        parser.error(f"no such job, or no runs; jobs: {', '.join(JOBS)}")
    WORK.mkdir(exist_ok=True)
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}. Only the ratios count.")
    return run(names, args.runs)


def run(names: list[str], runs: int) -> int:
    """Exit code 1 when a job could not be run. A goal that is missed is printed, and is no failure: machines are busy."""
    broken = missed = 0
    for name in names:
        try:
            missed += sum(not measure(job, runs) for job in JOBS[name]())
        except BenchError as e:
            broken += 1
            print(f"\n{name} could not be measured: {e}", flush=True)
    print(f"\n{missed} goals missed, {broken} jobs could not be measured")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
