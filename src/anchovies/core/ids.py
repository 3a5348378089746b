"""The one owner of randomness: ids, nonces and jitter."""

from __future__ import annotations

import random
from typing import Protocol

from anchovies.core.clock import compact


class Ids(Protocol):
    """Where ids come from. Simulators and tests bring a seeded one."""

    def cid(self) -> str:
        """Id of a commit: 32 hex digits, unique in the world."""
        ...

    def nonce(self) -> str:
        """Name of a data file or a temporary file: 16 hex digits, never used twice."""
        ...

    def session(self, now_us: int) -> str:
        """`<UTC time>-<6 random>`."""
        ...

    def jitter(self) -> float:
        """In [0, 1)."""
        ...


class SystemIds:
    def __init__(self, seed: int | None = None) -> None:
        self._random: random.Random = random.SystemRandom() if seed is None else random.Random(seed)  # noqa: S311

    def cid(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def nonce(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    def session(self, now_us: int) -> str:
        return f"{compact(now_us)}-{self._random.getrandbits(24):06x}"

    def jitter(self) -> float:
        return self._random.random()
