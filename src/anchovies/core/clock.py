"""The one owner of time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the rest of the house knows of time. Simulators and tests bring their own."""

    def now_us(self) -> int:
        """Wall clock, microseconds since 1970 UTC. For labels and `seq`; never for a safety decision."""
        ...

    def monotonic(self) -> float:
        """Seconds, never going back; the same in a forked child."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now_us(self) -> int:
        return time.time_ns() // 1000

    monotonic = staticmethod(time.monotonic)  # the function itself: it is asked after every row

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def iso(us: int) -> str:
    """`2026-11-22T17:05:00.123456Z` of microseconds since 1970 UTC."""
    return datetime.fromtimestamp(us / 1_000_000, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def compact(us: int) -> str:
    """`20261122T170500Z`: a time that is safe in names."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
