"""What runs ask of the datastore, counted: an idle run at most eight requests, a commit two; and that no hint loses a row."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

import anchovies
from anchovies.core.config import Config
from anchovies.core.settings import resolve
from anchovies.engine import polls
from anchovies.engine.events import silent
from anchovies.engine.limits import stopped_by
from anchovies.engine.polls import FULL_EVERY
from anchovies.engine.session import SessionRun
from anchovies.sdk import Downloader, Uploader, context, on_task, sink, source
from anchovies.store import heads
from anchovies.store.base import Entry
from anchovies.store.keys import Home
from anchovies.store.lease import read as read_lease
from anchovies.testing.counting import CountingStore

OWN_IDLE = {"get lease.json": 1, "put lease.json": 2, "get _format.json": 1, "list snap/": 1, "get snap/": 1, "get log/": 1}


class Rows(Downloader):
    """One row for each of `todo` that was not read yet, a commit each if asked for."""

    todo = 1

    @source("t")
    def t(self) -> Any:
        cursor = context().checkpoint("n")
        for n in range(cursor.get(0), self.todo):
            yield pa.table({"n": [n]})  # Arrow data are taken one by one
            cursor.set(n + 1)


class Load(Uploader):
    got: list[int]
    fails = False

    @sink()
    def take(self, stream: Any) -> None:
        if self.fails:
            raise RuntimeError("the target is down")
        self.got.extend(row["n"] for row in stream)


@pytest.fixture
def rows() -> type[Rows]:
    return type("Rows", (Rows,), {})


@pytest.fixture
def load() -> type[Load]:
    return type("Load", (Load,), {"got": []})


@pytest.fixture
def counted(place: Any, swap_store: Any) -> CountingStore:
    """The place's datastore as a bucket that counts."""
    found: CountingStore = swap_store(place, CountingStore)
    return found


@pytest.fixture
def up(place: Any, load: type[Load], counted: CountingStore) -> Callable[..., Any]:
    """A run of the uploader; what it asked is counted from its start."""

    def run(upstream: list[str], operator: type = load, **more: Any) -> Any:
        counted.clear()
        return place.run(operator, id="up", upstream=upstream, **more)

    return run


def test_an_idle_download(place: Any, rows: type[Rows], counted: CountingStore) -> None:
    place.run(rows)
    for _ in range(3):
        counted.clear()
        assert place.run(rows).commits == 0
        assert counted.by_kind() == OWN_IDLE
        assert (counted.requests, counted.writes) == (7, 2)


def test_an_idle_upload(place: Any, rows: type[Rows], up: Any, counted: CountingStore) -> None:
    place.run(rows)
    up(["a"])
    for _ in range(2 * FULL_EVERY):
        result = up(["a"])
        assert (result.commits, [t.tbl for t in result.tables]) == (0, ["t"])
        assert counted.by_kind() == {**OWN_IDLE, "get log/": 2}
        assert (counted.requests, counted.writes) == (8, 2)


def test_an_idle_upload_of_many(place: Any, rows: type[Rows], up: Any, load: type[Load], counted: CountingStore) -> None:
    many = [f"a{n:02d}" for n in range(30)]
    for name in many:
        place.run(rows, id=name)
    up(many)
    assert len(load.got) == 30
    up(many)
    assert counted.by_kind()["get log/"] == 31, "their heads are not known yet"
    asked = []
    for _ in range(2 * FULL_EVERY):
        assert up(many).commits == 0
        assert counted.writes == 2
        asked.append(counted.requests)
    assert sorted(asked) == [8] * (2 * FULL_EVERY - 2) + [7 + 30] * 2, "one listing; at each tenth time each is asked itself"
    moved = type("More", (Rows,), {"todo": 2})
    place.run(moved, id="a07")
    assert up(many).commits == 1
    assert load.got[30:] == [1]
    read = {key.split("/")[1] for verb, key in counted.asked if verb == "get" and key.startswith("tester/a")}
    assert read == {"a07"}, "only what moved is read"


