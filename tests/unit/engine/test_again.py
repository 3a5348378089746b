"""Sources that raise RetryableError: called again from what they have set, nothing lost, nothing doubled, not for ever."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from anchovies.core.config import Config
from anchovies.core.errors import AnchovyExecutionTimeout, FatalError, RetryableError, Stopped
from anchovies.core.settings import resolve
from anchovies.engine.events import Event
from anchovies.engine.limits import stopped_by
from anchovies.engine.session import SessionRun
from anchovies.sdk import Connection, Downloader, Stream, context, on_ack, sink, source

waits: list[float] = []


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses last no time, and are counted."""
    waits.clear()

    def wait(self: Any, seconds: float) -> None:
        waits.append(seconds)
        self._halt.check()

    monkeypatch.setattr("anchovies.engine.again.Again._wait", wait)


class Flaky(Downloader):
    """Ten rows, a checkpoint after each third; fails before the rows that `fails` names, each as often as it says."""

    fails: dict[int, int] = {}
    arrow = False

    def broken(self, n: int) -> None:
        if self.fails.get(n, 0) > 0:
            self.fails[n] -= 1
            raise RetryableError(f"no answer at {n}")

    @source("t")
    def t(self) -> Any:
        done = context().checkpoint("n")
        self.broken(-1)
        for n in range(done.get(0), 10):
            self.broken(n)
            yield {"n": n}
            if n % 3 == 2:
                done.set(n + 1)
        self.broken(10)


def flaky(*bases: type, **fails: int) -> type[Flaky]:
    return type("Flaky", (*bases, Flaky), {"fails": {int(k[1:].replace("_", "-")): v for k, v in fails.items()}})


def numbers(place: Any) -> list[int]:
    return [r["n"] for r in place.rows("t")]


@pytest.mark.parametrize("commit_bytes", ["1", "64 MiB"])
@pytest.mark.parametrize("fails", [{"n_1": 1}, {"n0": 2}, {"n1": 1}, {"n3": 3}, {"n4": 1, "n5": 1, "n9": 2}, {"n10": 7}])
def test_it_is_called_again_and_nothing_is_lost_or_doubled(place: Any, fails: dict[str, int], commit_bytes: str) -> None:
    result = place.run(flaky(**fails), commit_bytes=commit_bytes)
    assert numbers(place) == list(range(10))
    assert (result.rows, result.tables[0].kept, place.checkpoint("n")) == (10, 10, 9)
    assert place.units("t") == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert len(waits) == sum(fails.values())
    assert len([w for w in result.warnings if "no answer at" in w and "its source is called again" in w]) == len(
        set(result.tables[0].warnings)
    )


def test_rows_that_had_gone_to_the_writer_already_are_dropped_as_well(place: Any) -> None:
    class Large(Flaky):
        fails = {1: 1}

        @source("t")
        def t(self) -> Any:
            done = context().checkpoint("n")
            for n in range(done.get(0), 3):
                yield [{"n": n, "i": i} for i in range(25_000)]
                self.broken(n)
                done.set(n + 1)

    result = place.run(Large, commit_bytes="1")
    assert [(r["n"], r["i"]) for r in place.rows("t")] == [(n, i) for n in range(3) for i in range(25_000)]
    assert result.rows == 75_000


def test_the_task_says_how_often(place: Any) -> None:
    place.run(flaky(n1=1, n7=2))
    lines = [json.loads(x) for k in place.named("$task_logs") for x in place.store.get(k).splitlines()]
    assert [x["data"]["retries"] for x in lines if x["task_type"] == "TBL"] == [3]


def test_not_for_ever(place: Any) -> None:
    with pytest.raises(RetryableError, match="no answer at 4"):
        place.run(flaky(n4=100), commit_bytes="1")
    assert len(waits) == 7
    assert (numbers(place), place.checkpoint("n")) == ([0, 1, 2], 3)


def test_progress_begins_the_count_anew(place: Any) -> None:
    place.run(flaky(n0=7, n4=7, n9=7))
    assert numbers(place) == list(range(10))


@pytest.mark.parametrize("what", ["rows", "set"])
def test_what_comes_of_every_try_is_no_progress(place: Any, what: str) -> None:
    class Stubborn(Downloader):
        tries = 0

        @source("t")
        def t(self) -> Any:
            Stubborn.tries += 1
            if what == "rows":
                yield {"n": 1}
                context().checkpoint("x").set("always the same")
            else:
                context().checkpoint("x").set(Stubborn.tries)
            raise RetryableError("never")

    with pytest.raises(RetryableError, match="never"):
        place.run(Stubborn)
    assert Stubborn.tries < 17


