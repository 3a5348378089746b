"""The fold refuses what cannot stand in a log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from anchovies.core.errors import CorruptDatastore, FatalError, HistoryDiverged
from anchovies.store.log import Log
from anchovies.store.record import Change, Record
from anchovies.store.state import State, fold, follows


@pytest.fixture
def two(new_log: Callable[..., Log], change: Callable[..., Change]) -> tuple[State, Record]:
    """A state, and the record that follows it."""
    log = new_log()
    log.append(change())
    return log.state, log.append(change())


def test_the_record_that_follows(two: tuple[State, Record]) -> None:
    state, record = two
    follows(state, record)
    assert fold(state, record).slot == 2 and state.slot == 1


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"slot": 3}, HistoryDiverged),
        ({"prev": "another"}, HistoryDiverged),
        ({"store": "another"}, HistoryDiverged),
        ({"seq": 0}, CorruptDatastore),
        ({"epoch": 0}, CorruptDatastore),
        ({"epoch": 2}, CorruptDatastore),
        ({"workers": 2}, CorruptDatastore),
        ({"kind": "open"}, CorruptDatastore),
        ({"kind": "open", "workers": 2}, CorruptDatastore),
        ({"kind": "reset"}, CorruptDatastore),
        ({"kind": "merge"}, FatalError),
    ],
    ids=str,
)
def test_records_that_do_not(two: tuple[State, Record], changed: dict[str, object], error: type[Exception]) -> None:
    state, record = two
    with pytest.raises(error) as e:
        fold(state, replace(record, **changed))
    assert type(e.value) is error and e.value.hint


def test_another_number_of_workers_raises_every_lane(two: tuple[State, Record]) -> None:
    state, record = two
    after = fold(state, replace(record, kind="open", workers=3, lane=1, epoch=3))
    assert (after.workers, after.floor, after.epoch(0), after.epoch(1), after.epoch(2), after.top_epoch) == (3, 3, 3, 3, 3, 3)


def test_a_reset_raises_every_lane(two: tuple[State, Record]) -> None:
    state, record = two
    after = fold(state, replace(record, kind="reset", workers=0, lane=-1, epoch=3))
    assert (after.workers, after.floor, after.epoch(0), after.epoch(7), after.resets) == (1, 3, 3, 3, [2])


def test_a_retirement_never_goes_back(two: tuple[State, Record]) -> None:
    state, record = two
    old = replace(state, retired={"t": 5, "u": 1}, ack_pending=["x"])
    after = fold(old, replace(record, kind="retire", workers=0, lane=-1, epoch=0, change=Change(retire={"t": 3, "u": 2})))
    assert after.retired == {"t": 5, "u": 2} and after.ack_pending == ["x"]
