"""A world made of one seed: processes that are stopped between any two requests, a datastore and a database that fail.

The code under test is the production log; only the datastore, the clock and the ids are simulated. Each process is a greenlet
that hands control back before every request, so the scheduler decides who goes on, who is killed and what lands when.
Needs the package `greenlet`.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from anchovies.core.errors import AlreadyExists, AnchovyError, FatalError, NotFound, StoreUnavailable
from anchovies.core.ids import SystemIds
from anchovies.store.base import Entry, Store
from anchovies.testing.story import sentence

T = TypeVar("T")
_EPOCH_US = 10**15


Rows = list[tuple[tuple[int, int, int], int]]
"""Rows are (split, generation, number), each with its `_seq`."""


class Violation(AssertionError):
    """A promise was broken."""


@dataclass
class Process:
    """One simulated process: its greenlet, and for how many turns it is paused."""

    name: str
    run: greenlet
    paused: int = 0
    killed: bool = False


class Scheduler:
    """Who goes on. `p` is the chance of each kind of fault of a request; 0 after `heal`."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311
        self.p = 0.0
        self.jump = 0.0
        self.now = 0
        self.stats: Counter[str] = Counter()
        self.live: list[Process] = []
        self._trace = hashlib.sha256()
        self._names = 0
        self._broken: Violation | None = None
        self._actor = ""
        self.tell: Callable[[str], None] | None = None

    @property
    def trace(self) -> str:
        """Hash of everything that happened so far."""
        return self._trace.hexdigest()

    def note(self, *what: object) -> None:
        self._trace.update(repr(what).encode())
        if self.tell is not None and (self._actor or what[0] not in ("get", "list")):  # the oracle looks in silence
            self.tell(sentence(self.actor, what))

    @property
    def actor(self) -> str:
        """Who is doing something: the name of the process whose turn it is; nobody's: the world's."""
        return self._actor

    def spawn(self, kind: str, body: Callable[[], object]) -> Process:
        self._names += 1
        process = Process(f"{kind}{self._names}", greenlet(lambda: self._guarded(body)))
        self.live.append(process)
        self.note("start", process.name)
        return process

    def _guarded(self, body: Callable[[], object]) -> None:
        """A process ends with its body, or with an error that says what to do; a broken promise, or a log that is called broken
        though nobody broke it, ends the history."""
        try:
            body()
        except FatalError as e:
            self._broken = Violation(f"{type(e).__name__}: {e}")
        except AnchovyError as e:
            self.note("ended", type(e).__name__)
        except Violation as e:
            self._broken = e

    def here(self) -> None:
        """A process passes this before each request: others may run, it may never come back."""
        me = getcurrent()
        if me.parent is None:
            return  # the scheduler itself looks at something
        self.now += 1
        me.parent.switch()

    def turn(self, process: Process) -> bool:
        """Let it go on until its next request. False: it has ended."""
        self._actor = process.name
        process.run.switch()
        self._actor = ""
        self.check()
        if process.run.dead:
            self.live.remove(process)
            return False
        return True

    def broken(self, violation: Violation) -> None:
        """A promise was broken by nobody's turn."""
        self._broken = self._broken or violation

    def check(self) -> None:
        """Raise the first broken promise."""
        if self._broken is not None:
            raise self._broken

    def pause(self, process: Process, turns: int) -> None:
        process.paused = turns
        self.note("pause", process.name, turns)

    def kill(self, process: Process) -> None:
        """SIGKILL: nothing of it runs any more, not even its `finally`, as far as the datastore can see."""
        self.live.remove(process)
        self.note("kill", process.name)
        self.stats["kill"] += 1
        process.killed = True
        while not process.run.dead:
            process.run.throw(GreenletExit)

    def drain(self, limit: int = 50_000) -> None:
        """Run all processes to their ends, side by side."""
        for _ in range(limit):
            if not self.live:
                return
            self.turn(self.rng.choice(self.live))
        raise Violation("livelock: the processes do not end after the heal")


class SimClock:
    """A process's clock: skewed, standing still, jumping years."""

    def __init__(self, world: Scheduler) -> None:
        self._world = world
        rng = world.rng
        self._skew = rng.choice([0, 0, -5000, 5000, rng.randrange(-(10**6), 10**6)])

    def now_us(self) -> int:
        rng = self._world.rng
        if rng.random() < self._world.jump:
            self._skew = rng.choice([0, -(10**7), 10**5, 3 * 10**14, -3 * 10**14, rng.randrange(-20_000, 20_000)])
        return _EPOCH_US + self._world.now * 2 + self._skew

    def monotonic(self) -> float:
        return float(self._world.now)

    def sleep(self, seconds: float) -> None:
        self._world.here()


def sim_ids(world: Scheduler) -> SystemIds:
    return SystemIds(world.rng.getrandbits(64))


