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

SHARED = 0.4  # of the histories have several workers


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
    lanes = random.Random(seed * 104729 + 3)  # noqa: S311
    with small_world():
        _run(world, random.Random(seed * 7919 + 1), lanes, steps)  # noqa: S311
        _heal(world, lanes)
    return world


def _run(world: World, cfg: random.Random, lanes: random.Random, steps: int) -> None:
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
    changes = 0.0
    if lanes.random() < SHARED:
        changes, steps = _share_out(world, lanes), steps * 3 // 4  # its end takes longer
    rng = world.rng
    for _ in range(steps):
        if changes and rng.random() < changes:
            world.workers = rng.randrange(1, 5)
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


def _share_out(world: World, cfg: random.Random) -> float:
    """Let several workers share the log. The chance at each step that there is another number of them from then on."""
    world.workers, world.splits = cfg.randrange(1, 5), cfg.randrange(2, 7)
    world.mixed, world.skewed = cfg.choice([0.0, 0.0, 0.0, 0.2]), cfg.choice([0.0, 0.0, 0.4])
    return cfg.choice([0.0, 0.001, 0.004])


def _heal(world: World, cfg: random.Random) -> None:
    """All processes die, what was in flight lands, nothing fails any more: everything must come together."""
    for process in list(world.live):
        world.kill(process)
    while world.store.flying:
        world.store.land()
    world.check()
    world.p = 0.0
    world.note("heal")
    before = world.oracle.slot
    if world.workers:
        _end_all(world)
        _all_at_once(world, cfg.randrange(1, 5))
    else:
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


def _end_all(world: World) -> None:
    """The log is shared out anew: nothing that anybody has written before can be committed any more, so all of it must go."""
    world.spawn("repartition", lambda: world.share_out_anew(world.oracle.workers + 1))
    world.drain()
    world.spawn("maintain", lambda: world.maintain(deep=True))
    world.drain()
    _no_garbage(world, ended=world.oracle.workers > 1)


def _all_at_once(world: World, workers: int) -> None:
    """The workers of one number start side by side, and each must come to its end."""
    world.workers = workers
    world.done.clear()
    for lane in range(workers):
        world.spawn("downloader", lambda lane=lane: world.downloader(must=True, lane=lane))  # type: ignore[misc]
    world.drain()
    if late := set(range(workers)) - world.done:
        raise Violation(f"no progress: workers {sorted(late)} of {workers} never committed")


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


def _no_garbage(world: World, *, ended: bool = False) -> None:
    """After a deep maintenance: what lies there is named and not retired, or of the newest epoch of its lane. `ended`: there is
    nothing of the newest epochs."""
    for key in world.store.objects:
        if key.startswith(HOME.data_root):
            tbl, slot = world.oracle.named.get(key, ("", 0))
            lane, _, epoch = key.split("/")[-2].partition("-")
            is_old = ended or int(epoch) < world.oracle.epoch(int(lane))
            if slot <= world.oracle.retired.get(tbl, 0) and is_old:
                raise Violation(f"garbage was left: {key}")
