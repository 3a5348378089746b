"""A service: batches until it is stopped, backing off after failures, quiet when there is nothing, no growth."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import pytest

from anchovies.core.config import Config
from anchovies.core.errors import AnchovyExecutionTimeout, ConfigError, Stopped
from anchovies.core.ids import SystemIds
from anchovies.core.settings import resolve
from anchovies.engine.events import Event, silent
from anchovies.engine.limits import StopSignal, stopped_by
from anchovies.engine.loop import Loop
from anchovies.engine.session import SessionRun
from anchovies.engine.wake import Waker
from anchovies.engine.watch import Watch
from anchovies.sdk import Connection, Downloader, Tbl, batch, context, on_task, source


def service(
    place: Any,
    operator: type,
    stop_after: int,
    listener: Any = silent,
    prepare: Any = lambda run: None,
    **settings: Any,
) -> SessionRun:
    """Run a service in this thread until `stop_after` batches have ended; then it is told to stop, as SIGTERM does."""
    given = {"id": "a", "user": "tester", "datastore": place.url, "service": True, "interval": 0, **settings}
    ended = 0

    def listen(event: Event) -> None:
        nonlocal ended
        listener(event)
        if event.kind == "batch_ended":
            ended += 1
            if ended == stop_after:
                run.stop.set(stopped_by(15, "SIGTERM"))

    run = SessionRun(operator, resolve(given, {}, Config()), Config(), {}, listen, place.store)
    prepare(run)
    run.work()
    return run


class Counting(Downloader):
    @source("t")
    def t(self) -> Any:
        cursor = context().checkpoint("n")
        n = cursor.get(0)
        if n < 3:
            yield {"n": n, "batch": batch().id}
            cursor.set(n + 1)


def test_batches_until_it_is_stopped_and_that_is_well(place: Any) -> None:
    run = service(place, Counting, 5)
    result = run.result
    assert (result.status, result.exit_code, result.batches, result.commits) == ("ok", 0, 5, 3)
    assert [(t.tbl, t.rows, t.kept) for t in result.tables] == [("t", 3, 3)]
    assert place.rows("t") == [{"n": n, "batch": n + 1} for n in range(3)]


def test_quiet_batches_of_a_busy_service_write_nothing(place: Any) -> None:
    service(place, Counting, 8)
    assert len(place.named("$task_logs")) == 3 + 1, "three batches that committed, and SHUTDOWN"
    assert place.store.get("tester/a/$checkpoints/n.json").count(b'"value": 3')


def test_a_stop_in_the_middle_of_a_batch_commits_whole_units_and_is_well(place: Any) -> None:
    class Stopping(Downloader):
        @source("t")
        def t(self) -> Any:
            for n in range(100):
                yield [{"n": n}]
                context().checkpoint("n").set(n)
                if n == 10:
                    run.stop.set(stopped_by(15, "SIGTERM"))
                    batch().check()

    given = {"id": "a", "user": "tester", "datastore": place.url, "service": True}
    run = SessionRun(Stopping, resolve(given, {}, Config()), Config(), {}, silent, place.store)
    run.work()
    assert (run.result.status, run.result.exit_code) == ("ok", 0)
    assert isinstance(run.error, Stopped)
    assert [r["n"] for r in place.rows("t")] == list(range(11))
    assert place.checkpoint("n") == 10


@pytest.mark.parametrize("where", ["source", "xopen"])
def test_failures_back_off_and_go_on(place: Any, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ceilings: list[float] = []
    monkeypatch.setattr(SystemIds, "jitter", lambda self: 1.0)
    monkeypatch.setattr(Waker, "wait", lambda self, seconds: ceilings.append(seconds) or set())
    monkeypatch.setattr(StopSignal, "wait", lambda self, seconds: ceilings.append(seconds) or self.is_set())
    said: list[str] = []

    def hear(event: Event) -> None:
        if event.kind == "warning":
            said.append(event.data["message"])

    class Failing(Downloader):
        @on_task("xopen")
        def on_xopen(self) -> None:
            if where == "xopen" and batch().id < 6:
                raise RuntimeError("not yet")

        @source("t")
        def t(self) -> Any:
            if where == "source" and batch().id < 6:
                raise RuntimeError("not yet")
            yield {"n": batch().id}
            context().checkpoint("n").set(1)

    run = service(place, Failing, 7, interval=10, listener=hear)
    assert (run.result.exit_code, run.result.batches) == (0, 7)
    assert ceilings == [20, 40, 80, 100, 100, 10]  # the stop came before a seventh
    assert [("failed" in m, "pauses of up to 100s" in m, "well, after 5 batches" in m) for m in said] == [
        (True, True, False),
        (True, False, True),
    ], "once, however often"
    assert [r["n"] for r in place.rows("t")] == [6, 7]


@pytest.mark.parametrize(("failures", "interval", "ceiling"), [(1, 60, 120), (3, 60, 480), (9, 60, 600), (1, 0, 2), (50, 0, 10)])
def test_a_backoff_is_full_jitter(place: Any, failures: int, interval: float, ceiling: float) -> None:
    given = {"id": "a", "user": "tester", "datastore": place.url, "service": True, "interval": interval}
    services, _ = SessionRun(Counting, resolve(given, {}, Config()), Config(), {}, silent, place.store).prepare()
    loop = Loop(services, Config(), None, lambda settings, config: None)
    loop.failures = failures
    pauses = [loop.backoff() for _ in range(200)]
    loop.close()
    assert 0 <= min(pauses) < ceiling / 10
    assert ceiling * 0.9 < max(pauses) <= ceiling


def test_a_configuration_that_cannot_work_ends_a_service(place: Any) -> None:
    class Nothing(Downloader):
        pass

    run = service(place, Nothing, 3)
    assert run.result.exit_code == 2
    assert isinstance(run.error, ConfigError)
    assert run.result.batches == 1


def test_no_time_is_counted_between_batches(place: Any) -> None:
    armed: list[float | None] = []

    service(place, Counting, 3, execution_timeout=1000, prepare=lambda run: setattr(run, "on_arm", armed.append))
    assert [a is None for a in armed] == [False, True] * 3


def test_a_timeout_ends_a_service(place: Any) -> None:
    class Slow(Downloader):
        @source("t")
        def t(self) -> Any:
            run.deadline.at = 0.0
            batch().check()
            yield {}

    given = {"id": "a", "user": "tester", "datastore": place.url, "service": True, "execution_timeout": 1000}
    run = SessionRun(Slow, resolve(given, {}, Config()), Config(), {}, silent, place.store)
    run.work()
    assert (run.result.status, run.result.exit_code) == ("timeout", 3)
    assert isinstance(run.error, AnchovyExecutionTimeout)


def test_connections_close_after_each_batch(place: Any) -> None:
    said: list[str] = []

    class Door(Connection):
        def open(self) -> None:
            said.append("open")

        def close(self) -> None:
            said.append("close")

    class Using(Downloader):
        connection_cls = Door

        @source("t")
        def t(self) -> Any:
            assert self.cnxn is self.cnxn
            return iter(())

    service(place, Using, 3)
    assert said == ["open", "close"] * 3


def test_other_threads_see_the_batch_that_runs(place: Any) -> None:
    seen: list[int] = []

    class Threaded(Downloader):
        @source("t")
        def t(self) -> Any:
            other = threading.Thread(target=lambda: seen.append(batch().id))
            other.start()
            other.join()
            return iter(())

    service(place, Threaded, 3)
    assert seen == [1, 2, 3]


def test_a_hundred_batches_take_no_more_memory_than_twenty(place: Any) -> None:
    sizes: list[int] = []

    class Always(Downloader):
        @source("t")
        def t(self) -> Any:
            return iter(())

    def measure(event: Event) -> None:
        if event.kind == "batch_ended":
            sizes.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        service(place, Always, 100, listener=measure)
    finally:
        tracemalloc.stop()
    assert sizes[99] - sizes[19] < 60_000, sizes[::20]


@pytest.mark.parametrize(("ttl", "asked"), [("1h", [1, 4]), (0, [1, 2, 3, 4, 5])])
def test_what_was_discovered_is_used_again_until_a_batch_fails(place: Any, ttl: Any, asked: list[int]) -> None:
    seen: list[int] = []

    class Found(Downloader):
        def discover_tbls(self) -> Any:
            seen.append(batch().id)
            return [Tbl("t")]

        @source("t")
        def t(self) -> Any:
            if batch().id == 3:
                raise RuntimeError("it is gone")
            return iter(())

    service(place, Found, 5, cache_ttl=ttl, prepare=lambda run: setattr(run.ids, "jitter", lambda: 0.0))
    assert seen == asked


def test_a_stop_that_the_work_does_not_see_abandons_it_and_that_is_well(place: Any) -> None:
    """Nothing of the batch becomes visible, what was committed before stays."""
    release, inside = threading.Event(), threading.Event()

    class Deaf(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": batch().id}
            context().checkpoint("n").set(batch().id)
            if batch().id == 2:
                inside.set()
                release.wait(30)

    given = {"id": "a", "user": "tester", "datastore": place.url, "service": True, "interval": 0, "grace": 0.5}
    run = SessionRun(Deaf, resolve(given, {}, Config()), Config(), {}, silent, place.store)
    run.stop.nudges.give = lambda: False  # type: ignore[method-assign]
    watch = Watch(run)
    timer = threading.Thread(target=lambda: (inside.wait(30), run.stop.set(stopped_by(15, "SIGTERM"))))
    timer.start()
    result = watch.run(signals=False)
    assert (result.status, result.exit_code, watch.hard) == ("ok", 0, True)
    assert "abandoned" in result.warnings[-1]
    release.set()
    assert run.done.wait(30)
    timer.join()
    assert [r["n"] for r in place.rows("t")] == [1]