class SimStore(Store):
    """A strongly consistent datastore whose requests fail before, fail after, or land at any time later.

    `on_create(key, data)` sees each first content of a key, and `on_delete(key)` each deletion, the moment it becomes true.
    """

    url = "sim://"

    def __init__(self, world: Scheduler) -> None:
        self.world = world
        self.objects: dict[str, bytes] = {}
        self.flying: list[Callable[[], None]] = []
        self.on_create: Callable[[str, bytes], None] = lambda key, data: None
        self.on_delete: Callable[[str], None] = lambda key: None
        self._modified: dict[str, float] = {}

    def create(self, key: str, data: bytes) -> None:
        self._request("create", key, lambda: self._create(key, data), writes=True)

    def put(self, key: str, data: bytes) -> None:
        self._request("put", key, lambda: self._write(key, data), writes=True)

    def delete(self, key: str) -> None:
        self._request("delete", key, lambda: self._delete(key), writes=True)

    def get(self, key: str) -> bytes:
        return self._request("get", key, lambda: self._get(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        return iter(self._request("list", prefix, lambda: self._list(prefix, start_after)))

    def land(self) -> None:
        """One of the requests that were in flight takes effect now."""
        if self.flying:
            ghost = self.flying.pop(self.world.rng.randrange(len(self.flying)))
            self.world.stats["ghost"] += 1
            self.world.note("ghost")
            try:
                quietly(ghost)
            except Violation as e:
                self.world.broken(e)

    def _request(self, verb: str, key: str, do: Callable[[], T], *, writes: bool = False) -> T:
        self.world.here()
        rng, p, name = self.world.rng, self.world.p, verb
        r = rng.random()
        if r < p:
            self._fault("before", name, key)
        if writes and r < 2 * p:
            quietly(do)
            self._fault("after", name, key)
        if writes and r < 3 * p:
            self.flying.append(lambda: quietly(do))
            self._fault("later", name, key)
        self.world.note(verb, key)
        return do()

    def _fault(self, when: str, verb: str, key: str) -> None:
        self.world.stats["fault"] += 1
        self.world.note(when, verb, key)
        raise StoreUnavailable(f"{verb} {key}: no answer")

    def _create(self, key: str, data: bytes) -> None:
        if key in self.objects:
            raise AlreadyExists(key)
        self._write(key, data)
        self.on_create(key, data)

    def _write(self, key: str, data: bytes) -> None:
        self.objects[key] = data
        self._modified[key] = float(self.world.now)

    def _delete(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            self.on_delete(key)

    def _get(self, key: str) -> bytes:
        if key not in self.objects:
            raise NotFound(key)
        return self.objects[key]

    def _list(self, prefix: str, start_after: str) -> Any:
        found = sorted(k for k in self.objects if k.startswith(prefix) and k > start_after)
        return [Entry(k, len(self.objects[k]), self._modified[k]) for k in found]


def quietly(do: Callable[[], object]) -> None:
    """The effect without the answer."""
    with suppress(AlreadyExists):
        do()


class SimDatabase:
    """Rows and a position, changed in transactions whose COMMIT may be answered by nothing."""

    def __init__(self, world: Scheduler) -> None:
        self.world = world
        self.position: tuple[int, str] = (0, "")
        self.rows: dict[tuple[int, int, int], int] = {}
        self.top: Counter[tuple[int, int]] = Counter()
        self.last_seq = -1
        self.registered: int | None = None
        self.restored = False
        self._backup: tuple[Any, ...] = (self.position, {}, Counter(), -1)

    def back_up(self) -> None:
        self._backup = (self.position, dict(self.rows), Counter(self.top), self.last_seq)

    def restore(self) -> None:
        """The database is what it was when it was backed up."""
        position, rows, top, last = self._backup
        self.position, self.rows, self.top, self.last_seq = position, dict(rows), Counter(top), last
        self.restored = True

    def transaction(self, do: Callable[[SimDatabase], T]) -> T:
        self.world.here()
        r = self.world.rng.random()
        if r < self.world.p:
            raise StoreUnavailable("the database did not answer")
        done = do(self)
        self.world.note("transaction", self.position)
        if r < 2 * self.world.p:
            raise StoreUnavailable("the database committed, and its answer was lost")
        return done

    def apply(self, start: tuple[int, str], rows: Rows, after: tuple[int, str], *, guarded: bool = True) -> None:
        """Inside a transaction: rows and position together, if the position is still `start`."""
        if self.position == start or not guarded:
            self.insert(rows)
            self.position = after

    def insert(self, rows: Rows) -> None:
        """Rows are (split, generation, number), each with its `_seq`: every number once, in order."""
        for row, seq in rows:
            split, generation, number = row
            if row in self.rows:
                raise Violation(f"row {row} was applied twice")
            if number != self.top[split, generation] + 1:
                raise Violation(f"a row was lost: {row} came after {self.top[split, generation]}")
            if seq <= self.last_seq:
                raise Violation(f"_seq does not rise at row {row}: {seq} after {self.last_seq}")
            self.rows[row] = self.last_seq = seq
            self.top[split, generation] = number
