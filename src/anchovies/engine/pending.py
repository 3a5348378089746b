"""What a source has set since it was last looked at, and after how many of its rows.

A source is asked for many rows in one turn, for a step of ours after each row would cost a tenth of the row. So each action notes
by itself how many rows came before it, and ends the turn: what is due is looked at before another row waits behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from anchovies.engine.actions import Action

MOST_A_TURN = 64
SLOW = 0.02  # seconds that a turn may take; a slower source is looked at after each row

_ENDLESS = 1 << 62  # more rows than there will be
_gone: Iterator[object] = iter(())


class Pending:
    """The actions of one generator since they were last taken. `rows`: what it has yielded and nobody has passed on yet.

    It may be called by any thread; an action of another thread than the source's is due after all rows that were yielded by then.
    """

    def __init__(self) -> None:
        self.rows: list[object] = []
        self.before = 0  # rows that were yielded before those in `rows`, or more while they are on their way
        self._lock = threading.Lock()
        self._actions: list[tuple[int, Action]] = []
        self._permits: list[Iterator[object]] = []
        self._turn = 1

    def put(self, action: Action) -> None:
        with self._lock:
            self._actions.append((self.before + len(self.rows), action))
            self._permits.clear()

    def pass_on(self, more: int = 0) -> None:
        """The rows are somebody else's from here on, and `more` that were never among them."""
        with self._lock:
            self.before += len(self.rows) + more
            self.rows.clear()

    def take_back(self, rows: Sequence[object]) -> None:
        """These, the last that were passed on, wait again."""
        with self._lock:
            self.before -= len(rows)
            self.rows[:0] = rows

    def take_out(self, have: int) -> list[object]:
        """The items from row `have` on, which are no rows yet. Until `put_in`, what is put is due after all of them."""
        with self._lock:
            self.before += _ENDLESS
            items = self.rows[have:]
            del self.rows[have:]
            return items

    def put_in(self) -> None:
        with self._lock:
            self.before -= _ENDLESS

    def take(self) -> list[object]:
        """The actions."""
        return [action for _, action in self.placed()]

    def placed(self) -> list[tuple[int, Action]]:
        """The actions, each with the number of rows before it."""
        if not self._actions:
            return []
        with self._lock:
            taken, self._actions = self._actions, []
        return taken

    def pull(self, source: Iterator[object], most: int) -> bool:
        """Append up to `most` items of `source` to `rows`, fewer if something is put meanwhile. False: the source has ended.

        `next(_gone, item)` is the item: so `map` takes a permit, then an item, in the interpreter's own loop; and a list that is
        extended counts each item at once, so that `put` knows how many there are.
        """
        have, rows = len(self.rows), self.rows
        wanted = min(self._turn, most)
        self._permits = permits = [_gone] * wanted
        rows.extend(map(next, permits, source))
        return len(rows) - have == wanted or len(permits) != wanted

    def took(self, rows: int, seconds: float) -> None:
        """How long a turn of so many rows lasted: the next one may be longer, or has to be shorter."""
        if seconds > SLOW or not rows:
            self._turn = 1
        else:
            self._turn = min(2 * rows, MOST_A_TURN)
