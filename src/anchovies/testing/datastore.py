"""What every datastore must do, as tests. A backend is tested by a subclass that says how to make one:

class TestMyStore(DatastoreSuite):
    @pytest.fixture
    def store(self): ...
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from anchovies.core.errors import AlreadyExists, AnchovyError, ConfigError, NotFound
from anchovies.store.base import Store

HOSTILE = ["", "/", "/etc/passwd", "..", "a/../../b", "a//b", "a/./b", "a/", "a/\0b", "../x", "./x"]
ODD = ["u/%2Fetc/a b", "u/ü/é", "u/a.b", "u/a-b", "u/$log/log/0000000000/0000000000000001.json", "u/%2E%2E/x", "u/c:x"]
RACERS = 10


def keys_of(store: Store, prefix: str, start_after: str = "") -> list[str]:
    return [e.key for e in store.list(prefix, start_after)]


class DatastoreSuite:
    """Subclass it, name it `Test…`, and give it a fixture `store`: an empty datastore for each test."""

    def test_what_was_put_is_read(self, store: Store) -> None:
        for data in (b"", b"x", bytes(range(256)) * 5000):
            store.put("u/a/data/x", data)
            assert store.get("u/a/data/x") == data

    def test_create_never_replaces(self, store: Store) -> None:
        store.create("u/a/slot", b"first")
        for again in (b"second", b"first"):
            with pytest.raises(AlreadyExists):
                store.create("u/a/slot", again)
        assert store.get("u/a/slot") == b"first"

    def test_create_does_not_replace_what_put_wrote(self, store: Store) -> None:
        store.put("u/a/slot", b"put")
        with pytest.raises(AlreadyExists):
            store.create("u/a/slot", b"created")

    def test_put_replaces(self, store: Store) -> None:
        store.create("u/a/lease", b"long content")
        store.put("u/a/lease", b"short")
        assert store.get("u/a/lease") == b"short"

    def test_what_is_missing_is_not_found(self, store: Store) -> None:
        store.put("u/a/there", b"x")
        for key in ("u/a/missing", "u/b/missing", "nobody/at/all"):
            with pytest.raises(NotFound):
                store.get(key)

    def test_many_are_read_in_the_order_of_their_keys(self, store: Store) -> None:
        keys = [f"u/log/{n:04d}" for n in range(50)]
        for key in keys[::2]:
            store.put(key, key.encode())
        wanted = [None if n % 2 else key.encode() for n, key in enumerate(keys)]
        assert list(store.get_many(keys)) == wanted
        assert list(store.get_many(keys[::-1])) == wanted[::-1]
        assert list(store.get_many([keys[0], keys[1], keys[0]])) == [keys[0].encode(), None, keys[0].encode()]
        assert list(store.get_many([])) == []

    def test_many_may_be_left_after_the_first(self, store: Store) -> None:
        store.put("u/a", b"x")
        assert next(store.get_many(["u/a"] * 100)) == b"x"

    def test_a_hostile_key_among_many_is_refused(self, store: Store) -> None:
        store.put("u/a/x", b"x")
        with pytest.raises(ConfigError):
            list(store.get_many(["u/a/x", "u/../x"]))

    def test_a_folder_is_not_an_object(self, store: Store) -> None:
        store.put("u/a/b", b"x")
        with pytest.raises(AnchovyError):
            store.get("u/a")

    def test_delete(self, store: Store) -> None:
        store.put("u/a/x", b"x")
        store.delete("u/a/x")
        store.delete("u/a/x")
        store.delete("u/never/there")
        with pytest.raises(NotFound):
            store.get("u/a/x")
        store.create("u/a/x", b"again")
        assert keys_of(store, "u/") == ["u/a/x"]

    def test_list_is_in_the_order_of_keys(self, store: Store) -> None:
        names = ["u/a/b", "u/a.b", "u/a-b/x", "u/a/b.c/d", "u/a0", "u/a/a/z", "u/B", "u/a/b/c"]
        names.remove("u/a/b")  # a name is a file or a folder, not both
        for name in names:
            store.put(name, b"x")
        assert keys_of(store, "") == sorted(names)
        assert keys_of(store, "u/a/") == sorted(n for n in names if n.startswith("u/a/"))
        assert keys_of(store, "u/a") == sorted(n for n in names if n.startswith("u/a"))
        assert keys_of(store, "u/a/b.c/d") == ["u/a/b.c/d"]

    def test_list_goes_on_after_a_key(self, store: Store) -> None:
        names = sorted(f"u/{p}/{n}" for p in "abc" for n in range(4))
        for name in names:
            store.put(name, b"x")
        for after in ["", *names, "u/a", "u/a/", "u/b/17", "u/z"]:
            assert keys_of(store, "u/", after) == [n for n in names if n > after], after

    def test_list_of_nothing_is_empty(self, store: Store) -> None:
        assert keys_of(store, "") == keys_of(store, "u/") == keys_of(store, "u/a/b/c") == []

    def test_list_says_sizes_and_rising_times(self, store: Store) -> None:
        store.put("u/one", b"12345")
        store.put("u/two", b"")
        one, two = store.list("u/")
        assert (one.size, two.size) == (5, 0)
        assert two.modified >= one.modified > 0

    def test_a_write_is_listed_at_once(self, store: Store) -> None:
        for n in range(20):
            store.create(f"u/log/{n:04d}", b"x")
            assert keys_of(store, "u/log/")[-1] == f"u/log/{n:04d}"

    @pytest.mark.slow
    def test_a_list_of_many_pages(self, store: Store) -> None:
        keys = [f"u/log/{n:05d}" for n in range(2_500)]  # servers answer with 1,000 at a time, Azure with 5,000
        with ThreadPoolExecutor(RACERS) as pool:
            list(pool.map(lambda key: store.create(key, b"x"), keys))
        assert keys_of(store, "u/log/") == keys
        assert keys_of(store, "u/log/", keys[1_234]) == keys[1_235:]

    @pytest.mark.slow
    def test_a_hundred_megabytes(self, store: Store) -> None:
        data = bytes(range(250)) * 400_000
        store.create("u/a/data/created", data)
        store.put("u/a/data/put", data)
        assert store.get("u/a/data/created") == data == store.get("u/a/data/put")
        assert [e.size for e in store.list("u/a/data/")] == [len(data), len(data)]

    @pytest.mark.parametrize("key", ODD)
    def test_odd_keys_stay_what_they_are(self, store: Store, key: str) -> None:
        store.create(key, key.encode())
        assert store.get(key) == key.encode()
        assert keys_of(store, "u/") == [key]

    @pytest.mark.parametrize("key", HOSTILE)
    def test_hostile_keys_are_refused(self, store: Store, key: str) -> None:
        for attempt in (
            lambda: store.create(key, b"x"),
            lambda: store.put(key, b"x"),
            lambda: store.get(key),
            lambda: store.delete(key),
        ):
            with pytest.raises(ConfigError):
                attempt()
        assert keys_of(store, "") == []

    def test_settle_takes_an_object_that_is_there(self, store: Store) -> None:
        store.create("u/a/slot", b"x")
        store.settle("u/a/slot")

    def test_one_of_many_creators_wins(self, store: Store) -> None:
        start = Barrier(RACERS)

        def race(n: int) -> bool:
            start.wait()
            try:
                store.create("u/a/slot", str(n).encode())
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(RACERS) as pool:
            won = list(pool.map(race, range(RACERS)))
        assert won.count(True) == 1
        assert store.get("u/a/slot") == str(won.index(True)).encode()

    def test_readers_never_see_half_an_object(self, store: Store) -> None:
        sizes = [1, 100_000, 2]
        store.put("u/a/x", b"0")

        def write(n: int) -> None:
            store.put("u/a/x", str(n % 3).encode() * sizes[n % 3])

        with ThreadPoolExecutor(2) as pool:
            writes = [pool.submit(write, n) for n in range(30)]
            while not all(w.done() for w in writes):
                seen = store.get("u/a/x")
                assert len(set(seen)) == 1 and len(seen) in sizes
            for w in writes:
                w.result()

    def test_a_lock_has_one_holder(self, store: Store) -> None:
        lock = store.try_lock("u/a/lock")
        if lock is None:
            return  # this store has no such locks, and says so
        with pytest.raises(AlreadyExists):
            store.try_lock("u/a/lock")
        lock.release()
        again = store.try_lock("u/a/lock")
        assert again is not None
        again.release()
        again.release()

    def test_a_local_path_leads_to_the_bytes(self, store: Store) -> None:
        store.put("u/a/x", b"bytes")
        path = store.local_path("u/a/x")
        if path is not None:
            with open(path, "rb") as f:
                assert f.read() == b"bytes"
        assert store.local_path("u/a/missing") is None
