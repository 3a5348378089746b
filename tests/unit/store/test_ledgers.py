"""Ledgers are kept in parts: what comes back is what went in, and only what changed is written again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from anchovies.core.errors import CorruptDatastore
from anchovies.store import ledgers, snapshot
from anchovies.store.keys import Home
from anchovies.store.ledgers import Ledger, shard_of, shards_for
from anchovies.store.log import Log
from anchovies.store.memory import MemoryStore
from anchovies.store.record import Change, LedgerChange

New = Callable[..., Log]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "INLINE", 8)
    monkeypatch.setattr(ledgers, "SHARD", 4)


def test_parts_grow_with_the_entries(small: None) -> None:
    assert [shards_for(n) for n in (0, 8, 9, 16, 17, 33)] == [0, 0, 4, 4, 8, 16]


CHANGES = st.lists(
    st.builds(
        lambda put, delete: LedgerChange(
            put={str(k): v for k, v in put.items()}, delete=[str(k) for k in delete if k not in put]
        ),
        st.dictionaries(st.integers(0, 30), st.integers(), max_size=12),
        st.lists(st.integers(0, 30), max_size=12, unique=True),
    ),
    max_size=8,
)


@given(CHANGES)
def test_a_ledger_is_a_dict(changes: list[LedgerChange]) -> None:
    ledger, model = Ledger(), {}
    for change in changes:
        ledger = ledger.after(change)
        model = {k: v for k, v in {**model, **change.put}.items() if k not in change.delete}
        assert ledger == model and len(ledger) == len(model) and set(ledger) == set(model) and bool(ledger) == bool(model)
        for k in map(str, range(31)):
            assert ledger.get(k) == model.get(k) and (k in ledger) == (k in model)


@given(CHANGES)
def test_what_is_kept_comes_back(changes: list[LedgerChange]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledgers, "INLINE", 8)
        patch.setattr(ledgers, "SHARD", 4)
        store, home = MemoryStore(), Home("u", "a")
        from anchovies.store.state import State

        state, model = State(store="s"), {}
        for n, change in enumerate(changes, 1):
            ledger = state.ledgers.get("t", Ledger()).after(change)
            model = {k: v for k, v in {**model, **change.put}.items() if k not in change.delete}
            state = replace(state, slot=n, ledgers={"t": ledger})
            kept = snapshot.write(store, home, state, [], _never)
            assert kept.ledgers["t"] == model
            found = snapshot.newest(store, home)
            assert found is not None and found.state.slot == n
            read = snapshot.state_of(store, found, _never)
            assert read == state and len(read.ledgers["t"]) == len(model)
            state = read if n % 2 else kept


def _never(name: str, slot: int) -> dict[str, object]:
    raise AssertionError("nothing has to be rebuilt")


def _filled(new_log: New, n: int = 40) -> Log:
    log = new_log()
    log.append(Change(ledgers={"t": LedgerChange(put={f"k{i}": i for i in range(n)})}))
    log.finish()
    return log


def _parts(store: MemoryStore, home: Home) -> set[str]:
    return {e.key for e in store.list(home.shards)}


def test_only_what_changed_is_written_again(small: None, new_log: New, store: MemoryStore, home: Home) -> None:
    _filled(new_log)
    before = _parts(store, home)
    assert len(before) > 10  # of 16; empty ones are one object
    log = new_log()
    log.append(Change(ledgers={"t": LedgerChange(put={"k3": "new"}, delete=["k5"])}))
    log.finish()
    assert len(_parts(store, home) - before) == len({shard_of("k3", 16), shard_of("k5", 16)})
    ledger = new_log().state.ledgers["t"]
    assert ledger == {f"k{i}": i for i in range(40) if i != 5} | {"k3": "new"}


def test_one_entry_is_one_part(small: None, new_log: New, store: MemoryStore, home: Home) -> None:
    _filled(new_log)
    read: list[str] = []
    get = store.get
    store.get = lambda key: (read.append(key), get(key))[1]  # type: ignore[method-assign]
    ledger = new_log().state.ledgers["t"]
    assert ledger["k7"] == 7 and ledger.get("k7") == 7 and len(ledger) == 40
    assert sum("ledger-" in key for key in read) == 1


def test_a_part_that_was_collected_is_rebuilt_from_the_log(small: None, new_log: New, store: MemoryStore, home: Home) -> None:
    _filled(new_log)
    parts = _parts(store, home)
    for key in parts:
        store.delete(key)
    log = new_log()
    assert log.state.ledgers["t"] == {f"k{i}": i for i in range(40)}
    log.append(Change(ledgers={"t": LedgerChange(put={"k0": "new"})}))
    log.finish()
    assert len(_parts(store, home)) == len(parts)  # all that was missing, not only what changed
    assert new_log().state.ledgers["t"] == {f"k{i}": i for i in range(40)} | {"k0": "new"}


def test_a_part_is_rebuilt_as_it_was_then(small: None, new_log: New, store: MemoryStore, home: Home) -> None:
    """The log has gone on since: what came later is in the changes of whoever reads on from the snapshot."""
    log = new_log()
    log.append(Change(complete=["t"]))
    log = _filled(new_log)
    new_log().append(Change(ledgers={"t": LedgerChange(put={"k0": "later"})}))
    for key in _parts(store, home):
        store.delete(key)
    ledger = new_log().state.ledgers["t"]
    assert ledger["k0"] == "later" and ledger.base["k0"] == 0 and len(ledger) == 40


def test_a_damaged_part_is_named(small: None, new_log: New, store: MemoryStore, home: Home) -> None:
    _filled(new_log)
    key = sorted(_parts(store, home))[0]
    store.put(key, b"rubbish")
    with pytest.raises(CorruptDatastore, match="ledger-") as e:
        dict(new_log().state.ledgers["t"])
    assert "delete that file" in (e.value.hint or "")


def test_it_becomes_small_again(small: None, new_log: New, store: MemoryStore, home: Home) -> None:
    _filled(new_log)
    log = new_log()
    log.append(Change(ledgers={"t": LedgerChange(delete=[f"k{i}" for i in range(2, 40)])}))
    log.finish()
    found = snapshot.newest(store, home)
    assert found is not None and found.ledgers["t"].entries == {"k0": 0, "k1": 1} and not found.ledgers["t"].shards
    log = new_log()
    log.append(Change(ledgers={"t": LedgerChange(delete=["k0", "k1"])}))
    assert log.state.ledgers == {} and new_log().state.ledgers == {}