@pytest.mark.parametrize("commits", [1, 5])
def test_a_commit_is_two_writes(place: Any, rows: type[Rows], counted: CountingStore, commits: int) -> None:
    """And what a session that commits costs beside them."""
    place.run(rows)
    rows.todo = 1 + commits
    counted.clear()
    place.run(rows, commit_bytes=1 if commits > 1 else 1 << 30)
    asked = counted.by_kind()
    assert asked.pop("put data/") == commits
    assert asked.pop("create log/") == commits + (commits > 1), "several: one more says that the task is complete"
    around = {"create snap/": 1, "put $heads/": 1, "put $checkpoints/": 1, "put $task_logs/": 1, "put $results/": 1}
    assert asked == {**OWN_IDLE, **around, "list snap/": 2} | ({"delete snap/": 1} if "delete snap/" in asked else {})


def test_a_start_with_a_tail(place: Any, rows: type[Rows], counted: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that died left no snapshot: the next one reads what it had committed, record by record."""
    place.run(rows)
    rows.todo = 6
    with monkeypatch.context() as patch:
        patch.setattr("anchovies.store.log.Log.finish", lambda self: True)
        place.run(rows, commit_bytes=1)
    tail = 6
    counted.clear()
    place.run(rows)
    assert counted.by_kind() == {**OWN_IDLE, "get log/": tail + 1}


# what must not be lost


class Dropped(CountingStore):
    """Heads are not written: so dies a writer between its commit and its last acts."""

    def put(self, key: str, data: bytes) -> None:
        if "/$heads/" not in key:
            super().put(key, data)


def test_a_writer_that_died_before_its_head_is_found_all_the_same(
    place: Any, rows: type[Rows], up: Any, load: type[Load], swap_store: Any, counted: CountingStore
) -> None:
    names = ["a", "b"]
    for name in names:
        place.run(rows, id=name)
    for _ in range(4):
        up(names)
    rows.todo = 3
    swap_store(place, Dropped)
    place.run(rows, id="b")
    swap_store(place, lambda _: counted)
    runs = 0
    while load.got != [0, 0, 1, 2]:
        up(names)
        runs += 1
        assert runs <= FULL_EVERY
    assert runs > 1, "the hint was relied on: the test says something"


def test_a_head_that_is_missing_or_without_a_time_is_no_hint(
    place: Any, rows: type[Rows], up: Any, load: type[Load], counted: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b"]
    for name in names:
        place.run(rows, id=name)
    for _ in range(3):
        up(names)
    place.store.delete(Home("tester", "b").head)
    up(names)
    assert counted.by_kind()["get log/"] == 2
    real = CountingStore.list

    def timeless(self: CountingStore, prefix: str, start_after: str = "") -> Iterator[Entry]:
        return (Entry(e.key, e.size, 0.0) for e in real(self, prefix, start_after))

    monkeypatch.setattr(CountingStore, "list", timeless)
    up(names)
    assert counted.by_kind()["get log/"] == 3


def test_heads_of_one_second_differ(place: Any) -> None:
    seen = set()
    for slot in range(1, 50):
        heads.write(place.store, Home("u", "a"), slot)
        (entry,) = place.store.list("u/$heads/")
        seen.add(entry.size)
    assert len(seen) == 49
    homes = [Home("u", "a"), Home("u", "b")]
    assert list(heads.tags(place.store, homes)) == ["u/a"]
    heads.write(place.store, Home("u", "zz"), 1)
    heads.write(place.store, Home("u", "b"), 1)
    assert sorted(heads.tags(place.store, homes)) == ["u/a", "u/b"]


def test_upstreams_of_several_users(place: Any, rows: type[Rows], up: Any, load: type[Load], counted: CountingStore) -> None:
    for user, name in [("tester", "a"), ("one", "a"), ("two", "a"), ("two", "b")]:
        anchovies.run(rows, id=name, user=user, datastore=place.url)
    names = ["a", "one/a", "two/a", "two/b"]
    for _ in range(3):
        up(names)
    assert counted.by_kind() == {**OWN_IDLE, "get log/": 3, "list $heads/": 1}
    assert len(load.got) == 4


@pytest.mark.parametrize(
    "change", ["enabled", "config", "operator", "own log", "lease", "hook", "full refresh", "upstream", "version"]
)
def test_when_something_else_may_be_due_everything_is_looked_at(
    place: Any, rows: type[Rows], up: Any, load: type[Load], counted: CountingStore, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    place.run(rows)
    for _ in range(3):
        up(["a"])
    assert counted.requests == 8
    more: dict[str, Any] = {}
    if change == "enabled":
        more = {"enabled": ["t"]}
    elif change == "config":
        more = {"tbls": {"t": {"unique_by": "n"}}}
    elif change == "operator":
        more = {"operator": type("Other", (load,), {"got": []})}
    elif change == "own log":
        place.run(rows, id="b")
        up(["a", "b"])
        up(["a", "b"])
    elif change == "lease":
        place.store.put(Home("tester", "up").lease, b"rubbish")
    elif change == "hook":
        more = {"operator": type("Load", (load,), {"look": on_task("xclose")(lambda self: None), "got": []})}
    elif change == "full refresh":
        more = {"full_refresh": True}
    elif change == "upstream":
        more = {"upstream_may_be_missing": True}
    elif change == "version":
        monkeypatch.setattr(polls, "__version__", "newer")
    names = ["a", "later"] if change == "upstream" else ["a"]
    up(names, **more)
    assert any("/a/$log/snap" in key for _, key in counted.asked), "the upstream's state was read"
    assert len(load.got) == (2 if change in ("full refresh", "own log") else 1)


def test_what_failed_is_looked_at_again(place: Any, rows: type[Rows], up: Any, load: type[Load]) -> None:
    place.run(rows, id="a")
    place.run(rows, id="b")
    for _ in range(3):
        up(["a", "b"])
    rows.todo = 2
    place.run(rows, id="b")
    load.fails = True
    for _ in range(2):
        with pytest.raises(RuntimeError):
            up(["a", "b"])
    assert sorted(read_lease(place.store, Home("tester", "up")).remembered.polled.logs) == ["tester/a"]
    load.fails = False
    up(["a", "b"])
    assert load.got == [0, 0, 1]


def test_a_service_polls_too(place: Any, rows: type[Rows], load: type[Load], counted: CountingStore) -> None:
    place.run(rows)
    given = {"id": "up", "user": "tester", "datastore": place.url, "upstream": ["a"], "service": True, "interval": 0}
    run = SessionRun(load, resolve(given, {}, Config()), Config(), {}, silent, counted)
    work = threading.Thread(target=run.work)
    work.start()
    end = time.monotonic() + 30
    for todo in range(1, 5):
        rows.todo = todo
        place.run(rows)
        while len(load.got) < todo and time.monotonic() < end:
            time.sleep(0.01)
    run.stop.set(stopped_by(15, "SIGTERM"))
    work.join(30)
    assert load.got == [0, 1, 2, 3]


def test_a_service_hints_after_each_batch(place: Any, rows: type[Rows]) -> None:
    given = {"id": "a", "user": "tester", "datastore": place.url, "service": True, "interval": 0.01}
    run = SessionRun(rows, resolve(given, {}, Config()), Config(), {}, silent, place.store)
    work = threading.Thread(target=run.work)
    work.start()
    end, head = time.monotonic() + 30, Home("tester", "a").head
    for todo in (1, 2):
        rows.todo = todo
        while not place.named(head) or b'{"slot":%d}' % todo not in place.store.get(head):
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.01)
    run.stop.set(stopped_by(15, "SIGTERM"))
    work.join(30)


def test_a_service_hints_in_the_middle_of_a_long_batch_but_not_at_each_commit(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anchovies.engine.copies.HINT_EVERY", 0.2)
    hints: list[int] = []
    real = heads.write

    def note(store: Any, home: Home, slot: int) -> None:
        hints.append(slot)
        real(store, home, slot)

    monkeypatch.setattr(heads, "write", note)

    class Long(Downloader):
        @source("t")
        def t(self) -> Any:
            for n in range(30):
                yield pa.table({"n": [n]})
                context().checkpoint("n").set(n)
                time.sleep(0.03)
            run.stop.set(stopped_by(15, "SIGTERM"))

    given = {"id": "a", "user": "tester", "datastore": place.url, "service": True, "commit_bytes": 1}
    run = SessionRun(Long, resolve(given, {}, Config()), Config(), {}, silent, place.store)
    run.work()
    assert hints == sorted(hints)
    assert 2 <= len([slot for slot in hints if slot < 30]) <= 10, hints
