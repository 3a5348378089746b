"""The production log in 2,000 disasters, and proof that a broken rule would be noticed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from anchovies.core.errors import AlreadyExists, CommitUnknown
from anchovies.store import log as log_module
from anchovies.store import snapshot as snapshot_module
from anchovies.store import state as state_module
from anchovies.store.log import Log
from anchovies.store.record import Change, Record
from anchovies.store.state import State
from anchovies.testing.histories import simulate
from anchovies.testing.simulator import Violation

BLOCK = 100
KNOWN = [int(line) for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines() if line.strip() and line[0] != "#"]


def run_block(start: int) -> Counter[str]:
    """A block of histories; a broken one is named by its seed."""
    seen: Counter[str] = Counter()
    for seed in range(start, start + BLOCK):
        try:
            seen.update(simulate(seed).stats)
        except Violation as e:
            pytest.fail(f"seed {seed}: {e} (add it to tests/sim/seeds.txt)")
    return seen


@pytest.mark.parametrize("start", [0, 100])
def test_histories(start: int) -> None:
    seen = run_block(start)
    for what in ("commit", "kill", "fault", "ghost", "stale", "fenced", "unknown", "edit", "quiet"):
        assert seen[what], f"no history had a {what}: the test tests less than it says"


@pytest.mark.slow
@pytest.mark.parametrize("start", range(200, 2000, BLOCK))
def test_more_histories(start: int) -> None:
    run_block(start)


def test_seeds_that_once_failed() -> None:
    for seed in KNOWN:
        simulate(seed)


def test_one_seed_is_one_history() -> None:
    assert simulate(7).trace == simulate(7).trace
    assert simulate(7).trace != simulate(8).trace


# --- every rule is needed: without it a history breaks ---

Patch = pytest.MonkeyPatch


def exists_is_success(patch: Patch) -> None:
    class Believing:
        def __init__(self, store: object) -> None:
            self._store = store

        def create(self, key: str, data: bytes) -> None:
            try:
                self._store.create(key, data)
            except AlreadyExists:
                return

        def __getattr__(self, name: str) -> object:
            return getattr(self._store, name)

    start = Log.__init__

    def init(self: Log, store: object, *args: object, **kwds: object) -> None:
        start(self, Believing(store), *args, **kwds)

    patch.setattr(Log, "__init__", init)


def _no_order(patch: Patch) -> None:
    """The production code would notice many broken rules itself; here only the oracle may."""
    patch.setattr(state_module, "_epoch_fits", lambda state, record: True)


def no_fencing(patch: Patch) -> None:
    _no_order(patch)
    real = Log._verdict
    patch.setattr(Log, "_verdict", lambda self, found, keys: real(self, found, keys) if found.kind == "edit" else None)


def stale_restart(patch: Patch) -> None:
    """The first slot was lost: take the next one with the batch as it is, and a new epoch."""
    _no_order(patch)
    real, place = Log._verdict, Log._place

    def verdict(self: Log, found: Record, keys: frozenset[str]) -> Exception | None:
        if self._opened or found.kind == "edit":
            return real(self, found, keys)
        self._epoch = self._state.epoch(0) + 1
        return None

    def placed(self: Log, draft: Record) -> Record:
        return place(self, draft if draft.kind == "edit" else replace(draft, epoch=self._epoch))

    patch.setattr(Log, "_verdict", verdict)
    patch.setattr(Log, "_place", placed)


def same_epoch(patch: Patch) -> None:
    _no_order(patch)
    real = Log._start

    def start(self: Log, state: State, base: int) -> None:
        real(self, state, base)
        self._epoch = max(1, state.epoch(0))

    patch.setattr(Log, "_start", start)


def seq_by_the_clock(patch: Patch) -> None:
    real = Log._place
    patch.setattr(state_module, "follows", lambda state, record: None)
    patch.setattr(Log, "_place", lambda self, draft: replace(real(self, draft), seq=self._clock.now_us()))


def seq_without_rows(patch: Patch) -> None:
    real = state_module.fold
    patch.setattr(state_module, "follows", lambda state, record: None)
    patch.setattr(log_module, "fold", lambda state, record: replace(real(state, record), seq=record.seq))
    patch.setattr(Log, "_place", _frozen_clock(Log._place))


def _frozen_clock(real: Callable[[Log, Record], Record]) -> Callable[[Log, Record], Record]:
    return lambda self, draft: replace(real(self, draft), seq=max(self._state.seq, 10**15))


def unknown_is_success(patch: Patch) -> None:
    real = Log._put

    def put(self: Log, mine: Record) -> Record:
        try:
            return real(self, mine)
        except CommitUnknown:
            self._dead = None
            return mine

    patch.setattr(Log, "_put", put)


def edits_are_ignored(patch: Patch) -> None:
    patch.setattr(log_module, "touched", lambda change: frozenset())


def snapshot_forgets(patch: Patch) -> None:
    real = snapshot_module.encode
    patch.setattr(snapshot_module, "encode", lambda s: real(replace(s, state=replace(s.state, checkpoints={}))))


def fenced_go_on(patch: Patch) -> None:
    real = Log._race

    def race(self: Log, kind: str, change: Change, keys: frozenset[str]) -> Record:
        try:
            return real(self, kind, change, keys)
        finally:
            self._dead = None

    patch.setattr(Log, "_race", race)


MUTANTS: list[Callable[[Patch], None]] = [
    exists_is_success,
    no_fencing,
    stale_restart,
    same_epoch,
    seq_by_the_clock,
    seq_without_rows,
    unknown_is_success,
    edits_are_ignored,
    snapshot_forgets,
    fenced_go_on,
]


def caught(careless: tuple[str, ...] = (), within: int = 150) -> int:
    """The first seed that breaks."""
    for seed in range(within):
        try:
            simulate(seed, careless=careless)
        except Violation as e:
            print(f"seed {seed}: {e}")  # seen with -s, or when the test fails
            return seed
    pytest.fail(f"the rule was taken out, and {within} histories did not notice")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda f: f.__name__)
def test_rule_of_the_log_is_needed(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    caught()


@pytest.mark.parametrize("rule", ["position apart", "no position guard", "delete on unknown"])
def test_rule_of_its_users_is_needed(rule: str) -> None:
    caught((rule,))
