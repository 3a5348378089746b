"""`make chaos`: disasters for hours. Simulated histories in one process, storms of real ones in others, a counter, a verdict.

    python -m anchovies.testing.chaos [--minutes M] [--seed S] [--only local,s3,duckdb,sqlite,postgres,simulation]

The last line is `chaos` and a JSON object. Any violation ends it with exit code 1, and says how to see it again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from anchovies.store.open import open_store
from anchovies.testing import buckets, mariadb
from anchovies.testing.postgres import cluster, missing, postgres
from anchovies.testing.processes import Hatchery
from anchovies.testing.storm import Storm
from anchovies.testing.storms import competing, killing
from anchovies.testing.testbed import MODULES

STORMS = ("local", "s3", "duckdb", "sqlite", "postgres", "mariadb")
SIMULATION = "simulation"
KILLS, SECONDS, TELL = 60, 25.0, 15.0


class Simulation:
    """A process that plays one history after another, from seed `first` on."""

    def __init__(self, first: int) -> None:
        self.counts: Counter[str] = Counter()
        self.next, self.violation = first, ""
        command = [sys.executable, "-m", "anchovies.testing.endless", str(first)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)  # noqa: S603
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self.counts.update(said["counts"])
            self.next, self.violation = said["next"], said["violation"]

    def check(self) -> None:
        if not self.violation and self._process.poll() is not None:
            self._ear.join(5)
            self.violation = self.violation or f"the simulation ended with {self._process.returncode}"
        assert not self.violation, f"{self.violation}\nsee it again: anchovy chaos --seed {self.next}"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._ear.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Chaos:
    """Rounds of storms, one kind after another, until the time is over. `counts` is everything that happened."""

    def __init__(self, seed: int, minutes: float | None, kinds: Sequence[str]) -> None:
        self.seed, self.kinds = seed, [k for k in kinds if k != SIMULATION]
        self.counts: Counter[str] = Counter()
        self.rounds = 0
        self.began = self._told = time.monotonic()
        self._until = None if minutes is None else self.began + 60 * minutes
        self.simulation = Simulation(seed) if SIMULATION in kinds else None

    def run(self) -> None:
        """Raises AssertionError (or what else is wrong) at the first violation."""
        with ExitStack() as stack:
            hatchery = Hatchery(MODULES)
            stack.callback(hatchery.close)
            while self._until is None or time.monotonic() < self._until:
                if self.simulation is not None:
                    self.simulation.check()
                if self.kinds:
                    self.round(self.kinds[self.rounds % len(self.kinds)], hatchery)
                else:
                    time.sleep(0.2)
                self.tell()
            if self.simulation is not None:
                self.simulation.check()

    def round(self, kind: str, hatchery: Hatchery) -> None:
        seed = self.seed + self.rounds
        folder = Path(tempfile.mkdtemp(prefix=f"anchovies-{kind}-"))
        try:
            with ExitStack() as stack:
                storm = self.storm(kind, folder, seed, hatchery, stack)
                try:
                    storm.blow()
                finally:
                    self.count(kind, storm)
        except BaseException as e:
            if not isinstance(e, KeyboardInterrupt):
                e.add_note(f"round {self.rounds + 1}, {kind}; what it left: {folder}")
                e.add_note(f"the same choices again: make chaos SEED={seed} ONLY={kind} (real processes keep time of their own)")
            raise
        shutil.rmtree(folder)
        self.rounds += 1

    def storm(self, kind: str, folder: Path, seed: int, hatchery: Hatchery, stack: ExitStack) -> Storm:
        if kind == "local":
            server = None if missing() else stack.enter_context(postgres())
            return stack.enter_context(killing(folder, seed, hatchery, KILLS, server))
        if kind == "s3":
            return self.bucket("s3", folder, seed, hatchery, stack)
        servers: dict[str, Any] = {"postgres": cluster, "mariadb": mariadb.server}
        made = stack.enter_context(servers[kind]()) if kind in servers else None
        return stack.enter_context(competing(kind, folder, seed, hatchery, SECONDS, made))

    def bucket(self, kind: buckets.Kind, folder: Path, seed: int, hatchery: Hatchery, stack: ExitStack) -> Storm:
        """The datastore is in a bucket. Nobody waits until a dead one's lease is over, so the living are fenced instead."""
        made = stack.enter_context(buckets.bucket(kind))
        opened = stack.enter_context(closing(open_store(made.url, made.env)))
        there: dict[str, Any] = {"datastore": made.url, "env": made.env, "opened": lambda: opened}
        return stack.enter_context(killing(folder, seed, hatchery, KILLS, lease=False, shaken=True, **there))

    def count(self, kind: str, storm: Storm) -> None:
        self.counts.update({k: v for k, v in storm.counts.items() if k != "numbers"})
        self.counts["kills"] += storm.killed
        self.counts[f"kills, {kind}"] += storm.killed
        self.counts["failed and said so"] += storm.refusals.total()

    def total(self) -> dict[str, Any]:
        found: dict[str, Any] = {"seconds": round(time.monotonic() - self.began), "seed": self.seed, "rounds": self.rounds}
        if self.simulation is not None:
            told = dict(sorted(self.simulation.counts.items()))
            found |= {"histories": told.pop("histories", 0), "last history": self.simulation.next - 1, "simulated": told}
        return found | dict(sorted(self.counts.items()))

    def tell(self, always: bool = False) -> None:
        """One line of the counter."""
        now = time.monotonic()
        if not always and now - self._told < TELL:
            return
        self._told = now
        simulated = self.simulation.counts if self.simulation is not None else Counter()
        print(
            f"{now - self.began:6.0f} s  histories {simulated['histories']:,} (kills {simulated['kill']:,}, faults "
            f"{simulated['fault']:,}, commits {simulated['commit']:,})  rounds {self.rounds}: kills {self.counts['kills']:,}, "
            f"backends {self.counts['backend kills']:,}, restarts {self.counts['immediate restarts']:,}, rows exactly once "
            f"{self.counts['rows exactly once']:,}",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="chaos", description="Disasters, until the time is over or a promise is broken.")
    parser.add_argument("--minutes", type=float, help="how long; without it, until Ctrl-C")
    parser.add_argument("--seed", type=int, help="of every random choice, and the first simulated history")
    parser.add_argument("--only", default=",".join((SIMULATION, *STORMS)), help="kinds, with commas (default: %(default)s)")
    given = parser.parse_args(arguments)
    kinds = given.only.split(",")
    if unknown := set(kinds) - {SIMULATION, *STORMS}:
        parser.error(f"there is no kind {sorted(unknown)[0]!r}; there are {SIMULATION}, {', '.join(STORMS)}")
    for kind, reason in (("postgres", missing("tcp")), ("mariadb", mariadb.missing()), ("s3", buckets.missing("s3"))):
        if kind in kinds and reason:
            print(f"without {kind}: {reason}", flush=True)
            kinds.remove(kind)
    seed = random.SystemRandom().randrange(1 << 31) if given.seed is None else given.seed
    print(f"chaos with seed {seed}: {', '.join(kinds)}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return play(Chaos(seed, given.minutes, kinds))


def play(chaos: Chaos) -> int:
    """0: nothing was broken as long as it ran."""
    code = 0
    try:
        chaos.run()
    except KeyboardInterrupt:
        print("stopped", flush=True)
    except Exception:
        traceback.print_exc()
        code = 1
    finally:
        if chaos.simulation is not None:
            chaos.simulation.close()
    chaos.tell(always=True)
    print("chaos", json.dumps({"ok": code == 0, **chaos.total()}), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
