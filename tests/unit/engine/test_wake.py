"""What ends a pause: the next slot of an upstream, a stop, the time. And what waiting asks of a bucket."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import anchovies
from anchovies.core.config import Config
from anchovies.core.errors import StoreUnavailable
from anchovies.core.settings import resolve
from anchovies.engine import wake
from anchovies.engine.events import Event, silent
from anchovies.engine.inotify import open_inotify
from anchovies.engine.limits import stopped_by
from anchovies.engine.session import SessionRun
from anchovies.engine.wake import Waker
from anchovies.sdk import Downloader, Uploader, context, sink, source
from anchovies.store.keys import Home
from anchovies.store.open import open_store
from anchovies.testing.counting import CountingStore

LONG = 30.0


class Rows(Downloader):
    todo = 1

    @source("t")
    def t(self) -> Any:
        cursor = context().checkpoint("n")
        for n in range(cursor.get(0), self.todo):
            yield {"n": n}
            cursor.set(n + 1)


class Load(Uploader):
    got: list[int]

    @sink()
    def take(self, stream: Any) -> None:
        self.got.extend(row["n"] for row in stream)


@pytest.fixture(params=["folder", "folder without events", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A datastore; where there are file events, no other look is taken in time."""
    if request.param == "folder":
        monkeypatch.setattr(wake, "EVENTS", (2 * LONG, 2 * LONG))
    if request.param == "folder without events":
        monkeypatch.setattr("anchovies.engine.inotify.open_inotify", lambda: None)
    return f"memory://wake-{tmp_path}" if request.param == "memory" else str(tmp_path / "home")


@pytest.fixture
def waker_of() -> Iterator[Callable[..., Waker]]:
    made: list[Waker] = []

    def make(url: str, *ids: str, store: Any = None) -> Waker:
        given = {"id": "down", "user": "me", "datastore": url, "service": True}
        run = SessionRun(Rows, resolve(given, {}, Config()), Config(), {}, silent, store or open_store(url))
        made.append(Waker(run.prepare()[0], {f"me/{i}": Home("me", i) for i in ids}))
        return made[-1]

    yield make
    for waker in made:
        waker.close()


def commit(url: str, id: str, rows: int) -> int:
    """Run the downloader until it has so many rows; how far its log is."""
    return anchovies.run(type("Rows", (Rows,), {"todo": rows}), id=id, user="me", datastore=url).slot


def later(do: Callable[[], Any], seconds: float = 0.2) -> threading.Timer:
    timer = threading.Timer(seconds, do)
    timer.start()
    return timer


def test_a_commit_ends_the_pause(url: str, waker_of: Any) -> None:
    commit(url, "a", 1)
    commit(url, "b", 1)
    waker = waker_of(url, "a", "b")
    waker.begin()
    for turn in (2, 3):
        began = time.monotonic()
        timer = later(lambda turn=turn: commit(url, "b", turn))  # type: ignore[misc]
        assert waker.wait(LONG) == {"me/b"}
        assert time.monotonic() - began < LONG / 2
        timer.join()
        waker.begin()


def test_what_came_while_a_batch_ran_ends_the_pause_at_once(url: str, waker_of: Any) -> None:
    slot = commit(url, "a", 1)
    waker = waker_of(url, "a")
    waker.note({"me/a": slot, "me/other": 7})
    commit(url, "a", 2)
    assert waker.wait(LONG) == {"me/a"}
    assert waker.wait(0) == set(), "where there is no pause, nothing is asked"


def test_the_first_commit_of_all(url: str, waker_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "EVENTS", (0.1, 0.1))  # a folder that is not there has no events
    waker = waker_of(url, "a")
    waker.begin()
    timer = later(lambda: commit(url, "a", 1))
    assert waker.wait(LONG) == {"me/a"}
    timer.join()


def test_a_new_page_of_the_log(tmp_path: Path, waker_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "EVENTS", (2 * LONG, 2 * LONG))
    url = str(tmp_path / "home")
    commit(url, "a", 1)
    waker, store, home = waker_of(url, "a"), open_store(url), Home("me", "a")
    for slot in (1023, 1024, 1025, 2047, 2048):
        waker.note({"me/a": slot - 1})
        timer = later(lambda slot=slot: store.create(home.slot(slot), b"{}"))  # type: ignore[misc]
        assert waker.wait(LONG) == {"me/a"}
        timer.join()
    assert len(waker._watches) == 1


def test_a_stop_ends_it_at_once(url: str, waker_of: Any) -> None:
    commit(url, "a", 1)
    waker = waker_of(url, "a")
    waker.begin()
    timer = later(lambda: waker._stop.set(stopped_by(15, "SIGTERM")))
    began = time.monotonic()
    assert waker.wait(LONG) == set()
    assert waker.wait(LONG) == set()
    assert time.monotonic() - began < LONG / 2
    timer.join()


