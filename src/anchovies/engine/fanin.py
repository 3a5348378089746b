"""Where rows of several feeders meet in one table.

All of them come from the same marks above, each by its own way and in its own thread. A unit of the table is what all feeders
made of one unit above, so whoever is ahead waits at its mark until the others have come to theirs. Nobody waits for one that is
ahead, so somebody can always go on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from anchovies.engine.actions import Rejected
from anchovies.engine.channel import POLL
from anchovies.engine.limits import Halt

if TYPE_CHECKING:
    import pyarrow as pa

    from anchovies.engine.gather import Piece


class Downstream(Protocol):
    """Where the rows of a source or a chain go: a table of the same flow."""

    @property
    def reading(self) -> Mapping[str, Any]:
        """How its rows are gathered: types, and what becomes of rows that do not fit."""
        ...

    def shaped(self, pieces: Iterator[Piece]) -> Iterator[Piece]: ...
    def take(self, batch: pa.RecordBatch) -> None: ...
    def reject(self, bad: Rejected) -> None: ...
    def mark(self) -> None: ...
    def barrier(self) -> None: ...
    def leave(self, *, well: bool) -> None: ...


class FanIn:
    """Lets several feeders into one table. `flowing`: marks come with the rows of all of them; else units end with the task."""

    def __init__(self, into: Downstream, halt: Halt, flowing: bool) -> None:
        self.into, self._halt, self._flowing = into, halt, flowing
        self._turn = threading.Condition(threading.RLock())
        self._ports: list[Port] = []
        self._marks = self._barriers = 0  # that all ports have passed

    def port(self) -> Port:
        """The entrance of one feeder. All are asked for before the first row."""
        port = Port(self, self.into.reading)
        self._ports.append(port)
        return port

    def take(self, port: Port, batch: pa.RecordBatch) -> None:
        with self._turn:
            self._await(port)
            self.into.take(batch)

    def reject(self, port: Port, bad: Rejected) -> None:
        with self._turn:
            self._await(port)
            self.into.reject(bad)

    def _await(self, port: Port) -> None:
        """Wait for those that are a unit behind."""
        while self._flowing and port.marks > self._marks:
            self._halt.check()
            self._turn.wait(POLL)

    def pass_on(self) -> None:
        """Go on with what every feeder has come to: marks, then barriers."""
        if not self._flowing:
            return
        with self._turn:
            here = [p for p in self._ports if not p.left]
            while here and self._marks < min(p.marks for p in here):
                self._marks += 1
                self.into.mark()
            while here and self._barriers < min(p.barriers for p in here):
                self._barriers += 1
                self.into.barrier()
            self._turn.notify_all()

    def leave(self, port: Port, well: bool) -> None:
        """Nobody waits for this feeder any more. One that failed ends no unit: its flow fails as well."""
        with self._turn:
            port.left = True
            if well:
                self.pass_on()
            elif here := [p for p in self._ports if not p.left]:
                self._marks = max(self._marks, min(p.marks for p in here))
                self._turn.notify_all()


class Port:
    """One feeder's entrance: see `Downstream`."""

    def __init__(self, fan: FanIn, reading: Mapping[str, Any]) -> None:
        self.reading = reading
        self.marks = self.barriers = 0
        self.left = False
        self._fan = fan

    def shaped(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        return self._fan.into.shaped(pieces)

    def take(self, batch: pa.RecordBatch) -> None:
        self._fan.take(self, batch)

    def reject(self, bad: Rejected) -> None:
        self._fan.reject(self, bad)

    def mark(self) -> None:
        self.marks += 1
        self._fan.pass_on()

    def barrier(self) -> None:
        self.barriers += 1
        self._fan.pass_on()

    def leave(self, *, well: bool) -> None:
        self._fan.leave(self, well)
