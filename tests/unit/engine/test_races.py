"""Other sessions of the same anchovy, and stores that lose answers: begun again, fenced, unknown; never doubled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

import anchovies
from anchovies.core.clock import SystemClock
from anchovies.core.config import Config
from anchovies.core.errors import AnchovyError, CommitUnknown, Fenced, StoreUnavailable
from anchovies.core.ids import SystemIds
from anchovies.core.settings import resolve
from anchovies.engine.events import silent
from anchovies.engine.session import SessionRun
from anchovies.sdk import Downloader, context, on_task, source
from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.record import Change, Checkpoints, CheckpointValue, Note, Writer
from anchovies.testing.faults import FaultyStore


def unleased(place: Any, operator: type) -> AnchovyError | None:
    """A rival session that does not look at the lease; the error that ended it."""
    settings = resolve({"id": "a", "user": "tester", "datastore": place.url}, {}, Config())
    run = SessionRun(operator, settings, Config(), {}, silent, place.store)
    run.work()
    assert run.error is None or isinstance(run.error, AnchovyError)
    return run.error


def counting(rows: int, before_row: Callable[[int], None] = lambda n: None) -> type[Downloader]:
    class Counting(Downloader):
        attempts = 0
        errors: list[str] = []

        @on_task("error")
        def on_error(self, error: BaseException) -> None:
            self.errors.append(str(error))

        @source("t")
        def t(self) -> Any:
            type(self).attempts += 1
            cursor = context().checkpoint("n")
            for n in range(cursor.get(0), rows):
                before_row(n)
                yield pa.table({"n": [n]})  # Arrow data are taken one by one, so that commits can fall between
                cursor.set(n + 1)

    return Counting


def test_a_session_that_was_overtaken_begins_again(place: Any) -> None:
    rival = counting(5)

    def overtake(n: int) -> None:
        if n == 0:
            assert unleased(place, rival) is None

    slow = counting(8, overtake)
    result = place.run(slow)
    assert [r["n"] for r in place.rows("t")] == list(range(8))
    assert slow.attempts == 2
    assert slow.errors == []
    assert any("Beginning again" in w for w in result.warnings)
    assert [(t.rows, t.kept) for t in result.tables] == [(3, 3)]
    assert len(place.named("/data/")) == len(place.files("t"))


def test_a_session_that_is_overtaken_after_its_first_commit_is_fenced(place: Any) -> None:
    rival = counting(6)

    def overtake(n: int) -> None:
        if n == 4:
            assert unleased(place, rival) is None

    with pytest.raises(Fenced):
        place.run(counting(8, overtake), commit_seconds=0, commit_bytes=1)
    rows = [r["n"] for r in place.rows("t")]
    assert rows == list(range(6))
    place.run(counting(8))
    assert [r["n"] for r in place.rows("t")] == list(range(8))


class Loses(FaultyStore):
    """Loses the answer of every `create` of a log slot (after its effect, if `lands`), and then does not let it be read."""

    lands = True
    lost = 0

    def _do(self, verb: str, key: str, do: Callable[[], Any]) -> Any:
        if "/$log/log/" not in key or (verb == "get" and not self.lost):
            return do()
        if verb == "create":
            self.lost += 1
            if self.lands:
                do()
        raise StoreUnavailable(f"{verb}: the answer is lost")


@pytest.mark.parametrize("lands", [True, False])
def test_a_commit_of_unknown_fate_keeps_its_files(
    place: Any, swap_store: Any, lands: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anchovies.core.clock.SystemClock.sleep", lambda self, seconds: None)
    monkeypatch.setattr(Loses, "lands", lands)
    swap_store(place, Loses)
    with pytest.raises(CommitUnknown) as caught:
        place.run(counting(3))
    assert caught.value.exit_code == 1
    assert len(place.named("/data/")) == 1
    monkeypatch.undo()
    place.run(counting(5))
    assert [r["n"] for r in place.rows("t")] == list(range(5))


def test_single_failures_of_the_store_are_tried_again(new_place: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th request fails, for every n, before or after its effect: the run ends well all the same, or says what failed."""
    monkeypatch.setattr("anchovies.core.clock.SystemClock.sleep", lambda self, seconds: None)
    for when in ("before", "after"):
        nth, hit = 0, True
        while hit:
            nth += 1
            place = new_place()
            store = FaultyStore(place.store, nth, when)
            monkeypatch.setattr("anchovies.engine.api.open_store", lambda *args, store=store: store)
            anchovies.run(counting(3), id="a", user="tester", datastore=place.url, commit_bytes=1)
            hit = store.hit
            assert [r["n"] for r in place.rows("t")] == [0, 1, 2], (when, nth, store.ops[nth - 1 : nth])
            assert place.checkpoint("n") == 3
        assert nth > 8


def test_a_store_that_stays_down_is_an_error_and_no_hang(place: Any, swap_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.core.clock.SystemClock.sleep", lambda self, seconds: None)
    store = swap_store(place, FaultyStore)

    class Falls(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": 1}
            store.down = True
            context().checkpoint("n").set(1)

    with pytest.raises(StoreUnavailable):
        place.run(Falls)
    assert place.rows("t") == []
    assert isinstance(store, Store)


def test_an_edit_of_what_a_batch_read_begins_it_again(place: Any) -> None:
    place.run(counting(3))
    edited = []

    def edit(n: int) -> None:
        if not edited:
            edited.append(n)
            log = Log(place.store, Home("tester", "a"), clock=SystemClock(), ids=SystemIds(), writer=Writer("h", 1, "s", 0, "0"))
            log.load()
            change = Change(checkpoints=Checkpoints(set={"n": CheckpointValue(value=5)}), note=Note(who="me", why="test"))
            log.edit(change)

    place.run(counting(8, edit))
    assert edited == [3]
    assert [r["n"] for r in place.rows("t")] == [0, 1, 2, 5, 6, 7]
