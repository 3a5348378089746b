"""Readers register with their upstreams, from what their targets have committed; what was retired unread is never passed over."""

from __future__ import annotations

from typing import Any

import pytest

from anchovies.core.clock import SystemClock
from anchovies.core.errors import CorruptDatastore, GapError, RetryableError, StoreUnavailable
from anchovies.core.ids import SystemIds
from anchovies.sdk import Downloader, Load, Position, Target, Uploader, context, sink, source
from anchovies.store import cursors
from anchovies.store.cursors import Cursor, Seen
from anchovies.store.keys import Home
from anchovies.store.maintain import Maintainer, Report
from anchovies.store.record import Writer
from anchovies.testing.counting import CountingStore
from anchovies.testing.faults import FaultyStore

A, ME = Home("tester", "a"), "tester/up"


class Feed(Downloader):
    """Five more rows of `t` at each run; `u` once."""

    @source("t")
    def t(self) -> Any:
        cursor = context().checkpoint("n")
        start = cursor.get(0)
        yield from ({"n": n} for n in range(start, start + 5))
        cursor.set(start + 5)

    @source("u")
    def u(self) -> Any:
        if context().checkpoint("u").get() is None:
            yield {"n": 100}
        context().checkpoint("u").set(1)


class Sinks(Uploader):
    got: list[int]
    fails = False

    @sink()
    def take(self, stream: Any) -> None:
        for row in stream:
            if self.fails:
                raise RuntimeError("the target is down")
            self.got.append(row["n"])


class Database(Uploader):
    """A transactional target in memory."""

    rows: dict[str, list[int]]
    at: dict[str, Position]
    lose = False
    print_ = "one"

    def position(self, target: Target) -> Position | None:
        return self.at.get(target.tbl.name)

    def load(self, load: Load) -> Any:
        name = load.target.tbl.name
        assert self.at.get(name, Position()) == load.start
        self.rows.setdefault(name, []).extend(n for f in load.files for b in f.batches() for n in b.column("n").to_pylist())
        self.at[name] = load.end
        if self.lose:
            raise RetryableError("the answer is lost")
        return {}

    def fingerprint(self) -> str:
        return self.print_


@pytest.fixture
def sinks() -> type[Sinks]:
    return type("Sinks", (Sinks,), {"got": []})


@pytest.fixture
def database() -> type[Database]:
    return type("Database", (Database,), {"rows": {}, "at": {}})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.core.clock.SystemClock.sleep", lambda self, seconds: None)


def cursor(place: Any, consumer: str = ME) -> dict[str, int]:
    found = cursors.read(place.store, A, consumer)
    return {} if found is None else {x.tbl: x.slot for x in found.seen}


def maintain(place: Any, retain: float | None = 0.0) -> Report:
    who = Writer(host="h", pid=1, session="m", batch=0, version="0")
    return Maintainer(place.store, A, SystemClock(), SystemIds(), who).run(retain)


@pytest.mark.parametrize("kind", ["sinks", "database"])
def test_a_reader_says_how_far_it_is(place: Any, kind: str, request: Any) -> None:
    operator = request.getfixturevalue(kind)
    place.run(Feed)
    place.run(operator, id="up", upstream=["a"])
    totals = place.state().totals
    assert cursor(place) == {name: max(t.slot, t.complete) for name, t in totals.items()}
    before = place.store.get(A.cursor(ME))
    place.run(Feed)
    place.run(operator, id="up", upstream=["a"])
    assert cursor(place)["t"] > totals["t"].complete
    assert place.store.get(A.cursor(ME)) != before


def test_it_is_written_only_when_it_changes(place: Any, sinks: type[Sinks], swap_store: Any) -> None:
    counted = swap_store(place, CountingStore)
    place.run(Feed)
    place.run(sinks, id="up", upstream=["a"])
    assert counted.by_kind()["put cursors/"] == 2, "registered before the load, and told after it"
    counted.clear()
    for _ in range(3):
        place.run(sinks, id="up", upstream=["a"])
        place.run(sinks, id="up", upstream=["a"], enabled=["t"])  # looks at everything
    assert "put cursors/" not in counted.by_kind()


def test_a_table_is_registered_before_its_first_load(place: Any, sinks: type[Sinks]) -> None:
    place.run(Feed)
    sinks.fails = True
    with pytest.raises(Exception, match="down"):
        place.run(sinks, id="up", upstream=["a"])
    assert cursor(place) == {"t": 0, "u": 0}
    assert maintain(place).retired == {}, "so retention waits for it"
    sinks.fails = False
    place.run(sinks, id="up", upstream=["a"])
    assert sorted(sinks.got) == [0, 1, 2, 3, 4, 100]
    assert maintain(place).retired.keys() == {"t", "u"}


def test_it_never_leads(place: Any, database: type[Database], monkeypatch: pytest.MonkeyPatch) -> None:
    """However the load ends, the cursor says no more than what the target holds."""
    place.run(Feed)
    seen = []
    real = cursors.write

    def write(store: Any, home: Home, said: Cursor) -> None:
        for x in said.seen:
            assert x.slot <= database.at.get(x.tbl, Position()).slot
            seen.append(x.slot)
        real(store, home, said)

    monkeypatch.setattr(cursors, "write", write)
    database.lose = True
    place.run(database, id="up", upstream=["a"], enabled=["t"])
    database.lose = False
    place.run(database, id="up", upstream=["a"])
    assert max(seen) > 0 and cursor(place)["t"] == database.at["t"].slot


