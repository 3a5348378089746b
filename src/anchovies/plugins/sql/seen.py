"""Rows that were read and may come again: of the newest stretch of a table, each known by a hash of where it lies."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b

from anchovies.sdk import Ledger

SIZE = 12  # bytes of a hash: a million rows against a million make a clash with a chance of 1 in 10^16
CHUNK = 2000  # hashes of an entry of the ledger
MOST_CHUNKS = 64


def hash_of(marks: Iterable[str | None]) -> bytes:
    """A row's hash, of the texts of its cursor and key."""
    made = blake2b(digest_size=SIZE)
    for mark in marks:
        raw = b"-" if mark is None else mark.encode()
        made.update(b"%d:" % (len(raw) if mark is not None else -1) + raw)
    return made.digest()


class Seen:
    """A bag of hashes in chunks, each an entry of the table's ledger. Rows without a key may be equal: each counts by itself.

    `chunks`: numbers of the entries, as the checkpoint holds them.
    """

    def __init__(self, ledger: Ledger, chunks: Iterable[int]) -> None:
        self._ledger = ledger
        self.chunks = list(chunks)
        self._old: Counter[bytes] = Counter()
        for number in self.chunks:
            self._old.update(_unpacked(ledger.get(_name(number)) or ""))
        self._stored = self._old.total()
        self._alive: list[bytes] = []
        self._new: list[bytes] = []

    def take(self, hash: bytes) -> bool:
        """Whether it is in there; once for each time that it is."""
        if self._old[hash] <= 0:
            return False
        self._old[hash] -= 1
        return True

    def stays(self, hash: bytes) -> None:
        """It was in there, and may come again."""
        self._alive.append(hash)

    def add(self, hash: bytes, *, stays: bool) -> None:
        """A row that was kept. `stays`: it may come again in later runs too, and not only if this one is cut off."""
        self._new.append(hash)
        if stays:
            self._alive.append(hash)

    def flush(self) -> list[int]:
        """Put what was added into the ledger; the chunks that there are now."""
        new, self._new = self._new, []
        self._stored += len(new)
        self._put(new)
        return self.chunks

    def finish(self) -> list[int]:
        """The whole stretch was read: where much of what is stored cannot come again, it is written anew."""
        self.flush()
        if len(self._alive) * 2 <= self._stored or len(self.chunks) > MOST_CHUNKS:
            gone, start = self.chunks, max(self.chunks, default=-1) + 1
            self.chunks = []
            self._put(self._alive, start % 1_000_000)
            for number in set(gone) - set(self.chunks):
                self._ledger.delete(_name(number))
            self._stored = len(self._alive)
        return self.chunks

    def _put(self, hashes: list[bytes], start: int | None = None) -> None:
        number = max(self.chunks, default=-1) + 1 if start is None else start
        for i in range(0, len(hashes), CHUNK):
            self._ledger.put(_name(number), base64.b64encode(b"".join(hashes[i : i + CHUNK])).decode())
            self.chunks = [*self.chunks, number]
            number += 1


def _name(number: int) -> str:
    return f"seen {number}"


def _unpacked(text: str) -> list[bytes]:
    raw = base64.b64decode(text)
    return [raw[i : i + SIZE] for i in range(0, len(raw), SIZE)]
