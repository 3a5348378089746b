"""The lease keeps polite processes apart, and never stands in the way of a datastore whose holder died."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from anchovies.core.errors import AlreadyRunning, FatalError, Stopped, StoreUnavailable
from anchovies.core.ids import SystemIds
from anchovies.core.retry import Retry
from anchovies.store.keys import Home
from anchovies.store.lease import BEAT, QUIET_KEPT, TTL, Busy, Held, Lease, LeaseInfo, read
from anchovies.store.memory import MemoryStore
from anchovies.store.record import Writer
from anchovies.testing.faults import FaultyStore

New = Callable[..., Lease]


class NoLocks(MemoryStore):
    """A bucket: no operating system that knows who lives."""

    def try_lock(self, key: str) -> None:  # type: ignore[override]
        return None


@pytest.fixture
def bucket(clock: Any) -> NoLocks:
    return NoLocks(clock=clock)


@pytest.fixture
def new_lease(store: MemoryStore, clock: Any, home: Home) -> New:
    def make(session: str = "s", host: str = "here", on: Any = None) -> Lease:
        ids = SystemIds(1)
        who = Writer(host=host, pid=42, session=session, batch=1, version="0")
        return Lease(on or store, home, clock, ids, who, Retry(clock, ids, attempts=3))

    return make


def keys(store: Any) -> list[str]:
    return [e.key for e in store.list("")]


def test_an_idle_run_costs_one_read_and_two_writes(new_lease: New, store: MemoryStore, home: Home) -> None:
    faulty = FaultyStore(store)
    lease = new_lease(on=faulty)
    assert lease.acquire("skip") == Held(LeaseInfo())
    lease.release({"status": "ok"}, quiet=True)
    assert [verb for verb, _ in faulty.ops] == ["get", "put", "put"]
    assert keys(store) == [home.lease]


@pytest.mark.parametrize("where", ["store", "bucket"])
def test_a_second_start_finds_who_runs(new_lease: New, where: str, request: Any) -> None:
    on = request.getfixturevalue(where)
    first = new_lease("one", on=on)
    first.acquire("skip")
    busy = new_lease("two", host="there", on=on).acquire("skip")
    assert isinstance(busy, Busy) and (busy.info.session, busy.info.host, busy.info.pid) == ("one", "here", 42)
    assert "session one on here (pid 42) since 2023" in busy.text
    with pytest.raises(AlreadyRunning, match="session one"):
        new_lease("two", on=on).acquire("fail")
    first.release({}, quiet=False)
    assert isinstance(new_lease("two", on=on).acquire("skip"), Held)


def test_a_holder_that_died_here_is_followed_at_once(new_lease: New, store: MemoryStore, home: Home) -> None:
    dead = new_lease("dead")
    dead.acquire("skip")
    dead._lock.release()  # what the operating system does
    got = new_lease("next").acquire("skip")
    assert isinstance(got, Held) and got.last.session == "dead"
    assert read(store, home).session == "next"


def test_a_lock_without_a_lease_is_somebody_too(new_lease: New, store: MemoryStore, home: Home) -> None:
    store.try_lock(home.lock)
    busy = new_lease().acquire("skip")
    assert isinstance(busy, Busy) and "another process on this host" in busy.text


def test_a_lease_of_another_host_is_taken_over_after_its_time(new_lease: New, bucket: NoLocks, clock: Any, home: Home) -> None:
    first = new_lease("one", host="there", on=bucket)
    first.acquire("skip")
    clock.sleep(TTL - 1)
    assert isinstance(new_lease("two", on=bucket).acquire("skip"), Busy)
    clock.sleep(2)
    assert isinstance(new_lease("two", on=bucket).acquire("skip"), Held)
    assert keys(bucket) == [home.lease], "the probe is gone"
    assert not first.beat(), "the first one finds out"
    first.release({"status": "late"}, quiet=False)
    assert read(bucket, home).session == "two" and not read(bucket, home).free


def test_beats_keep_a_lease(new_lease: New, bucket: NoLocks, clock: Any, home: Home) -> None:
    lease = new_lease("one", host="there", on=bucket)
    assert not lease.beat()
    lease.acquire("skip")
    for _ in range(30):
        clock.sleep(BEAT / 2)
        assert lease.beat()
    assert read(bucket, home).beat == 15
    assert isinstance(new_lease("two", on=bucket).acquire("skip"), Busy)


def test_a_store_that_does_not_answer_stops_no_run(new_lease: New, store: MemoryStore, clock: Any) -> None:
    faulty = FaultyStore(store)
    lease = new_lease(on=faulty)
    lease.acquire("skip")
    faulty.down = True
    clock.sleep(BEAT)
    assert lease.beat()
    lease.release({}, quiet=True)
    faulty.down = False
    assert isinstance(new_lease().acquire("skip"), Held), "the lock was given back"


def test_waiting(new_lease: New, store: MemoryStore, clock: Any) -> None:
    first = new_lease("one")
    first.acquire("skip")
    checks = iter(range(4))

    def check() -> None:
        if next(checks) == 3:
            first.release({"rows": 5}, quiet=False)

    got = new_lease("two").acquire("wait", check=check)
    assert isinstance(got, Held) and got.last.result == {"rows": 5}
    assert 1 < clock.slept < 5


@pytest.mark.parametrize(("deadline", "least", "most"), [(None, 3590, 3610), (20.0, 15, 21)])
@pytest.mark.parametrize("where", ["store", "bucket"])
def test_waiting_in_vain(new_lease: New, clock: Any, where: str, request: Any, deadline: Any, least: int, most: int) -> None:
    on = request.getfixturevalue(where)
    first = new_lease("one", host="there", on=on)
    first.acquire("skip")
    began = clock.monotonic()
    with pytest.raises(AlreadyRunning, match="did not end in time"):
        new_lease("two", on=on).acquire("wait", deadline and began + deadline, check=first.beat)
    assert least < clock.monotonic() - began < most


def test_waiting_ends_when_we_are_told_to_stop(new_lease: New) -> None:
    new_lease("one").acquire("skip")

    def stop() -> None:
        raise Stopped("SIGTERM")

    with pytest.raises(Stopped):
        new_lease("two").acquire("wait", check=stop)


def test_a_lease_that_cannot_be_taken_gives_its_lock_back(new_lease: New, store: MemoryStore) -> None:
    class Full(FaultyStore):
        def put(self, key: str, data: bytes) -> None:
            raise FatalError("disk full", hint="free space")

        def try_lock(self, key: str) -> Any:
            return store.try_lock(key)

    with pytest.raises(FatalError):
        new_lease(on=Full(store)).acquire("skip")
    assert isinstance(new_lease().acquire("skip"), Held)
    with pytest.raises(StoreUnavailable):
        new_lease(on=FaultyStore(MemoryStore(), 1, "before", 99)).acquire("skip")


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", b"[]", b'{"free": 3}', b"\xff\xfe"])
def test_a_lease_that_cannot_be_read_is_free(new_lease: New, store: MemoryStore, home: Home, rubbish: bytes) -> None:
    store.put(home.lease, rubbish)
    assert isinstance(new_lease().acquire("skip"), Held)


def test_quiet_runs_are_counted(new_lease: New, store: MemoryStore, clock: Any, home: Home) -> None:
    ends = []
    for n in range(QUIET_KEPT + 50):
        lease = new_lease()
        lease.acquire("skip")
        clock.sleep(60 if n % 7 else -30)
        ends.append(clock.us // 1_000_000)
        lease.release({"status": "nothing to do"}, quiet=True)
    said = read(store, home)
    assert said.quiet.count == QUIET_KEPT + 50
    assert said.quiet.times() == ends[: -QUIET_KEPT - 1 : -1]
    assert said.free and said.result == {"status": "nothing to do"}
    assert len(store.get(home.lease)) < 5000
    lease = new_lease()
    lease.acquire("skip")
    lease.release({"rows": 1}, quiet=False)
    assert read(store, home).quiet == said.quiet
    assert LeaseInfo().quiet.times() == []
