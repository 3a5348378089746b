"""Seeded histories of the log: a world runs, is healed, and everything must have come together. One seed is one history."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from anchovies.core.errors import FatalError
from anchovies.store import keys, ledgers
from anchovies.store import log as log_module
from anchovies.store.history import History
from anchovies.store.state import State, fold
from anchovies.testing.simulator import Scheduler, SimClock, SimDatabase, Violation
from anchovies.testing.truth import HOME, Oracle
from anchovies.testing.world import World


@contextmanager
def small_world() -> Iterator[None]:
    """Pages, snapshots and ledgers so small that a short history has many of them."""
    homes = ((keys, "PAGE", 8), (log_module, "SNAPSHOT_EVERY", 12), (ledgers, "INLINE", 4), (ledgers, "SHARD", 2))
    before = [getattr(module, name) for module, name, _ in homes]
    try:
        for module, name, value in homes:
            setattr(module, name, value)
        yield
    finally:
        for (module, name, _), value in zip(homes, before, strict=True):
            setattr(module, name, value)


def simulate(
    seed: int,
    steps: int = 800,
    careless: Iterable[str] = (),
    tell: Callable[[str], None] | None = None,
    database: Callable[[Scheduler], SimDatabase] = SimDatabase,
) -> World:
    """One history from `seed`, healed at its end. Raises Violation; the same seed gives the same history."""
    world = World(seed, careless, database)
    world.tell = tell
    with small_world():
        _run(world, random.Random(seed * 7919 + 1), steps)  # noqa: S311
        _heal(world)
    return world


def _run(world: World, cfg: random.Random, steps: int) -> None:
    world.p = cfg.choice([0.0, 0.005, 0.02, 0.05, 0.1, 0.2])
    world.jump = cfg.choice([0.0, 0.05, 0.5])
    world.splits = cfg.randrange(1, 4)
    world.attempts = cfg.choice([1, 2, 3, 5])
    world.polite = cfg.random() < 0.25
    procs, pause, kill = cfg.randrange(1, 8), cfg.choice([0.0, 0.002, 0.01]), cfg.choice([0.0, 0.002, 0.01])
    land, edits = cfg.choice([0.002, 0.02, 0.2]), cfg.choice([0, 0, 1, 2])
    kinds: list[Callable[[], object]] = [world.downloader] * 8 + [world.uploader] * 6 + [world.edit] * edits
    kinds += [world.maintain] * cfg.choice([0, 1, 3]) + [world.reset] * cfg.choice([0, 0, 1])
    kinds += [world.restore] * cfg.choice([0, 0, 1])
    rng = world.rng
    for _ in range(steps):
        while len(world.live) < procs:
            body = rng.choice(kinds)
            world.spawn(body.__name__, body)
        if rng.random() < land:
            world.store.land()
        process = rng.choice(world.live)
        if process.paused > 0:
            process.paused -= 1
            world.now += 1
        elif rng.random() < kill:
            world.kill(process)
        else:
            if rng.random() < pause:
                world.pause(process, rng.randrange(20, 200))
            world.turn(process)


def _heal(world: World) -> None:
    """All processes die, what was in flight lands, nothing fails any more: everything must come together."""
    for process in list(world.live):
        world.kill(process)
    while world.store.flying:
        world.store.land()
    world.check()
    world.p = 0.0
    world.note("heal")
    before = world.oracle.slot
    world.spawn("downloader", lambda: world.downloader(must=True))
    world.drain()
    if world.oracle.slot == before:
        raise Violation("no progress: a session alone could not commit")
    for number in range(len(world.dbs)):
        done: list[bool] = []
        while not any(done):
            world.spawn("uploader", lambda n=number, d=done: d.append(world.uploader(n)))  # type: ignore[misc]
            world.drain()
    world.spawn("maintain", lambda: world.maintain(deep=True))
    world.drain()
    _verdict(world)


def _verdict(world: World) -> None:
    oracle = world.oracle
    for slot, cid in world.acked:
        if oracle.cids.get(slot) != cid:
            raise Violation(f"commit {cid} was acknowledged, and slot {slot} holds another")
    for db in world.dbs:
        if not oracle.may_gap(db):
            _complete(oracle, db)
    _no_garbage(world)
    try:
        history = History(world.store, HOME, world.retry(SimClock(world)))
        state, whole = history.load()[0], State(store=history.uuid() or "")
        for slot in range(1, oracle.slot + 1):
            whole = fold(whole, history.record(slot))
    except FatalError as e:
        raise Violation(f"the log can not be read: {e}") from e
    if state != whole:
        raise Violation("the newest snapshot is not the fold of the log")
    world.note("end", {**world.stats}, state.cid)


def _complete(oracle: Oracle, db: SimDatabase) -> None:
    """Every row of every checkpoint is there. The last records may be without rows for it: edits, retirements, resets."""
    for key, (generation, number) in oracle.marks.items():
        if db.top[int(key[1:]), generation] != number:
            raise Violation(f"{key}: checkpoint {number}, rows up to {db.top[int(key[1:]), generation]}")


def _no_garbage(world: World) -> None:
    """After a deep maintenance: what lies there is named and not retired, or of the newest epoch."""
    for key in world.store.objects:
        if key.startswith(HOME.data_root):
            tbl, slot = world.oracle.named.get(key, ("", 0))
            if slot <= world.oracle.retired.get(tbl, 0) and int(key.split("/")[-2].partition("-")[2]) < world.oracle.epoch:
                raise Violation(f"garbage was left: {key}")