def test_pauses_grow_are_random_and_heed_what_the_source_was_told(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.core.ids.SystemIds.jitter", lambda self: 1.0)

    class Told(Downloader):
        @source("t")
        def t(self) -> Any:
            raise RetryableError("slower, please", retry_after=100)
            yield

    with pytest.raises(RetryableError):
        place.run(Told)
    assert waits == [100.5, 101, 102, 104, 108, 116, 120]
    waits.clear()
    with pytest.raises(RetryableError, match="slower"):
        place.run(Told, execution_timeout=60)
    assert waits == [], "there is no time for it, so why wait"


def test_a_sink_that_has_rows_of_the_open_unit_makes_it_an_error(place: Any) -> None:
    taken: list[int] = []

    class Both(Downloader):
        fails = [1]

        @source("t")
        def t(self) -> Any:
            done = context().checkpoint("n")
            for n in range(done.get(0), 3):
                yield [{"n": n, "i": i} for i in range(12_000)]
                if n in self.fails:
                    self.fails.remove(n)
                    raise RetryableError("gone")
                done.set(n + 1)

        @sink("t", streaming=True)
        def take(self, stream: Stream) -> None:
            taken.extend(row["n"] for row in stream)

    with pytest.raises(FatalError, match="t: gone. The source cannot be called again: a custom sink has rows") as caught:
        place.run(Both, commit_bytes="1")
    assert "checkpoint" in (caught.value.hint or "")
    assert place.checkpoint("n") in (None, 1)
    place.run(Both)
    assert sorted({r["n"] for r in place.rows("t")}) == [0, 1, 2]
    assert len(place.rows("t")) == 36_000


def test_a_sink_that_has_whole_units_only_does_not_matter(place: Any) -> None:
    taken: list[int] = []

    class Taking(Flaky):
        @sink("t", streaming=True)
        def take(self, stream: Stream) -> None:
            taken.extend(row["n"] for row in stream)

    place.run(flaky(Taking, n3=1, n6=2), commit_bytes="1")
    assert taken == numbers(place) == list(range(10))


def test_a_sink_that_raises_it_is_not_tried_again(place: Any) -> None:
    class Failing(Flaky):
        @sink("t")
        def take(self, stream: Stream) -> None:
            list(stream)
            raise RetryableError("the sink's own")

    with pytest.raises(RetryableError, match="the sink's own"):
        place.run(flaky(Failing))
    assert waits == []


def test_what_was_acknowledged_is_told_before_it_is_called_again(place: Any) -> None:
    queue = ["a", "b", "c"]

    class Messages(Downloader):
        fails = [2]

        @source("t")
        def t(self) -> Any:
            for i, message in enumerate(list(queue)):
                if i in self.fails:
                    self.fails.remove(i)
                    raise RetryableError("the broker is away")
                yield {"n": message}
                context().ack(message)

        @on_ack
        def done(self, tokens: list[str]) -> None:
            for token in tokens:
                queue.remove(token)

    place.run(Messages)
    assert numbers(place) == ["a", "b", "c"]
    assert queue == []


def test_a_connection_that_was_tried_often_enough_is_not_tried_again(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.engine.limits.StopSignal.wait", lambda self, seconds: False)
    opened = []

    class Away(Connection):
        def open(self) -> None:
            opened.append(1)
            raise RetryableError("away")

    class Using(Downloader):
        connection_cls = Away

        @source("t")
        def t(self) -> Any:
            yield self.cnxn

    with pytest.raises(RetryableError, match="away"):
        place.run(Using)
    assert len(opened) == 4
    assert waits == []


@pytest.mark.parametrize("patient", [False, True])
def test_the_deadline_ends_it(place: Any, patient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.engine.again.Again._wait", lambda self, seconds: time.sleep(0.01))
    monkeypatch.setattr("anchovies.core.ids.SystemIds.jitter", lambda self: 0.0)
    tries = []

    class Held(Downloader):
        @source("t")
        def t(self) -> Any:
            tries.append(1)
            raise RetryableError("held by another", patient=patient)
            yield

    with pytest.raises((AnchovyExecutionTimeout, RetryableError)):
        place.run(Held, execution_timeout=0.5 if patient else 30)
    assert (len(tries) > 8) == patient


def test_a_stop_ends_the_pause(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    class Far(Downloader):
        @source("t")
        def t(self) -> Any:
            raise RetryableError("in an hour", retry_after=3600)
            yield

    def listen(event: Event) -> None:
        if event.kind == "warning" and "is called again" in event.data["message"]:
            run.stop.set(stopped_by(15, "SIGTERM"))

    given = {"id": "a", "user": "tester", "datastore": place.url}
    run = SessionRun(Far, resolve(given, {}, Config()), Config(), {}, listen, place.store)
    run.work()
    assert isinstance(run.error, Stopped)


class Splits(Downloader):
    """Four splits of three rows; `sets`: each sets a checkpoint at its end. The third breaks off once, after two rows."""

    sets = True
    left = 0

    @source("t", splits=[0, 1, 2, 3])
    def t(self, split: int) -> Any:
        done = context().checkpoint(f"split {split}")
        for n in range(done.get(0), 3):
            if split == 2 and n == 2 and self.left:
                type(self).left -= 1
                raise RetryableError("gone")
            yield {"split": split, "n": n}
        if self.sets:
            done.set(3)


def test_a_split_is_called_again_alone(place: Any) -> None:
    place.run(type("Splits", (Splits,), {"left": 2}))
    assert [(r["split"], r["n"]) for r in place.rows("t")] == [(s, n) for s in range(4) for n in range(3)]
    assert len(waits) == 2


def test_a_split_whose_unit_an_earlier_one_has_begun_is_not_called_again(place: Any) -> None:
    with pytest.raises(RetryableError, match="gone"):
        place.run(type("Splits", (Splits,), {"left": 1, "sets": False}))
    assert waits == []
    assert place.rows("t") == []


def test_rows_that_are_dropped_do_not_count_towards_the_limits_of_a_batch(place: Any) -> None:
    class Limited(Flaky):
        fails = {3: 3}

        @source("t")
        def t(self) -> Any:
            yield [{"n": n} for n in range(25_000)]
            self.broken(3)

    assert place.run(Limited, batch_rows=30_000, batch_bytes="300 KiB").rows == 25_000
    assert numbers(place) == list(range(25_000))
