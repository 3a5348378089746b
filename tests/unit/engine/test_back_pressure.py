"""Between the threads of a flow: queues bounded by bytes, and one failure that ends all of them."""

from __future__ import annotations

import threading
import time
from typing import Any

import pyarrow as pa
import pytest

from anchovies.engine import channel
from anchovies.engine.channel import QUEUE_BYTES, Channel
from anchovies.engine.limits import Halt, Nudges
from anchovies.sdk import Downloader, Stream, batch, context, sink, source

MB = 1 << 20


def nothing() -> None:
    """Nothing ends the batch."""


def test_a_channel_keeps_the_order_and_never_holds_more_than_it_may() -> None:
    made, got, most = Channel(), [], []

    def put() -> None:
        for n in range(200):
            made.put(n, MB, nothing)
            most.append(made.held)
        made.put(None, 0, nothing)

    thread = threading.Thread(target=put)
    thread.start()
    while (item := made.take(nothing)) is not None:
        got.append(item)
    thread.join()
    assert got == list(range(200))
    assert max(most) <= QUEUE_BYTES


def test_one_item_that_is_too_large_for_a_channel_passes_alone() -> None:
    made, seen = Channel(), []
    made.put("huge", 10 * QUEUE_BYTES, nothing)
    thread = threading.Thread(target=lambda: seen.append(made.put("next", 1, nothing)))
    thread.start()
    thread.join(0.2)
    assert not seen  # it waits
    assert made.take(nothing) == "huge"
    thread.join(10)
    assert seen == [True]
    assert made.take(nothing) == "next"


