"""Trying again: bounded by attempts and by the deadline, with full jitter."""

from __future__ import annotations

import pytest

from anchovies.core.clock import SystemClock
from anchovies.core.errors import CommitUnknown, RetryableError, StaleSession, StoreUnavailable
from anchovies.core.ids import SystemIds
from anchovies.core.retry import Retry


class Clock(SystemClock):
    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Failing:
    def __init__(self, times: int, error: type[Exception] = StoreUnavailable) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error("no")
        return "done"


def test_it_tries_until_it_works() -> None:
    clock, do = Clock(), Failing(3)
    assert Retry(clock, SystemIds(1), attempts=5).call(do) == "done"
    assert (do.calls, len(clock.slept)) == (4, 3)


def test_it_gives_up_after_its_attempts() -> None:
    clock, do = Clock(), Failing(99)
    with pytest.raises(StoreUnavailable):
        Retry(clock, SystemIds(1), attempts=5).call(do)
    assert (do.calls, len(clock.slept)) == (5, 4)


def test_it_does_not_sleep_past_the_deadline() -> None:
    clock, do = Clock(), Failing(99)
    with pytest.raises(StoreUnavailable):
        Retry(clock, SystemIds(1), left=lambda: 0.0).call(do)
    assert (do.calls, clock.slept) == (1, [])
    assert Retry(clock, SystemIds(1), left=lambda: 1e9).call(Failing(2)) == "done"


def test_pauses_are_jittered_and_capped() -> None:
    clock = Clock()
    with pytest.raises(StoreUnavailable):
        Retry(clock, SystemIds(5), attempts=200, base=1.0, cap=20.0).call(Failing(999))
    assert all(0 <= s < 20.0 for s in clock.slept)
    assert clock.slept[0] < 2.0
    assert len(set(clock.slept)) > 190 and max(clock.slept) > 15 and min(clock.slept[10:]) < 5


@pytest.mark.parametrize("error", [CommitUnknown, StaleSession, ValueError])
def test_other_errors_are_not_tried_again(error: type[Exception]) -> None:
    do = Failing(1, error)
    with pytest.raises(error):
        Retry(Clock(), SystemIds(1)).call(do)
    assert do.calls == 1


def test_what_is_tried_again_can_be_said() -> None:
    assert Retry(Clock(), SystemIds(1)).call(Failing(2, StaleSession), on=RetryableError) == "done"
