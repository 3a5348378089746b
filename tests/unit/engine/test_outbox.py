"""The source is told only of what is committed, and of all of it: whatever fails, ends or begins again in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from anchovies.core.clock import SystemClock
from anchovies.core.config import Config
from anchovies.core.errors import CommitUnknown, ConfigError, FatalError, Fenced, StoreUnavailable
from anchovies.core.ids import SystemIds
from anchovies.core.settings import resolve
from anchovies.engine import outbox
from anchovies.engine.events import silent
from anchovies.engine.limits import stopped_by
from anchovies.engine.look import preview
from anchovies.engine.session import SessionRun
from anchovies.sdk import Downloader, Uploader, context, on_ack, on_task, sink, source
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.record import Change, Note, Writer
from anchovies.testing.context import FakeContext
from anchovies.testing.faults import FaultyStore


class Inbox(Downloader):
    """Messages that wait at the source until somebody says that they were kept."""

    waiting: list[str]
    told: list[list[str]]
    place: Any = None
    fails = False

    @source("mail")
    def mail(self) -> Any:
        for message in list(self.waiting):
            yield pa.table({"m": [message]})  # Arrow data are taken one by one
            context().ack(message)

    @on_ack
    def confirm(self, tokens: list[str]) -> None:
        if self.place is not None:
            kept = [r["m"] for r in self.place.rows("mail")]
            assert set(tokens) <= set(kept), "the source is told of what is not committed"
        self.told.append(tokens)
        if self.fails:
            raise RuntimeError("the source is down")
        type(self).waiting = [m for m in self.waiting if m not in tokens]


@pytest.fixture
def inbox(place: Any) -> type[Inbox]:
    return type("Inbox", (Inbox,), {"waiting": ["a", "b", "c"], "told": [], "place": place})


def pending(place: Any) -> list[str]:
    found: list[str] = place.state().ack_pending
    return found


def test_what_was_committed_is_acknowledged_once(place: Any, inbox: type[Inbox]) -> None:
    result = place.run(inbox)
    assert result.ok and inbox.told == [["a", "b", "c"]]
    assert [r.change.ack_pending for r in place.records()] == [["a", "b", "c"], []], "the last record forgets what is done"
    objects = place.objects()
    assert place.run(inbox).commits == 0
    assert inbox.told == [["a", "b", "c"]]
    assert place.objects() == objects, "an idle run leaves nothing"


def test_every_commit_tells_at_once_and_the_next_one_forgets(place: Any, inbox: type[Inbox]) -> None:
    place.run(inbox, commit_bytes=1)
    assert inbox.told == [["a"], ["b"], ["c"]]
    assert [r.change.ack_pending for r in place.records()] == [["a"], ["b"], ["c"], []]


def test_a_failing_method_is_a_warning_and_the_tokens_stay(place: Any, inbox: type[Inbox]) -> None:
    inbox.fails = True
    heard = []
    inbox.on_error = on_task("error")(lambda self, error: heard.append(str(error)))  # type: ignore[attr-defined]
    result = place.run(inbox, commit_bytes=1)
    assert (result.status, heard) == ("ok", ["the source is down"] * 4)
    assert [w for w in result.warnings if "confirm failed: RuntimeError: the source is down" in w]
    assert pending(place) == ["a", "b", "c"]
    assert [len(t) for t in inbox.told] == [1, 2, 3, 3], "the last record says that the task was complete"
    assert '"task_type":"ACK"' in place.store.get(place.named("$task_logs")[0]).decode()
    inbox.fails = False
    inbox.told.clear()
    assert place.run(inbox, disabled=[]).ok
    assert inbox.told[0] == ["a", "b", "c"], "before anything is read"
    assert len(place.rows("mail")) == 3, "so nothing was read again"
    assert pending(place) == []


def test_a_method_that_comes_back_gets_old_and_new(place: Any, inbox: type[Inbox]) -> None:
    inbox.fails = True
    place.run(inbox)
    inbox.waiting = ["d"]
    place.run(inbox)
    assert inbox.told == [["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c", "d"]]
    assert pending(place) == ["a", "b", "c", "d"]


def test_tokens_that_nobody_takes_are_told_and_kept(place: Any, inbox: type[Inbox]) -> None:
    class Without(Downloader):
        @source("mail")
        def mail(self) -> Any:
            yield {"m": "z"}

    inbox.fails = True
    place.run(inbox)
    result = place.run(Without)
    assert any("3 acknowledgements stay pending: no method of Without is marked with @on_ack" in w for w in result.warnings)
    assert pending(place) == ["a", "b", "c"]


def test_too_many_that_fail_stop_the_reading(place: Any, inbox: type[Inbox], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_PENDING", 2)
    inbox.fails = True
    place.run(inbox)
    with pytest.raises(FatalError, match="3 acknowledgements are pending"):
        place.run(inbox)
    assert len(place.rows("mail")) == 3
    inbox.fails = False
    assert place.run(inbox).ok


def test_many_tokens_cut_a_commit(place: Any, inbox: type[Inbox]) -> None:
    inbox.waiting = [str(n) for n in range(2_500)]
    place.run(inbox)
    assert [len(t) for t in inbox.told] == [1000, 1000, 500]


@pytest.mark.parametrize("token", ["", 3, None, "x" * 1025, "ä" * 513, "\ud800", b"x"])
def test_tokens_that_are_none(place: Any, token: Any) -> None:
    class Odd(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": 1}
            context().ack(token)

        @on_ack
        def done(self, tokens: list[str]) -> None:
            raise AssertionError

    with pytest.raises(ConfigError, match="1 to 1024 bytes"):
        place.run(Odd)


def test_ack_without_a_method_for_it(place: Any) -> None:
    class Odd(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": 1}
            context().ack("x")

    with pytest.raises(ConfigError, match="no method of the operator is marked with @on_ack"):
        place.run(Odd)
    with pytest.raises(ConfigError, match="takes a method"):
        on_ack("x")  # type: ignore[type-var]


class Lost(FaultyStore):
    """A datastore that takes the slot `at` and never says so."""

    at = 1
    lost = False

    def create(self, key: str, data: bytes) -> None:
        self.inner.create(key, data)
        if f"{self.at:016d}.json" in key and "/log/" in key:
            self.lost = True
            raise StoreUnavailable("lost")

    def get(self, key: str) -> bytes:
        if self.lost:
            raise StoreUnavailable("down")
        return self.inner.get(key)


def test_nothing_is_told_while_nobody_knows(
    place: Any, inbox: type[Inbox], swap_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anchovies.core.clock.SystemClock.sleep", lambda self, seconds: None)
    swap_store(place, Lost)
    with pytest.raises(CommitUnknown):
        place.run(inbox)
    assert inbox.told == []
    monkeypatch.undo()
    assert place.run(inbox).ok, "the next session finds the ghost in the log"
    assert inbox.told == [["a", "b", "c"]]
    assert [r["m"] for r in place.rows("mail")] == ["a", "b", "c"]


def test_a_session_that_was_fenced_tells_nothing(place: Any, inbox: type[Inbox]) -> None:
    heir = type("Heir", (Inbox,), {"waiting": ["a", "b"], "told": [], "place": place})
    real = inbox.mail

    @source("mail")
    def mail(self: Any) -> Any:
        for n, row in enumerate(real(self)):
            if n == 2:
                _session(place, heir)  # without a look at the lease
            yield row

    inbox.mail = mail  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        place.run(inbox, commit_bytes=1)
    assert inbox.told == [["a"]], "what it had committed before"
    assert heir.told == [["a"], ["b"]], "first what it found pending"


def _session(place: Any, operator: type) -> None:
    settings = resolve({"id": "a", "user": "tester", "datastore": place.url}, {}, Config())
    SessionRun(operator, settings, Config(), {}, silent, place.store).work()


def test_a_rival_that_is_first_makes_the_batch_begin_again(place: Any, inbox: type[Inbox]) -> None:
    rival = type("Rival", (Inbox,), {"waiting": ["a"], "told": [], "place": place})
    real, rivals = inbox.mail, []

    @source("mail")
    def mail(self: Any) -> Any:
        if not rivals:
            rivals.append(_session(place, rival))
        yield from real(self)

    inbox.mail = mail  # type: ignore[method-assign]
    assert place.run(inbox).ok
    assert rival.told == [["a"]] and inbox.told == [["a", "b", "c"]]
    assert pending(place) == []


def test_what_another_session_committed_is_made_durable_before_it_is_told(
    place: Any, inbox: type[Inbox], swap_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anchovies.core.clock.SystemClock.sleep", lambda self, seconds: None)
    inbox.fails = True
    place.run(inbox)
    inbox.fails = False
    inbox.told.clear()

    class NoSettle(FaultyStore):
        def settle(self, key: str) -> None:
            raise StoreUnavailable("the disk is gone")

    swap_store(place, NoSettle)
    inbox.waiting = []
    place.run(inbox)
    assert inbox.told == [] and pending(place) == ["a", "b", "c"]


def test_hooks_and_chains_may_acknowledge_too(place: Any) -> None:
    class Chain(Downloader):
        told: list[str] = []

        @source("a")
        def a(self) -> Any:
            yield from ({"n": n} for n in range(3))

        @source("b")
        @sink("a", streaming=True)
        def b(self, stream: Any) -> Any:
            for row in stream:
                yield row
                context().ack(f"b{row['n']}")

        @on_task("xclose")
        def end(self) -> None:
            context().ack("end")

        @on_ack
        def done(self, tokens: list[str], task: Any, **kwds: Any) -> None:
            assert task.type == "ACK" and not kwds.keys() - {"batch", "session", "worker"}
            self.told.extend(tokens)

    place.run(Chain)
    assert Chain.told == ["b0", "b1", "b2", "end"]
    assert pending(place) == []


def test_an_uploader_keeps_what_is_pending(place: Any, inbox: type[Inbox]) -> None:
    class Up(Uploader):
        told: list[list[str]] = []
        fails = True

        @sink()
        def take(self, stream: Any) -> None:
            context().ack(f"{len(list(stream))} rows")

        @on_ack
        def done(self, tokens: list[str]) -> None:
            self.told.append(tokens)
            if self.fails:
                raise RuntimeError

    place.run(inbox)
    place.run(Up, id="up", upstream=["a"])
    Up.fails = False
    place.run(Up, id="up", upstream=["a"])
    assert Up.told == [["3 rows"], ["3 rows"]]
    assert place.state("up").ack_pending == []


def test_a_preview_tells_nobody(place: Any, inbox: type[Inbox]) -> None:
    ((_, table),) = preview(inbox, resolve({"id": "a", "user": "u", "datastore": place.url}, {}, Config()), Config(), {})
    assert table.num_rows == 3 and inbox.told == []


def test_a_service_goes_on_after_a_failure(place: Any, inbox: type[Inbox]) -> None:
    inbox.fails = True
    more = {"service": True, "interval": 0.01}
    run = SessionRun(
        inbox,
        resolve({"id": "a", "user": "tester", "datastore": place.url, **more}, {}, Config()),
        Config(),
        {},
        silent,
        place.store,
    )
    work = threading.Thread(target=run.work)
    work.start()
    end = time.monotonic() + 30
    while len(inbox.told) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    inbox.fails = False
    while inbox.waiting and time.monotonic() < end:
        time.sleep(0.01)
    run.stop.set(stopped_by(15, "SIGTERM"))
    work.join(30)
    assert inbox.waiting == [] and pending(place) == []


def test_a_source_is_tested_by_calling_it() -> None:
    box = type("Box", (Inbox,), {"waiting": ["a", "b"], "told": []})()
    ctx = FakeContext()
    ctx.run(box.mail())
    assert (ctx.acks, ctx.rows, len(ctx.units)) == (["a", "b"], [{"m": "a"}, {"m": "b"}], 2)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_requests_fail_the_source_is_told_of_all_and_of_nothing_else(
    new_place: Callable[[], Any], data: st.DataObject
) -> None:
    """The inbox again, on a datastore whose n-th request fails: whatever comes of it, in the end each message is kept once."""
    place = new_place()
    box = type("Box", (Inbox,), {"waiting": list("abcdef"), "told": [], "place": place})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anchovies.core.clock.SystemClock.sleep", lambda self, seconds: None)
        for _ in range(data.draw(st.integers(1, 4))):
            box.fails = data.draw(st.booleans())
            nth, when = data.draw(st.integers(1, 40)), data.draw(st.sampled_from(["before", "after"]))
            faulty = FaultyStore(place.store, nth, when, times=data.draw(st.sampled_from([1, 2, 99])))
            with patch.context() as swapped:
                swapped.setattr("anchovies.engine.api.open_store", lambda *args, faulty=faulty: faulty)
                _tried(place, box)
    box.fails = False
    place.run(box)
    place.run(box)
    assert box.waiting == []
    assert sorted({r["m"] for r in place.rows("mail")}) == list("abcdef")
    assert pending(place) == []


def _tried(place: Any, box: type[Inbox]) -> None:
    with suppress(StoreUnavailable, CommitUnknown):
        place.run(box, commit_bytes=1)


@pytest.mark.parametrize("kind", ["edit", "reset", "retire"])
def test_what_is_done_by_hand_forgets_no_token(place: Any, inbox: type[Inbox], kind: str) -> None:
    inbox.fails = True
    place.run(inbox)
    writer = Writer(host="h", pid=1, session="s", batch=0, version="0")
    log = Log(place.store, Home("tester", "a"), clock=SystemClock(), ids=SystemIds(), writer=writer)
    log.load()
    note = Note("me", "because")
    log.retire({}, note) if kind == "retire" else getattr(log, kind)(Change(note=note))
    assert pending(place) == ["a", "b", "c"]
    inbox.fails = False
    place.run(inbox)
    assert inbox.waiting == []
