"""What the engine's tests look at: the store of a run, its records, its rows in the order of the log."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import anchovies
from anchovies.core.schema import batch_to_rows
from anchovies.engine.events import Event
from anchovies.engine.loads import CommittedFile, files_of
from anchovies.sdk import SessionResult, Target, Tbl
from anchovies.store.base import Store
from anchovies.store.datafile import read_batches
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.open import open_store
from anchovies.store.record import Record
from anchovies.store.state import State

_names = itertools.count()
USER = "tester"


@dataclass
class Place:
    """A datastore and what lies in it. Every `run` is one session, as `id` (default `a`)."""

    url: str

    def run(self, operator: type, id: str = "a", **settings: Any) -> SessionResult:
        result: SessionResult = anchovies.run(operator, id=id, user=USER, datastore=self.url, **settings)
        return result

    @property
    def store(self) -> Store:
        return open_store(self.url)

    def reader(self, id: str = "a") -> Reader:
        return Reader(self.store, Home(USER, id))

    def state(self, id: str = "a") -> State:
        return self.reader(id).state()

    def records(self, id: str = "a") -> list[Record]:
        """Every record; what each says that it read and kept is what its files hold."""
        found = list(self.reader(id).records(0, ""))
        for change in (r.change for r in found):
            kept = Counter[str]()
            for f in change.files:
                kept[f.table] += f.rows
            said = {t: (x["rows"] - x["rejected"], x["kept"]) for t, x in change.receipts.items() if x.get("kept")}
            assert said == {t: (n, n) for t, n in kept.items()}
        return found

    def checkpoint(self, key: str, id: str = "a") -> Any:
        found = self.state(id).checkpoints.get(key)
        return None if found is None else found.value

    def rows(self, tbl: str, id: str = "a") -> list[dict[str, Any]]:
        """Committed rows in the order of the log."""
        return [r for record in self.records(id) for r in self.rows_of(record, tbl)]

    def rows_of(self, record: Record, tbl: str) -> list[dict[str, Any]]:
        mine = [f for f in record.change.files if f.table == tbl]
        return [r for f in mine for b in read_batches(self.store, f) for r in batch_to_rows(b)]

    def files(self, tbl: str, id: str = "a") -> list[CommittedFile]:
        target = Target("", USER, id, id, Tbl(tbl))
        return [f for r in self.records(id) for f in files_of(r, tbl, self.store, target)]

    def units(self, tbl: str, key: str = "n", id: str = "a") -> list[list[Any]]:
        """The values of `key`, unit by unit, as a target sees them through unit ids."""
        found: dict[int, list[Any]] = {}
        for file in self.files(tbl, id):
            rows = [r[key] for b in read_batches(self.store, file.file) for r in batch_to_rows(b)]
            ends = [*(at for at, _ in file.units[1:]), file.rows]
            for (start, unit), end in zip(file.units, ends, strict=True):
                found.setdefault(unit, []).extend(rows[start:end])
        return list(found.values())

    def objects(self) -> list[str]:
        """Every object of the store but for leases, which every run rewrites."""
        return [e.key for e in self.store.list("") if not e.key.endswith("/lease.json")]

    def named(self, path: str) -> list[str]:
        return [k for k in self.objects() if path in k]


@pytest.fixture
def place() -> Place:
    """An empty datastore in memory."""
    return Place(f"memory://engine-{next(_names)}")


@pytest.fixture
def new_place() -> Callable[[], Place]:
    """As many empty datastores as a test wants."""
    return lambda: Place(f"memory://engine-{next(_names)}")


@pytest.fixture
def swap_store(monkeypatch: pytest.MonkeyPatch) -> Callable[[Place, Callable[[Store], Store]], Store]:
    """`swap_store(place, wrap)`: sessions on `place` use `wrap(its store)`, which is returned."""

    def swap(place: Place, wrap: Callable[[Store], Store]) -> Store:
        wrapped = wrap(place.store)
        monkeypatch.setattr("anchovies.engine.api.open_store", lambda *args: wrapped)
        return wrapped

    return swap


@pytest.fixture
def heard() -> tuple[list[Event], Callable[[Event], None]]:
    """(events, listener)."""
    events: list[Event] = []
    return events, events.append
