"""The lease keeps polite processes apart, and never stands in the way of a datastore whose holder died."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anchovies.core.errors import AlreadyRunning, FatalError, Stopped, StoreUnavailable
from anchovies.core.ids import SystemIds
from anchovies.core.retry import Retry
from anchovies.store.base import Entry
from anchovies.store.keys import Home
from anchovies.store.lease import (
    BEAT,
    QUIET_KEPT,
    TTL,
    Busy,
    Held,
    Lease,
    LeaseInfo,
    Maintained,
    Polled,
    PolledLog,
    Remembered,
    read,
)
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


class Timeless(NoLocks):
    """A bucket whose listing tells no times, or senseless ones."""

    told: dict[str, float]

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        for e in super().list(prefix, start_after):
            times = [t for part, t in self.told.items() if part in e.key]
            yield Entry(e.key, e.size, times[0] if times else 0.0)


@pytest.fixture(
    params=[{}, {"probe": 5.0}, {"lease": 5.0}, {"lease": 1e9, "probe": 5.0}, {"lease": -5.0, "probe": -1.0}], ids=str
)
def timeless(clock: Any, request: Any) -> Timeless:
    store = Timeless(clock=clock)
    store.told = request.param
    return store


def test_without_times_a_lease_that_does_not_beat_is_taken_over(new_lease: New, timeless: Timeless, clock: Any) -> None:
    new_lease("dead", host="there", on=timeless).acquire("skip")
    got = new_lease("next", on=timeless).acquire("skip")
    assert isinstance(got, Held) and got.last.session == "dead"
    assert TTL <= clock.slept <= TTL + 5, "its beats were watched for the TTL, by a clock that only counts"


@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_without_times_a_lease_that_beats_is_left_alone(new_lease: New, timeless: Timeless, clock: Any, policy: Any) -> None:
    first = new_lease("one", host="there", on=timeless)
    first.acquire("skip")
    second = new_lease("two", on=timeless)
    if policy == "fail":
        with pytest.raises(AlreadyRunning, match="session one on there"):
            second.acquire("fail", check=first.beat)  # type: ignore[arg-type]
    else:
        assert isinstance(second.acquire("skip", check=first.beat), Busy)  # type: ignore[arg-type]
    assert clock.slept <= BEAT + 5


def test_without_times_a_lease_that_is_released_is_taken_as_it_is_then(new_lease: New, timeless: Timeless, clock: Any) -> None:
    first = new_lease("one", host="there", on=timeless)
    first.acquire("skip")

    def check() -> None:
        if clock.slept >= 10:
            first.release({"rows": 7}, quiet=True)

    got = new_lease("two", on=timeless).acquire("skip", check=check)
    assert isinstance(got, Held) and (got.last.result, got.last.quiet.count) == ({"rows": 7}, 1)


def test_without_times_nobody_is_robbed_when_the_deadline_comes_first(new_lease: New, timeless: Timeless, clock: Any) -> None:
    new_lease("one", host="there", on=timeless).acquire("skip")
    assert isinstance(new_lease("two", on=timeless).acquire("skip", clock.monotonic() + 20), Busy)
    assert clock.slept <= 25

    def stop() -> None:
        raise Stopped("SIGTERM")

    with pytest.raises(Stopped):
        new_lease("two", on=timeless).acquire("skip", check=stop)


def test_a_clock_of_the_starter_decides_nothing(new_lease: New, bucket: NoLocks, clock: Any, home: Home) -> None:
    """The store's times say that the lease is young; what the starter's own clock says of `since` does not matter."""
    new_lease("one", host="there", on=bucket).acquire("skip")
    lied = LeaseInfo(host="there", session="one", since="1999-01-01T00:00:00.000000Z", free=False)
    bucket.put(home.lease, b'{"host":"there","session":"one","since":"1999-01-01T00:00:00.000000Z","free":false}')
    assert read(bucket, home) == lied
    assert isinstance(new_lease("two", on=bucket).acquire("skip"), Busy)


def test_a_lease_that_says_nobody(new_lease: New, bucket: NoLocks, home: Home, clock: Any) -> None:
    bucket.put(home.lease, b'{"free":false,"epoch":7}')
    busy = new_lease("two", on=bucket).acquire("skip")
    assert isinstance(busy, Busy) and "its lease does not say which" in busy.text
    clock.sleep(TTL)
    assert isinstance(new_lease("two", on=bucket).acquire("skip"), Held)


def test_nobody_pays_for_a_probe_while_the_lease_is_free(new_lease: New, bucket: NoLocks, clock: Any, home: Home) -> None:
    faulty = FaultyStore(bucket)
    lease = new_lease(on=faulty)
    lease.acquire("skip")
    lease.release({}, quiet=True)
    new_lease("again", on=faulty).acquire("skip")
    assert [verb for verb, _ in faulty.ops] == ["get", "put", "put", "get", "put"]
    faulty.ops.clear()
    assert isinstance(new_lease("other", host="there", on=faulty).acquire("skip"), Busy)
    assert [verb for verb, _ in faulty.ops] == ["get", "put", "list", "list", "delete"]


def test_a_beat_is_one_write_and_a_stale_one_looks_first(new_lease: New, bucket: NoLocks, clock: Any) -> None:
    faulty = FaultyStore(bucket)
    lease = new_lease(on=faulty)
    assert not lease.due
    lease.acquire("skip")
    faulty.ops.clear()
    assert lease.beat() and not lease.due and faulty.ops == []
    clock.sleep(BEAT)
    assert lease.due and lease.beat()
    assert [verb for verb, _ in faulty.ops] == ["put"]
    faulty.ops.clear()
    clock.sleep(TTL)
    assert lease.beat()
    assert [verb for verb, _ in faulty.ops] == ["get", "put"]


def test_a_lease_that_somebody_freed_for_us_is_ours_still(new_lease: New, bucket: NoLocks, clock: Any, home: Home) -> None:
    lease = new_lease("one", on=bucket)
    lease.acquire("skip")
    clock.sleep(TTL)
    bucket.delete(home.lease)
    assert lease.beat() and read(bucket, home).session == "one"


def test_stealing_is_safe_for_both(new_lease: New, bucket: NoLocks, clock: Any, home: Home) -> None:
    """Two who find the lease of a dead one at the same moment may both think that it is theirs: the log decides."""
    new_lease("dead", host="x", on=bucket).acquire("skip")
    clock.sleep(TTL)
    one, two = new_lease("one", host="y", on=bucket), new_lease("two", host="z", on=bucket)
    raced = []

    class Racing(FaultyStore):
        def put(self, key: str, data: bytes) -> None:
            if key == home.lease and not raced:
                raced.append(two.acquire("skip"))
            super().put(key, data)

    one._store = Racing(bucket)
    assert isinstance(one.acquire("skip"), Held) and isinstance(raced[0], Held)
    clock.sleep(TTL)
    assert one.beat() and not two.beat()


def test_a_beat_that_hangs_holds_up_no_release(new_lease: New, store: MemoryStore, clock: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("anchovies.store.lease.LAST_WORDS", 0.01)
    inside, go_on = threading.Event(), threading.Event()

    class Hangs(FaultyStore):
        def put(self, key: str, data: bytes) -> None:
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                go_on.wait(30)
            super().put(key, data)

        def try_lock(self, key: str) -> Any:
            return store.try_lock(key)

    lease = new_lease(on=Hangs(store))
    lease.acquire("skip")
    clock.sleep(BEAT)
    heart = threading.Thread(target=lease.beat)
    heart.start()
    assert inside.wait(30)
    lease.release({}, quiet=True)
    assert store.try_lock("prod/sales/$log/lock") is not None, "the lock was given back"
    go_on.set()
    heart.join(30)


def test_what_is_remembered_goes_from_run_to_run(new_lease: New, store: MemoryStore, home: Home) -> None:
    said = Remembered(Polled("of", "own", 3, {"u/a": PolledLog(5, ["t"], "tag")}), Maintained(7, 8))
    lease = new_lease("one")
    lease.acquire("skip")
    lease.release({}, quiet=True, remembered=said)
    assert read(store, home).remembered == said
    lease = new_lease("two")
    got = lease.acquire("skip")
    assert isinstance(got, Held) and got.last.remembered == said
    lease._lock.release()  # it dies
    assert read(store, home).remembered == said
    new_lease("three").acquire("skip")
    assert read(store, home).remembered == said
