"""Random graphs whose tables are picked at random, run after run, with failures: what a table holds is what its own checkpoint
values say, after every single run.

Sources grow, and set a checkpoint after every second row. `rows_of` below is the oracle: it maps numbers, and knows nothing of
flows, marks or commits. ANCHOVIES_PICKS=1000 plays more.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from anchovies.sdk import Downloader, Stream, context, sink, source

SEEDS = int(os.environ.get("ANCHOVIES_PICKS") or 25)


class Broken(Exception):
    pass


class World:
    """A random graph: roots `r0`, `r1`; tables `t0`… made of what comes before them, some of several, some by two chains."""

    def __init__(self, rng: Random) -> None:
        self.roots = [f"r{i}" for i in range(rng.randint(1, 2))]
        self.upto = dict.fromkeys(self.roots, 0)
        self.fails: dict[str, int] = {}  # method → the number at which it fails in this run
        self.slow: set[str] = set()  # chains that come late
        self.made_of: dict[str, list[tuple[str, str]]] = {}  # table → (chain, what it reads)
        for i in range(rng.randint(1, 4)):
            above = [*self.roots, *self.made_of]
            reads = rng.sample(above, min(len(above), rng.randint(1, 2)))
            self.made_of[f"t{i}"] = [(f"c{i}{k}", t) for k, t in enumerate(reads)]
        if rng.random() < 0.3 and len(self.roots) == 2:
            self.made_of["r1"] = [("into_r1", "r0")]  # beside its own source

        chains = [chain for feeders in self.made_of.values() for chain, _ in feeders]
        self.slow = {rng.choice(chains)} if rng.random() < 0.6 else set()

    @property
    def tables(self) -> list[str]:
        return list(dict.fromkeys([*self.roots, *self.made_of]))

    def operator(self) -> type[Downloader]:
        body: dict[str, Any] = {root: source(root)(self._source(root)) for root in self.roots}
        for made, feeders in self.made_of.items():
            body |= {chain: source(made)(sink(t, streaming=True)(self._chain(chain))) for chain, t in feeders}
        return type("Random", (Downloader,), body)

    def _source(self, root: str) -> Callable[..., Any]:
        def method(this: Any) -> Any:
            at = context().checkpoint(f"{root}.at")
            for n in range(at.get(0), self.upto[root]):
                if n == self.fails.get(root):
                    raise Broken
                yield {"n": n, "of": root}
                if n % 2 or n + 1 == self.upto[root]:
                    at.set(n + 1)

        return method

    def _chain(self, name: str) -> Callable[..., Any]:
        def method(this: Any, stream: Stream) -> Any:
            for row in stream:
                if row["n"] == self.fails.get(name):
                    raise Broken
                if name in self.slow:
                    time.sleep(0.003)
                yield {"n": row["n"], "of": f"{row['of']}>{name}"}

        return method

    def rows_of(self, tbl: str, done: dict[str, int]) -> Counter[tuple[str, int]]:
        """What a table has when its sources were read so far."""
        found = Counter((tbl, n) for n in range(done.get(tbl, 0))) if tbl in self.roots else Counter[tuple[str, int]]()
        for chain, above in self.made_of.get(tbl, ()):
            for (of, n), times in self.rows_of(above, done).items():
                found[f"{of}>{chain}", n] += times
        return found


@pytest.mark.parametrize("seed", range(SEEDS))
def test_each_table_holds_what_its_checkpoints_say(place: Any, seed: int) -> None:
    rng = Random(seed)
    world = World(rng)
    operator = world.operator()
    for turn in range(6):
        world.upto = {root: n + rng.randint(0, 4) for root, n in world.upto.items()}
        methods = [*world.roots, *(c for feeders in world.made_of.values() for c, _ in feeders)]
        world.fails = {rng.choice(methods): rng.randint(0, 8)} if rng.random() < 0.4 and turn < 5 else {}
        picked = world.tables if turn == 5 else rng.sample(world.tables, rng.randint(1, len(world.tables)))
        try:
            place.run(operator, enabled=picked, commit_seconds=rng.choice([0, 30]), threads=rng.choice([1, 3]))
        except Exception as e:
            assert world.fails and "Broken" in f"{type(e).__name__} {e}", e
        for tbl in world.tables:
            values = {root: place.state().values(f"{root}.at") for root in world.roots}
            done = {root: next((v.value for v in found if tbl in v.tbls), 0) for root, found in values.items()}
            assert Counter((r["of"], r["n"]) for r in place.rows(tbl)) == world.rows_of(tbl, done), (turn, tbl, done)
    for tbl in world.tables:
        assert Counter((r["of"], r["n"]) for r in place.rows(tbl)) == world.rows_of(tbl, world.upto)
