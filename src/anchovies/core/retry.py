"""The one owner of trying again: full jitter, bounded by attempts and by the deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from anchovies.core.clock import Clock
from anchovies.core.errors import RetryableError, StoreUnavailable
from anchovies.core.ids import Ids

T = TypeVar("T")


def no_deadline() -> float | None:
    """There is all the time in the world."""
    return None


class Retry(msgspec.Struct, frozen=True):
    """How often and how patiently. `left()`: seconds until the deadline, or None; pauses grow from `base` to `cap` seconds."""

    clock: Clock
    ids: Ids
    left: Callable[[], float | None] = no_deadline
    attempts: int = 8
    base: float = 0.05
    cap: float = 20.0

    def call(self, do: Callable[[], T], on: type[RetryableError] = StoreUnavailable) -> T:
        """`do()`, again while it raises `on`. The last error is raised when the attempts or the time are used up.

        Only for what may be done twice: a `create` is not (see store/log.py).
        """
        tried = 0
        while True:
            try:
                return do()
            except on:
                tried += 1
                if not self.again(tried):
                    raise

    def again(self, tried: int) -> bool:
        """After failure number `tried` (from 1): pause and say True, or say False when no attempt, or no time, is left."""
        if (pause := self.pause(tried)) is None:
            return False
        self.clock.sleep(pause)
        return True

    def pause(self, tried: int, least: float = 0.0) -> float | None:
        """Seconds to wait after failure number `tried`, `least` and more; None when no attempt, or no time, is left."""
        if tried >= self.attempts:
            return None
        pause = least + self.ids.jitter() * min(self.cap, self.base * 2.0**tried)
        left = self.left()
        return None if left is not None and pause >= left else pause
