"""Custom sinks and chains: each takes its table's rows in a thread of its own, through a bounded queue."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from queue import Empty, Full, Queue
from typing import Any

import pyarrow as pa

from anchovies.core.errors import FatalError
from anchovies.core.schema import batch_to_rows
from anchovies.core.tbl import Tbl
from anchovies.engine.calls import call
from anchovies.engine.context import RunContext
from anchovies.engine.fanin import Downstream
from anchovies.engine.gather import gather
from anchovies.engine.limits import StopSignal
from anchovies.engine.pending import Pending
from anchovies.sdk.context import entered

DEPTH = 4
FLUSH_ROWS = 5_000
POLL = 0.1


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
        self, method: Any, streaming: bool, tbl: Tbl, ctx: RunContext, into: list[Downstream], stop: StopSignal, **given: Any
    ) -> None:
        self.name = getattr(method, "__name__", str(method))
        self.streaming = streaming
        self.error: BaseException | None = None
        self._method, self._ctx, self._into, self._stop = method, ctx, into, stop
        self._queue: Queue[Any] = Queue(DEPTH)
        self._rows: list[object] = []
        self._done = threading.Event()
        self._ended = False
        self._given = {**given, "tbl": tbl, "table": tbl.name, "stream": QueueStream(tbl, self)}
        self._thread = threading.Thread(target=self._run, name=f"sink-{self.name}", daemon=True)

    def start(self) -> None:
        """Begin to take rows."""
        self._thread.start()

    # the flow's side

    def put(self, batch: pa.RecordBatch) -> None:
        """Hand a batch over; waits while the sink is behind. Raises what the sink raised."""
        self._offer(batch)

    def mark(self) -> None:
        """A unit ends here. Only for streaming sinks: others may still hold rows of it back."""
        self._offer(_MARK)

    def barrier(self) -> None:
        """Wait until everything that was put has passed, through all that hangs below. Only for streaming sinks."""
        mark = _Barrier()
        self._offer(mark)
        while not mark.passed.wait(POLL) and not self._done.is_set():
            self._look()
        self._look()

    def end(self) -> None:
        """No more rows: wait for the sink to return. Raises what it raised."""
        self._offer(_END)
        while not self._done.wait(POLL):
            self._stop.check()
        self._look()

    def taken(self) -> list[object]:
        """The actions of the chain that nobody has taken yet."""
        return self._ctx.pending.take()

    def abandon(self) -> None:
        """The flow failed: let the thread end by itself at its next row."""
        self.error = self.error or FatalError("the flow that feeds this sink has failed")

    def ended(self, seconds: float) -> bool:
        """Whether the sink has returned, waiting at most so long for it."""
        return self._thread.ident is None or self._done.wait(seconds)

    def _offer(self, item: object) -> None:
        while True:
            self._look()
            if self._done.is_set():
                return  # a sink that returned early wants no more rows
            try:
                return self._queue.put(item, timeout=POLL)
            except Full:
                continue

    def _look(self) -> None:
        if self.error is not None:
            raise self.error
        self._stop.check()

    # the sink's side

    def batches(self) -> Iterator[pa.RecordBatch]:
        while (item := self._next()) is not _END:
            if item is _MARK:
                self._flush()
                for below in self._into:
                    below.mark()
            elif isinstance(item, _Barrier):
                self._flush()
                for below in self._into:
                    below.barrier()
                item.passed.set()
            else:
                yield item

    def _next(self) -> Any:
        while not self._ended:
            if self.error is not None:
                raise self.error
            self._stop.check()
            try:
                item = self._queue.get(timeout=POLL)
            except Empty:
                continue
            self._ended = item is _END
            return item
        return _END  # whoever iterates a second time finds nothing more

    def _run(self) -> None:
        try:
            with entered(self._ctx):
                self._drive(call(self._method, self._given))
        except BaseException as e:
            self.error = self.error or e
        finally:
            self._leave()
            self._done.set()
            self._drain()

    def _leave(self) -> None:
        """Tell what hangs below that no more comes from here."""
        try:
            for below in self._into:
                below.leave(well=self.error is None)
        except BaseException as e:
            self.error = self.error or e

    def _drive(self, result: Iterable[object] | None) -> None:
        if result is None:
            return
        if not isinstance(result, Iterable) or isinstance(result, str | bytes | Mapping):
            raise FatalError(
                f"sink {self.name} returned a {type(result).__name__}", hint="a sink returns nothing, or yields rows as a chain"
            )
        for item in result:
            if not self._into:
                raise FatalError(
                    f"sink {self.name} yields rows but is no @source of any table", hint="add @source('table') above @sink"
                )
            self._rows.append(item)
            if len(self._rows) >= FLUSH_ROWS or not isinstance(item, dict):
                self._flush()
        self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        for below in self._into if rows else ():
            for piece in gather(iter(rows), Pending(), types=below.tbl.types or None):
                if piece.batch is not None:
                    below.take(piece.batch)

    def _drain(self) -> None:
        """Let waiting barriers go on; whoever waits sees `error` or the end."""
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return
            if isinstance(item, _Barrier):
                item.passed.set()
