"""Sessions as a whole: picking tables, full refresh, double starts, warnings, stops, nudges."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import anchovies
from anchovies.core.errors import AlreadyRunning, AnchovyExecutionTimeout, ConfigError
from anchovies.engine.limits import Nudge, Nudges, StopSignal, stopped_by
from anchovies.sdk import Downloader, Tbl, context, source


class Two(Downloader):
    @source("a_one", "a_two")
    def both(self, table: str) -> Any:
        cursor = context().checkpoint(table)
        n = cursor.get(0)
        yield {"n": n}
        cursor.set(n + 1)
        context().ledger(table).put(str(n), n)


def values(place: Any) -> dict[str, Any]:
    return {k: v.value for k, v in place.state().checkpoints.items()}


def test_full_refresh_forgets_what_is_picked(place: Any) -> None:
    place.run(Two)
    place.run(Two)
    assert values(place) == {"a_one": 2, "a_two": 2}
    place.run(Two, full_refresh=True, enabled=["*_one"])
    assert values(place) == {"a_one": 1, "a_two": 2}
    assert (len(place.state().ledgers["a_one"]), len(place.state().ledgers["a_two"])) == (1, 2)
    place.run(Two, full_refresh=True, disabled=["a_one"])
    assert values(place) == {"a_one": 1, "a_two": 1}
    place.run(Two, full_refresh=True)
    assert values(place) == {"a_one": 1, "a_two": 1}
    notes = [r.change.note for r in place.records() if r.kind == "edit"]
    assert [n and n.why for n in notes] == ["--full-refresh"] * 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"enabled": ["nope"]}, "matches no table"),
        ({"disabled": ["nope_*"]}, "matches no table"),
        ({"tbls": {"other": {}}}, "no source serves it"),
    ],
)
def test_what_was_asked_for_and_is_not_there(place: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        place.run(Two, **settings)
    assert not place.named("/data/")


def test_an_operator_without_tables(place: Any) -> None:
    class Nothing(Downloader):
        @source()
        def everything(self) -> Any:
            yield {}

    class Odd(Downloader):
        def discover_tbls(self) -> Any:
            return ["a"]

    with pytest.raises(ConfigError, match="has no tables"):
        place.run(Nothing)
    with pytest.raises(ConfigError, match="yielded a str"):
        place.run(Odd)


def test_a_second_start_keeps_out_of_the_way(place: Any) -> None:
    inside: list[Any] = []

    class Slow(Two):
        def discover_tbls(self) -> Any:
            if not inside:
                inside.append(place.run(Two))
                with pytest.raises(AlreadyRunning):
                    place.run(Two, if_running="fail")
                inside.append(place.run(Two, id="b"))
            yield Tbl("a_one")

    place.run(Slow)
    skipped, other = inside
    assert (skipped.status, skipped.exit_code, skipped.tables) == ("skipped", 0, [])
    assert len(skipped.warnings) == 1
    assert "already run" in skipped.warnings[0]
    assert other.status == "ok"


def test_read_in_full_at_every_run_is_warned_of(place: Any) -> None:
    class Full(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": 1}

    assert place.run(Full).warnings == []
    assert any("read in full and appended" in w for w in place.run(Full).warnings)
    assert place.run(Full, tbls={"t": {"unique_by": "n"}}).warnings == []


def test_progress_and_warnings_reach_the_result(place: Any, heard: Any) -> None:
    events, listener = heard

    class Telling(Downloader):
        @source("t")
        def t(self) -> Any:
            context().progress(bytes_read=10, position="page 1")
            context().progress(bytes_read=5, warning="page 2 was empty")
            yield {"n": 1}
            with pytest.raises(ConfigError, match="progress"):
                context().progress(rows=1)

    result = place.run(Telling, listener=listener)
    assert result.warnings == result.tables[0].warnings == ["page 2 was empty"]
    last = [e for e in events if e.kind == "progress"][-1]
    assert (last.tbl, last.data["rows"], last.data["bytes"], last.data["position"]) == ("t", 1, 15, "page 1")
    kinds = [e.kind for e in events]
    assert [k for k in kinds if k not in ("progress", "warning")] == [
        "session_started", "batch_started", "task_started", "committed", "task_ended", "batch_ended", "session_ended"
    ]  # fmt: skip


@pytest.mark.parametrize("what", [1, "rows", {"n": 1}])
def test_what_is_no_stream_of_rows(place: Any, what: Any) -> None:
    class Odd(Downloader):
        @source("t")
        def t(self) -> Any:
            return what

    with pytest.raises(anchovies.sdk.FatalError, match="returned a"):
        place.run(Odd)


def test_a_timeout_in_this_process_leaves_whole_commits(place: Any) -> None:
    class Slow(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": 1}
            context().checkpoint("n").set(1)
            while True:
                time.sleep(0.01)
                context().batch.check()

    with pytest.raises(AnchovyExecutionTimeout):
        place.run(Slow, execution_timeout=0.3, grace=5)
    assert place.rows("t") == []
    assert place.checkpoint("n") is None


# nudges: into the operator's code, never into ours


def test_a_nudge_is_only_raised_inside() -> None:
    nudges, state = Nudges(), threading.Event()
    outcome: list[Any] = []

    def work() -> None:
        try:
            with nudges:
                state.set()
                while True:
                    pass
        except Nudge:
            outcome.append("nudged")
        for _ in range(1000):
            pass
        outcome.append("went on")

    assert nudges.give() is False
    thread = threading.Thread(target=work)
    thread.start()
    state.wait()
    assert nudges.give() is True
    thread.join(10)
    assert outcome == ["nudged", "went on"]
    assert nudges.give() is True  # once is enough: nothing more comes


def test_nudges_at_random_moments_never_leave_the_guarded_code() -> None:
    """A thread that goes in and out; whenever the nudge comes, our own part between is whole."""
    for _ in range(30):
        nudges, stop = Nudges(), threading.Event()
        broken: list[str] = []

        def work(nudges: Nudges = nudges, stop: threading.Event = stop, broken: list[str] = broken) -> None:
            while not stop.is_set():
                try:
                    with nudges:
                        sum(range(20))
                except Nudge:
                    pass
                try:
                    a = sum(range(20))
                    assert a == 190
                except Nudge:
                    broken.append("a nudge came into our own code")

        thread = threading.Thread(target=work)
        thread.start()
        while not nudges.give():
            pass
        stop.set()
        thread.join(10)
        assert not broken


def test_the_first_reason_to_stop_stays() -> None:
    stop = StopSignal()
    first = stopped_by(15, "SIGTERM")
    stop.set(first)
    stop.set(stopped_by(2, "Ctrl-C"))
    assert stop.reason is first
    assert stop.meaning(Nudge()) is first
    assert isinstance(stop.meaning(ValueError()), ValueError)
    with pytest.raises(type(first)):
        stop.check()