def test_marks_count_as_well() -> None:
    made = Channel()
    for _ in range(QUEUE_BYTES // channel.LEAST):
        made.put("mark", 0, nothing)
    tries = []

    def stop() -> None:
        tries.append(1)
        if len(tries) > 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        made.put("one more", 0, stop)


def test_a_channel_that_is_closed_lets_whoever_waits_go_on() -> None:
    made, seen = Channel(), []
    made.put("a", QUEUE_BYTES, nothing)
    thread = threading.Thread(target=lambda: seen.append(made.put("b", 1, nothing)))
    thread.start()
    assert made.close() == ["a"]
    thread.join(10)
    assert seen == [False]
    assert made.held == 0


def test_a_slow_chain_keeps_what_waits_for_it_bounded_however_large_the_rows_are(place: Any, monkeypatch: Any) -> None:
    """200 MB of rows through a chain of three: what lies in queues, and in a chain's hands, is counted."""
    held: list[int] = []
    real = Channel.put

    def put(self: Channel, item: object, size: int, check: Any) -> bool:
        done = real(self, item, size, check)
        held.append(self.held)
        return done

    monkeypatch.setattr(Channel, "put", put)

    class Large(Downloader):
        @source("raw", store=False)
        def raw(self) -> Any:
            for _ in range(100):
                yield {"text": "x" * (2 * MB)}

        @source("middle", store=False)
        @sink("raw")
        def middle(self, stream: Stream) -> Any:
            for row in stream:
                yield {"text": row["text"]}

        @source("last", store=False)
        @sink("middle", streaming=True)
        def last(self, stream: Stream) -> Any:
            for i, row in enumerate(stream):
                time.sleep(0.02 if i < 10 else 0)
                yield {"n": len(row["text"])}

        @sink("last")
        def count(self, stream: Stream) -> None:
            context().task.with_(total=sum(r["n"] for r in stream))

    assert place.run(Large).tables[0].rows == 100
    assert len(held) >= 50  # they did not come as one
    assert max(held) <= QUEUE_BYTES + 3 * MB  # an item may be a little larger than what fits, then it is alone


@pytest.mark.parametrize("where", ["sink", "chain", "below"])
def test_a_failure_anywhere_ends_a_source_that_does_not_look(place: Any, where: str) -> None:
    seen: list[str] = []

    class Stuck(Downloader):
        @source("a")
        def a(self) -> Any:
            try:
                yield pa.table({"n": list(range(10))})
                while True:
                    time.sleep(0.01)  # it yields nothing more
            finally:
                seen.append("closed")

        @sink("a")
        def taker(self, stream: Stream) -> None:
            for _ in stream:
                if where == "sink":
                    raise KeyError("in the sink")

        @source("b")
        @sink("a", streaming=True)
        def b(self, stream: Stream) -> Any:
            for some in stream.batches():
                if where == "chain":
                    raise KeyError("in the chain")
                yield some

        @sink("b")
        def low(self, stream: Stream) -> None:
            for _ in stream:
                if where == "below":
                    raise KeyError("below")

        @source("other")
        def other(self) -> Any:
            yield {"n": 1}

    with pytest.raises(KeyError) as caught:
        place.run(Stuck)
    assert seen == ["closed"]
    assert caught.traceback[-1].path.name == "test_back_pressure.py"
    assert place.rows("other") == [{"n": 1}]  # the others finish
    assert place.rows("a") == place.rows("b") == []
    assert not [t for t in threading.enumerate() if t.name.startswith(("sink-", "encode-"))]


def test_a_sink_that_fails_before_it_has_a_row_ends_a_source_that_has_none_yet(place: Any) -> None:
    class Early(Downloader):
        @source("a")
        def a(self) -> Any:
            while not batch().time_left():
                time.sleep(0.01)
            yield {"n": 1}

        @sink("a")
        def bad(self, stream: Stream) -> None:
            raise KeyError("at once")

    with pytest.raises(KeyError, match="at once"):
        place.run(Early)


def test_what_a_sink_raises_is_what_the_result_says_with_the_line_of_its_author(place: Any) -> None:
    class Bad(Downloader):
        @source("a")
        def a(self) -> Any:
            for n in range(100_000):
                yield {"n": n, "text": "x" * 1000}

        @sink("a")
        def bad(self, stream: Stream) -> None:
            for row in stream:
                if row["n"] == 40_000:
                    raise ValueError("no more of this")

        @sink("a")
        def waits(self, stream: Stream) -> None:
            for _ in stream.batches():
                pass

    events: list[Any] = []
    with pytest.raises(ValueError, match="no more of this"):
        place.run(Bad, listener=events.append)
    said = next(e.data["err_msg"] for e in events if e.kind == "task_ended")
    assert said.startswith("ValueError: no more of this (test_back_pressure.py:")
    assert said.endswith(", in bad)")


def test_a_sink_that_does_not_look_is_nudged_when_its_flow_has_failed(place: Any) -> None:
    ended = threading.Event()

    class Deaf(Downloader):
        @source("a")
        def a(self) -> Any:
            yield {"n": 1}
            raise ZeroDivisionError

        @sink("a")
        def deaf(self, stream: Stream) -> None:
            try:
                while True:
                    time.sleep(0.01)
            finally:
                ended.set()

    with pytest.raises(ZeroDivisionError):
        place.run(Deaf)
    assert ended.is_set()


def test_the_first_failure_counts_and_the_other_sinks_hear_of_another_part() -> None:
    halt = Halt(nothing, Nudges())
    halt.check()
    first = KeyError("first")
    halt.fail(first)
    halt.fail(ValueError("second"))
    with pytest.raises(KeyError) as caught:
        halt.check()
    assert caught.value is first
    heard: list[BaseException] = []

    def sink_() -> None:
        try:
            halt.check()
        except BaseException as e:
            heard.append(e)

    thread = threading.Thread(target=sink_)
    thread.start()
    thread.join()
    assert "another part of the flow" in str(heard[0])


def test_nudges_reach_every_thread_that_is_inside_and_none_that_called_back() -> None:
    nudges, outcome = Nudges(), []
    inside, paused = threading.Barrier(3), threading.Event()

    def busy(name: str) -> None:
        try:
            with nudges:
                inside.wait()
                while True:
                    pass
        except BaseException as e:
            outcome.append((name, type(e).__name__))

    def ours() -> None:
        with nudges:
            with nudges.paused():
                paused.wait(10)
                for _ in range(1000):
                    pass
            outcome.append(("ours", "went on"))

    threads = [threading.Thread(target=busy, args=(n,)) for n in "ab"] + [threading.Thread(target=ours)]
    for t in threads:
        t.start()
    inside.wait()
    assert nudges.give()
    for t in threads[:2]:
        t.join(10)
    paused.set()
    threads[2].join(10)
    assert sorted(outcome) == [("a", "Nudge"), ("b", "Nudge"), ("ours", "went on")]
