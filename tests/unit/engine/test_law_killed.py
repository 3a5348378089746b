"""The law under kills: whatever dies, at whatever request, no checkpoint value in the log is ahead of its rows, in any record.

The same random graphs as in test_graph_oracle.py, with their threads, caches and buffers, shared by
up to three workers (another number of them after each kill); the datastore stops at a random request,
for good, with its effect or without it, as it does for a process that is killed there. Then the next session goes on.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from anchovies.core.errors import FatalError, Fenced, Stopped
from anchovies.store.base import Entry, OsLock, Store

T = TypeVar("T")
EXAMPLES = int(os.environ.get("ANCHOVIES_EXAMPLES") or 0) or min(100, settings().max_examples)


def _oracle() -> Any:
    spec = util.spec_from_file_location("graph_oracle", Path(__file__).with_name("test_graph_oracle.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules["graph_oracle"] = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = _oracle()


class Killed(FatalError):
    """Nobody is there any more to hear it."""


class Dying(Store):
    """`inner`, until its request number `nth`; from then on nothing has an effect. `lands`: that one still had its own."""

    def __init__(self, inner: Store, nth: int, lands: bool) -> None:
        self.inner, self.url = inner, inner.url
        self.nth, self.lands, self.asked = nth, lands, 0

    def _do(self, do: Callable[[], T]) -> T:
        self.asked += 1
        if self.asked > self.nth or (self.asked == self.nth and not self.lands):
            raise Killed("dead")
        done = do()
        if self.asked == self.nth:
            raise Killed("dead, and nobody heard the answer")
        return done

    def create(self, key: str, data: bytes) -> None:
        self._do(lambda: self.inner.create(key, data))

    def get(self, key: str) -> bytes:
        return self._do(lambda: self.inner.get(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        return self._do(lambda: self.inner.list(prefix, start_after))

    def put(self, key: str, data: bytes) -> None:
        self._do(lambda: self.inner.put(key, data))

    def delete(self, key: str) -> None:
        self._do(lambda: self.inner.delete(key))

    def settle(self, key: str) -> None:
        self._do(lambda: self.inner.settle(key))

    def try_lock(self, key: str) -> OsLock | None:
        return self.inner.try_lock(key)  # an operating system takes it from the dead


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=EXAMPLES,
)
@given(
    graph=oracle.graphs(),
    kills=st.lists(st.tuples(st.integers(4, 60), st.booleans(), st.sampled_from([1, 1, 2, 3])), min_size=1, max_size=4),
    threads=st.integers(1, 4),
    commit_bytes=st.sampled_from([1, 300]),
    buffer=st.sampled_from(["parquet", "jsonl"]),
)
def test_no_value_is_ahead_of_its_rows_whatever_dies(
    new_place: Callable[[], Any], graph: Any, kills: list[tuple[int, bool, int]], threads: int, commit_bytes: int, buffer: str
) -> None:
    given_ = {"threads": threads, "commit_bytes": commit_bytes, "commit_seconds": 0, "data_buffer_cls": buffer}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle.rowpath, "gather", oracle.partial(oracle.rowpath.gather, max_rows=2))
        oracle.watched(lambda: _killed(new_place(), graph, kills, patch, given_))
    event(f"{len(graph.parts())} parts, {len(graph.takers)} takers")


def _killed(place: Any, graph: Any, kills: list[Any], patch: pytest.MonkeyPatch, given_: dict[str, Any]) -> None:
    mine = threading.local()  # each worker has a datastore of its own to die by
    patch.setattr("anchovies.engine.api.open_store", lambda *args: mine.store)
    for nth, lands, workers in kills:
        errors = _run(place, graph, given_, workers, mine, lambda n, nth=nth, lands=lands: Dying(place.store, nth + 7 * n, lands))
        assert all(isinstance(e, Killed | Stopped | Fenced) for e in errors), errors
        _judge(place, graph)
    assert _run(place, graph, given_, kills[-1][2], mine, lambda n: place.store) == []
    *_, kept = _judge(place, graph)
    for part in graph.parts():
        oracle.where(kept, graph, part, oracle.stands(graph, part, True))  # each row once


def _run(place: Any, graph: Any, given_: Any, workers: int, mine: threading.local, store: Callable[[int], Store]) -> list[Any]:
    """All workers at once; what they raised."""
    tbls = {t: {"columns": {"way": "str", "n": "int"}} for t in graph.tables}
    of = oracle.operator(graph, {}, broken=False)
    errors: list[BaseException] = []

    def one(n: int) -> None:
        mine.store = store(n)
        try:
            place.run(of, tbls=tbls, if_running="fail", worker_num=n, workers=workers, **given_)
        except BaseException as e:
            errors.extend(getattr(e, "errors", [e]))

    threads = [threading.Thread(target=one, args=(n,), daemon=True) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def _judge(place: Any, graph: Any) -> list[Any]:
    """Every record alone may be the last one: then the tables and values of each part stand at one of its marks."""
    history = list(oracle.Kept.after_each_record(place, graph.tables))
    for kept in history:
        for part in graph.parts():
            may = [*oracle.stands(graph, part, False), *oracle.stands(graph, part, True)]
            oracle.where(kept, graph, part, may)
    return history
