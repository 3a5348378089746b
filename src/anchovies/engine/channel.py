"""What lies between two threads of a flow: a queue that is bounded by the bytes in it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

QUEUE_BYTES = 8 << 20
LEAST = 64  # bytes that anything takes, a mark as well
POLL = 0.1  # seconds between two looks whether the batch still goes on


class Channel:
    """First in, first out, for one thread that puts and one that takes.

    It holds at most `QUEUE_BYTES`, or one item that is larger: whoever puts waits for whoever takes, and so up to the source.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._items: deque[tuple[Any, int]] = deque()
        self._closed = False
        self.held = 0

    def put(self, item: object, size: int, check: Callable[[], None]) -> bool:
        """Append; waits while it is full. False: it is closed, nobody takes any more. Raises what `check` raises."""
        size = max(size, LEAST)
        check()
        with self._turn:
            while not self._closed and self.held and self.held + size > QUEUE_BYTES:
                self._turn.wait(POLL)
                check()
            if not self._closed:
                self._items.append((item, size))
                self.held += size
                self._turn.notify_all()
            return not self._closed

    def take(self, check: Callable[[], None]) -> Any:
        """The next item; waits for it. Raises what `check` raises."""
        check()
        with self._turn:
            while not self._items:
                self._turn.wait(POLL)
                check()
            item, size = self._items.popleft()
            self.held -= size
            self._turn.notify_all()
            return item

    def close(self) -> list[Any]:
        """Nobody takes any more. What was left."""
        with self._turn:
            self._closed = True
            left = [item for item, _ in self._items]
            self._items.clear()
            self.held = 0
            self._turn.notify_all()
            return left