def test_what_is_not_looked_at_stays(place: Any, sinks: type[Sinks]) -> None:
    place.run(Feed)
    place.run(sinks, id="up", upstream=["a"])
    before = cursor(place)
    place.run(Feed)
    place.run(sinks, id="up", upstream=["a"], enabled=["t"])
    after = cursor(place)
    assert after["u"] == before["u"] and after["t"] > before["t"]


def test_a_cursor_of_another_log_or_a_damaged_one_is_written_anew(place: Any, sinks: type[Sinks]) -> None:
    place.run(Feed)
    for lies in (b"rubbish", b'{"consumer":"tester/up","store":"another","seen":[{"tbl":"x","target":"y","slot":9,"cid":"z"}]}'):
        place.store.put(A.cursor(ME), lies)
        place.run(Feed)
        place.run(sinks, id="up", upstream=["a"])
        found = cursors.read(place.store, A, ME)
        assert found is not None and (found.store, [x.tbl for x in found.seen]) == (place.state().store, ["t", "u"])


@pytest.mark.parametrize("verb", ["get", "put"])
def test_a_cursor_that_cannot_be_had_is_a_warning(place: Any, sinks: type[Sinks], swap_store: Any, verb: str) -> None:
    other = Cursor(ME, "", [Seen("other", "x", 3, "c")])

    class Bad(FaultyStore):
        def get(self, key: str) -> bytes:
            if verb == "get" and "/cursors/" in key:
                raise StoreUnavailable("no")
            return super().get(key)

        def put(self, key: str, data: bytes) -> None:
            if verb == "put" and "/cursors/" in key:
                raise StoreUnavailable("no")
            super().put(key, data)

    place.run(Feed)
    cursors.write(place.store, A, other)
    swap_store(place, Bad)
    result = place.run(sinks, id="up", upstream=["a"])
    assert result.ok and len(sinks.got) == 6
    assert sum("could not be told how far tester/up is" in w for w in result.warnings) == 1
    assert cursors.read(place.store, A, ME) == other, "what nobody could read is not written over"


# gaps


def retire(place: Any) -> None:
    """Everything that is there now, though nobody is registered but a reader that has it all."""
    state = place.state()
    seen = [Seen(name, "x", state.slot, state.cid) for name in state.totals]
    cursors.write(place.store, A, Cursor("tester/other", state.store, seen))
    assert maintain(place).files > 0


@pytest.mark.parametrize("kind", ["sinks", "database"])
def test_what_was_retired_unread_is_a_gap(place: Any, kind: str, request: Any) -> None:
    operator = request.getfixturevalue(kind)
    place.run(Feed)
    retire(place)
    place.run(Feed)
    for _ in range(2):
        with pytest.raises(
            GapError, match=r"data files of t up to commit 1 of tester/a were retired.* no more than commit 0"
        ) as e:
            place.run(operator, id="up", upstream=["a"], enabled=["t"])
        assert "--full-refresh -e t" in str(e.value.hint)
    # the way out: read again, and go on behind the gap
    place.run(Feed, full_refresh=True)
    result = place.run(operator, id="up", upstream=["a"], enabled=["t"], full_refresh=True)
    assert any("goes on behind them" in w for w in result.warnings)
    rows = operator.got if kind == "sinks" else operator.rows["t"]
    assert rows == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]
    assert place.run(operator, id="up", upstream=["a"], enabled=["t"]).ok


def test_a_reader_that_has_it_all_meets_no_gap(place: Any, database: type[Database]) -> None:
    for _ in range(4):
        place.run(Feed)
        place.run(database, id="up", upstream=["a"])
        assert maintain(place).held_back == {}
    assert database.rows == {"t": list(range(20)), "u": [100]}
    assert place.state().retired["t"] == place.state().totals["t"].slot
    assert place.named("/data/") == []


def test_files_that_vanish_while_they_are_loaded_are_a_gap_or_a_damage(place: Any, database: type[Database]) -> None:
    place.run(Feed)
    place.run(Feed)
    real = database.load

    def late(self: Any, load: Load) -> Any:
        if not place.state().retired:
            retire(place)
        return real(self, load)

    database.load = late  # type: ignore[method-assign]
    cursors.forget(place.store, A, ME)
    real_write, cursors_written = cursors.write, []

    def forgotten(store: Any, home: Home, said: Cursor) -> None:
        cursors_written.append(said)
        if said.consumer != ME:
            real_write(store, home, said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cursors, "write", forgotten)
        with pytest.raises(GapError):
            place.run(database, id="up", upstream=["a"], enabled=["t"])
    assert cursors_written
    place.run(Feed, id="b")
    for key in place.named("/b/data/"):
        place.store.delete(key)
    with pytest.raises(CorruptDatastore, match="is gone"):
        place.run(database, id="up2", upstream=["b"], enabled=["u"])
