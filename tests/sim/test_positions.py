"""The position as `sql.Uploader` keeps it, in a real SQLite, in the simulator: ambiguous commits, rivals, backups."""

from __future__ import annotations

from collections import Counter

import pytest

from anchovies.plugins.sql import loading, position
from anchovies.plugins.sql.databases.lite import LiteDatabase
from anchovies.sdk import Position, PositionMoved, Target, Tbl
from anchovies.testing.histories import simulate
from anchovies.testing.simulator import Rows, Scheduler, SimDatabase, Violation

TARGET = Target(store="sim", user="sim", id="numbers", schema="sim", tbl=Tbl("numbers"))


class SqlDatabase(SimDatabase):
    """Rows are the simulator's; the position lies in SQLite and is claimed, checked and advanced by the code of the plugin."""

    def __init__(self, world: Scheduler) -> None:
        self.sql = LiteDatabase(":memory:")
        loading.prepare(self.sql, TARGET.schema)
        super().__init__(world)

    @property
    def position(self) -> tuple[int, str]:  # type: ignore[override]
        found = position.read(self.sql, TARGET)
        return (found.slot, found.cid) if found else (0, "")

    @position.setter
    def position(self, value: tuple[int, str]) -> None:
        """What a backup brings back."""
        with self.sql.transaction():
            old = position.claim(self.sql, TARGET)
            position.advance(self.sql, TARGET, old, Position(*value), None)

    def apply(self, start: tuple[int, str], rows: Rows, after: tuple[int, str], *, guarded: bool = True) -> None:
        try:
            with self.sql.transaction():
                old = position.claim(self.sql, TARGET)
                position.check(TARGET, old, Position(*start), True)
                self.insert(rows)
                position.advance(self.sql, TARGET, old, Position(*after), "sim")
        except PositionMoved:
            return


def run(seeds: range) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        try:
            world = simulate(seed, database=SqlDatabase)
        except Violation as e:
            pytest.fail(f"seed {seed}: {e}")
        seen.update(world.stats)
        for db in world.dbs:
            db.sql.close()  # type: ignore[attr-defined]
    return seen


def test_histories_with_the_position_of_the_plugin() -> None:
    seen = run(range(40))
    assert seen["commit"] and seen["restored"] and seen["fault"]


@pytest.mark.slow
def test_more_histories_with_the_position_of_the_plugin() -> None:
    run(range(40, 1000))


def _unchecked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(position, "check", lambda *args: None)


def _never_advanced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(position, "advance", lambda *args: None)


def _advanced_too_far(patch: pytest.MonkeyPatch) -> None:
    real = position.advance
    patch.setattr(position, "advance", lambda db, t, old, new, who: real(db, t, old, Position(new.slot + 1, new.cid), who))


@pytest.mark.parametrize("mutant", [_unchecked, _never_advanced, _advanced_too_far], ids=lambda f: f.__name__)
def test_each_step_is_needed(mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    for seed in range(60):
        try:
            simulate(seed, database=SqlDatabase)
        except Violation:
            return
    pytest.fail("a step was taken out, and 60 histories did not notice")
