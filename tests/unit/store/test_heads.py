"""Heads: one listing tells which of many logs have moved, and stays silent where it cannot know."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anchovies.store import heads
from anchovies.store.base import Entry
from anchovies.store.keys import Home
from anchovies.store.memory import MemoryStore

HOMES = [Home("u", name) for name in ("b", "d", "missing")]


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for name in "abcdef":
        heads.write(store, Home("u", name), 3)
    return store


def test_a_head_that_moves_has_another_tag(store: MemoryStore) -> None:
    before = heads.tags(store, HOMES)
    assert set(before) == {"u/b", "u/d"}
    assert heads.tags(store, HOMES) == before
    heads.write(store, Home("u", "d"), 4)
    after = heads.tags(store, HOMES)
    assert after["u/b"] == before["u/b"] and after["u/d"] != before["u/d"]


def test_a_listing_without_times_tells_nothing(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.list

    def timeless(prefix: str, start_after: str = "") -> Iterator[Entry]:
        return (Entry(e.key, e.size, 0.0) for e in real(prefix, start_after))

    monkeypatch.setattr(store, "list", timeless)
    assert heads.tags(store, HOMES) == {}


def test_only_what_lies_between_is_listed(store: MemoryStore) -> None:
    assert set(heads.tags(store, [Home("u", "c")])) == {"u/c"}
    assert heads.tags(store, [Home("u", "zzz")]) == {}