def test_without_an_upstream_only_the_interval_does(tmp_path: Path, waker_of: Any) -> None:
    waker = waker_of(str(tmp_path / "home"))
    waker.begin()
    assert waker.wait(0.01) == set()
    assert waker._events is None


def test_what_waiting_asks_of_a_bucket(tmp_path: Path, waker_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "BUCKET", (0.01, 0.02))
    url = f"memory://bucket-{tmp_path}"
    slots = {f"me/{name}": commit(url, name, 1) for name in ("a", "b")}
    store = CountingStore(open_store(url))
    store.url = "s3://bucket"
    waker = waker_of(url, "a", "b", store=store)
    waker.note(slots)
    store.clear()
    assert waker.wait(0.5) == set()
    looks = store.requests / 2
    assert {verb for verb, _ in store.asked} == {"get"}
    assert 5 <= looks <= 0.5 / 0.01
    monkeypatch.setattr(store, "get", lambda key: (_ for _ in ()).throw(StoreUnavailable("away")))
    assert waker.wait(0.05) == set(), "a bucket that is away is no reason to end"


def test_looks_become_seldom_and_quick_again(tmp_path: Path, waker_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://bucket-{tmp_path}"
    slot = commit(url, "a", 1)
    store = CountingStore(open_store(url))
    store.url = "s3://bucket"
    waker = waker_of(url, "a", store=store)
    waker.note({"me/a": slot})
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 2))
        if len(slept) == 12:
            commit(url, "a", 2)

    monkeypatch.setattr(waker, "_sleep", sleep)
    assert waker.wait(3600) == {"me/a"}
    assert slept == [1.0, 1.2, 1.44, 1.73, 2.07, 2.49, 2.99, 3.58, 4.3, 5.0, 5.0, 5.0]
    assert waker._pause == 1.0


def test_no_descriptor_stays(tmp_path: Path, waker_of: Any) -> None:
    url = str(tmp_path / "home")
    commit(url, "a", 1)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        waker = waker_of(url, "a")
        waker.begin()
        waker.wait(0.001)
        waker.close()
        waker.close = lambda: None
    assert len(os.listdir("/proc/self/fd")) == before


def test_where_no_events_are_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def __init__(self, *args: object, **more: object) -> None: ...

    class Full(Missing):
        def inotify_init1(self, flags: int) -> int:
            return -1

    for libc in (Missing, Full):
        monkeypatch.setattr("ctypes.CDLL", libc)
        assert open_inotify() is None


def test_an_uploader_is_woken_although_the_heads_say_nothing_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A downloader in the middle of a long batch has written slots, and no head."""
    url = str(tmp_path / "home")
    commit(url, "a", 1)
    commit(url, "b", 1)
    load = type("Load", (Load,), {"got": []})
    given = {"id": "up", "user": "me", "datastore": url, "upstream": ["a", "b"], "service": True, "interval": 600}
    idle = threading.Event()

    def listen(event: Event) -> None:
        if event.kind == "batch_ended":
            idle.set()

    run = SessionRun(load, resolve(given, {}, Config()), Config(), {}, listen, open_store(url))
    work = threading.Thread(target=run.work)
    work.start()
    monkeypatch.setattr("anchovies.store.heads.write", lambda *args: None)
    try:
        assert idle.wait(LONG)
        for turn in range(2, 6):
            commit(url, "b", turn)
            end = time.monotonic() + LONG
            while len(load.got) <= turn and time.monotonic() < end:
                time.sleep(0.01)
            assert len(load.got) == turn + 1
        time.sleep(0.3)  # the batch of the last of them ends
        batches = run.result.batches
        assert batches <= 1 + 2 * 4, "it does not turn round in vain until the heads are not asked"
        time.sleep(0.3)
        assert run.result.batches == batches, "and then it rests"
    finally:
        run.stop.set(stopped_by(15, "SIGTERM"))
        work.join(LONG)
    assert run.result.exit_code == 0


def test_a_failure_is_not_hastened_by_upstreams(tmp_path: Path) -> None:
    url = f"memory://hasty-{tmp_path}"
    commit(url, "a", 1)

    class Failing(Load):
        @sink()
        def take(self, stream: Any) -> None:
            commit(url, "a", len(self.got) + 2)
            self.got.append(1)
            raise RuntimeError("the target is down")

    failing = type("Failing", (Failing,), {"got": []})
    given = {"id": "up", "user": "me", "datastore": url, "upstream": ["a"], "service": True, "interval": 600}
    run = SessionRun(failing, resolve(given, {}, Config()), Config(), {}, silent, open_store(url))
    run.ids.jitter = lambda: 1.0  # type: ignore[method-assign]
    timer = later(lambda: run.stop.set(stopped_by(15, "SIGTERM")), 0.5)
    run.work()
    timer.join()
    assert run.result.batches == 1
