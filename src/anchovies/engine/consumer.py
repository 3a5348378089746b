"""Custom sinks and chains: each takes its table's rows in a thread of its own, through a queue that is bounded by bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from anchovies.core.clock import Clock
from anchovies.core.errors import FatalError
from anchovies.core.schema import batch_to_rows
from anchovies.core.tbl import Tbl
from anchovies.engine.actions import Rejected
from anchovies.engine.calls import call
from anchovies.engine.channel import POLL, QUEUE_BYTES, Channel
from anchovies.engine.context import RunContext
from anchovies.engine.fanin import Downstream
from anchovies.engine.gather import gather, weight
from anchovies.engine.limits import Halt
from anchovies.engine.pending import Pending
from anchovies.engine.spool import SpoolChannel
from anchovies.sdk.context import entered

FLUSH_ROWS = 5_000
LAST_NUDGE = 0.5  # seconds that a sink has to return after it was nudged
SAMPLE = 64  # one row of so many is weighed for all of them, after the first ones


class _Barrier:
    """Put between two rows: set when everything before it has passed the consumer."""

    def __init__(self) -> None:
        self.passed = threading.Event()


_MARK = object()
_END = object()


class QueueStream:
    """What a sink gets as `stream`: see `anchovies.sdk.Stream`."""

    def __init__(self, tbl: Tbl, owner: Consumer) -> None:
        self.tbl = tbl
        self._owner = owner

    def batches(self) -> Iterator[pa.RecordBatch]:
        return self._owner.batches()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches():
            yield from batch_to_rows(batch)


class Consumer:
    """One sink or chain while its flow runs."""

    def __init__(
        self,
        method: Any,
        streaming: bool,
        cached: bool,
        tbl: Tbl,
        ctx: RunContext,
        into: list[Downstream],
        halt: Halt,
        **given: Any,
    ) -> None:
        self.name = getattr(method, "__name__", str(method))
        self.streaming = streaming
        self.channel: Channel | SpoolChannel = SpoolChannel(f"{self.name}, {tbl.name}", _END, _MARK) if cached else Channel()
        self._method, self._ctx, self._into, self._halt = method, ctx, into, halt
        self._rows: list[object] = []
        self._held = 0  # bytes of them, about
        self._done = threading.Event()
        self._ended = False
        self._given = {**given, "tbl": tbl, "table": tbl.name, "stream": QueueStream(tbl, self)}
        self._thread = threading.Thread(target=self._run, name=f"sink-{self.name}", daemon=True)

    def start(self) -> None:
        """Begin to take rows."""
        self._thread.start()

    # the flow's side

    def put(self, batch: pa.RecordBatch, marks: Sequence[int] = ()) -> None:
        """Hand a batch over; waits while the sink is behind. Raises what ended the flow. A sink that returned wants no more.

        `marks`: offsets in (0, rows] after which a unit ends."""
        done = 0
        for mark in marks:
            part = batch.slice(done, mark - done)
            self.channel.put(part, part.nbytes, self._halt.check)
            self.mark()
            done = mark
        if done < batch.num_rows:
            part = batch.slice(done) if done else batch
            self.channel.put(part, part.nbytes, self._halt.check)

    def mark(self) -> None:
        """A unit ends here. Only for streaming sinks: others may still hold rows of it back."""
        self.channel.put(_MARK, 0, self._halt.check)

    def barrier(self) -> None:
        """Wait until everything that was put has passed, through all that hangs below. Only for streaming sinks."""
        mark = _Barrier()
        if self.channel.put(mark, 0, self._halt.check):
            while not mark.passed.wait(POLL):
                self._halt.check()
        self._halt.check()

    def end(self) -> None:
        """No more rows: wait for the sink to return. Raises what ended the flow."""
        self.channel.put(_END, 0, self._halt.check)
        while not self._done.wait(POLL):
            self._halt.check()
        self._halt.check()

    def taken(self) -> list[object]:
        """The actions of the chain that nobody has taken yet."""
        return self._ctx.pending.take()

    def ended(self, seconds: float) -> bool:
        """Whether the sink has returned, waiting at most so long for it."""
        return self._thread.ident is None or self._done.wait(seconds)

    def nudge(self) -> None:
        """The flow has failed, and this sink does not look."""
        if self._thread.ident is not None:
            self._halt.nudges.give(self._thread.ident)

    # the sink's side

    def batches(self) -> Iterator[pa.RecordBatch]:
        while (batch := self._next_batch()) is not None:
            yield batch

    def _next_batch(self) -> pa.RecordBatch | None:
        """The next rows; what lies before them is passed on. None: there are no more."""
        with self._halt.nudges.paused():
            while not self._ended:
                item = self.channel.take(self._halt.check)
                if item is _MARK:
                    self._pass_on(lambda below: below.mark())
                elif isinstance(item, _Barrier):
                    self._pass_on(lambda below: below.barrier())
                    item.passed.set()
                elif item is _END:
                    self._ended = True
                else:
                    return item
        return None  # also for whoever iterates a second time

    def _pass_on(self, tell: Callable[[Downstream], None]) -> None:
        self._flush()
        for below in self._into:
            tell(below)

    def _run(self) -> None:
        try:
            if isinstance(self.channel, SpoolChannel):
                self.channel.wait(self._halt.check)
            with entered(self._ctx):
                self._drive()
        except BaseException as e:
            self._halt.fail(e)
        finally:
            self._leave()
            left = self.channel.close()
            self._done.set()
            for item in left:  # whoever waits at a barrier sees the failure, or goes on without a sink that returned early
                if isinstance(item, _Barrier):
                    item.passed.set()

    def _leave(self) -> None:
        """Tell what hangs below that no more comes from here."""
        try:
            for below in self._into:
                below.leave(well=self._halt.error is None)
        except BaseException as e:
            self._halt.fail(e)

    def _drive(self) -> None:
        nudges = self._halt.nudges
        with nudges:
            result = call(self._method, self._given)
            if result is None:
                return
            for item in self._checked(result):
                self._rows.append(item)
                if (waiting := len(self._rows)) < SAMPLE or not waiting % SAMPLE:
                    self._held += weight(item) * (1 if waiting < SAMPLE else SAMPLE)
                if waiting >= FLUSH_ROWS or self._held >= QUEUE_BYTES or not isinstance(item, dict):
                    with nudges.paused():
                        self._flush()
        self._flush()

    def _checked(self, result: object) -> Iterable[object]:
        if not isinstance(result, Iterable) or isinstance(result, str | bytes | Mapping):
            raise FatalError(
                f"sink {self.name} returned a {type(result).__name__}", hint="a sink returns nothing, or yields rows as a chain"
            )
        return result if self._into else self._nothing(result)

    def _nothing(self, result: Iterable[object]) -> Iterator[object]:
        for _ in result:
            raise FatalError(
                f"sink {self.name} yields rows but is no @source of any table", hint="add @source('table') above @sink"
            )
        yield from ()

    def _flush(self) -> None:
        rows, self._rows, self._held = self._rows, [], 0
        for below in self._into if rows else ():
            for piece in below.shaped(gather(iter(rows), Pending(), **below.reading)):
                if piece.batch is not None:
                    below.take(piece.batch)
                for bad in (a for _, actions in piece.marks for a in actions if isinstance(a, Rejected)):
                    below.reject(bad)


def end_all(consumers: Sequence[Consumer], clock: Clock, seconds: float) -> None:
    """Let sinks of a failed flow end before what they feed is closed: at their next row within `seconds`, else nudged. One that
    cannot will find it closed."""
    _wait_for(consumers, clock, seconds)
    for consumer in consumers:
        consumer.nudge()
    _wait_for(consumers, clock, LAST_NUDGE)


def _wait_for(consumers: Sequence[Consumer], clock: Clock, seconds: float) -> None:
    until = clock.monotonic() + seconds
    for consumer in consumers:
        consumer.ended(max(0.0, until - clock.monotonic()))
