"""The uploader's side: what is followed, handed over, noted; targets that lose answers; rivals; mistakes in the configuration."""

from __future__ import annotations

from typing import Any

import pytest

import anchovies
from anchovies.core.config import Config
from anchovies.core.errors import ConfigError, HistoryDiverged, RetryableError
from anchovies.core.settings import resolve
from anchovies.engine.events import silent
from anchovies.engine.session import SessionRun
from anchovies.sdk import Downloader, Load, Position, PositionMoved, Stream, Target, Uploader, context, sink, source


class Feed(Downloader):
    """Five more rows of `t` at each run, two tables."""

    step = 5

    @source("t")
    def t(self) -> Any:
        cursor = context().checkpoint("n")
        start = cursor.get(0)
        yield from ({"n": n} for n in range(start, start + self.step))
        cursor.set(start + self.step)

    @source("u")
    def u(self) -> Any:
        if context().checkpoint("u").get() is None:
            yield {"n": 100}
        context().checkpoint("u").set(1)


class Sinks(Uploader):
    """At least once, by its own log."""

    got: list[tuple[str, int]]
    fails = False

    @sink()
    def take(self, stream: Stream, table: str, tbl: Any) -> None:
        assert table == tbl.name
        for row in stream:
            if self.fails:
                raise RuntimeError("the target is down")
            self.got.append((table, row["n"]))


class Target_(Uploader):
    """A transactional target in memory. `lose` loses answers after the commit; `print_` is its fingerprint."""

    rows: dict[str, list[int]]
    at: dict[str, Position]
    lose = 0
    calls: list[str]
    print_ = "one"

    def position(self, target: Target) -> Position | None:
        self.calls.append("position")
        return self.at.get(target.tbl.name)

    def load(self, load: Load) -> Any:
        self.calls.append("load")
        name = load.target.tbl.name
        if self.at.get(name, Position()) != load.start:
            raise PositionMoved("moved")
        self.rows.setdefault(name, []).extend(n for f in load.files for b in f.batches() for n in b.column("n").to_pylist())
        self.at[name] = load.end
        if type(self).lose:
            type(self).lose -= 1
            raise RetryableError("the answer is lost")
        return {"inserted": load.rows}

    def fingerprint(self) -> str:
        return self.print_


@pytest.fixture
def sinks() -> type[Sinks]:
    return type("Sinks", (Sinks,), {"got": []})


@pytest.fixture
def target() -> type[Target_]:
    return type("Target_", (Target_,), {"rows": {}, "at": {}, "calls": []})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.core.clock.SystemClock.sleep", lambda self, seconds: None)


def test_sinks_get_what_is_new_once(place: Any, sinks: type[Sinks]) -> None:
    place.run(Feed)
    place.run(sinks, id="up", upstream=["a"])
    assert sorted(sinks.got) == [*(("t", n) for n in range(5)), ("u", 100)]
    before = place.objects()
    result = place.run(sinks, id="up", upstream=["a"])
    assert (result.commits, len(sinks.got)) == (0, 6)
    assert place.objects() == before
    place.run(Feed)
    place.run(sinks, id="up", upstream=["a"])
    assert [n for t, n in sinks.got if t == "t"] == list(range(10))


def test_a_failing_sink_gets_its_rows_again(place: Any, sinks: type[Sinks]) -> None:
    place.run(Feed)
    sinks.fails = True
    with pytest.raises(Exception, match="down"):
        place.run(sinks, id="up", upstream=["a"])
    sinks.fails = False
    place.run(sinks, id="up", upstream=["a"])
    assert sorted(sinks.got) == [*(("t", n) for n in range(5)), ("u", 100)]


def test_full_refresh_hands_everything_to_sinks_anew(place: Any, sinks: type[Sinks]) -> None:
    place.run(Feed)
    place.run(sinks, id="up", upstream=["a"])
    place.run(sinks, id="up", upstream=["a"], full_refresh=True)
    assert len(sinks.got) == 12
    place.run(sinks, id="up", upstream=["a"])
    assert len(sinks.got) == 12


def test_a_target_with_its_own_position(place: Any, target: type[Target_]) -> None:
    place.run(Feed)
    result = place.run(target, id="up", upstream=["a"])
    assert target.rows == {"t": list(range(5)), "u": [100]}
    assert result.tables[0].counts == {"inserted": 5}
    target.calls.clear()
    place.run(target, id="up", upstream=["a"])
    assert target.calls == []  # idle: nothing is asked


@pytest.mark.parametrize("lose", [1, 2, 3])
def test_an_answer_that_is_lost_after_the_commit_loads_nothing_twice(place: Any, target: type[Target_], lose: int) -> None:
    target.lose = lose
    for _ in range(3):
        place.run(Feed)
        place.run(target, id="up", upstream=["a"])
    assert target.rows == {"t": list(range(15)), "u": [100]}
    target.calls.clear()
    place.run(target, id="up", upstream=["a"])
    assert target.calls == []


def test_a_renamed_uploader_goes_on_and_learns_where_the_target_stands(place: Any, target: type[Target_]) -> None:
    place.run(Feed)
    place.run(target, id="up", upstream=["a"])
    place.run(target, id="renamed", upstream=["a"])
    assert target.rows["t"] == list(range(5))
    target.calls.clear()
    place.run(target, id="renamed", upstream=["a"])
    assert target.calls == []


def test_a_rival_that_is_ahead_of_what_we_read_is_no_divergence(place: Any, target: type[Target_]) -> None:
    place.run(Feed)
    real = target.position

    def position(self: Any, at: Target) -> Position | None:
        if not place.named("/rival/"):
            place.run(Feed)
            target.position = real  # type: ignore[method-assign]
            place.run(target, id="rival", upstream=["a"])
        return real(self, at)

    target.position = position  # type: ignore[method-assign]
    place.run(target, id="up", upstream=["a"])
    assert target.rows == {"t": list(range(10)), "u": [100]}


def test_a_target_that_moves_under_the_load_is_asked_again(place: Any, target: type[Target_]) -> None:
    place.run(Feed)
    real, moved = target.load, []

    def load(self: Any, it: Load) -> Any:
        if not moved:
            moved.append(1)
            real(self, it)
            return real(self, it)  # raises PositionMoved: the rival was faster
        return real(self, it)

    target.load = load  # type: ignore[method-assign]
    place.run(target, id="up", upstream=["a"])
    assert target.rows == {"t": list(range(5)), "u": [100]}


def test_a_target_ahead_of_the_log_is_refused(place: Any, target: type[Target_]) -> None:
    place.run(Feed)
    target.at["t"] = Position(99, "c")
    with pytest.raises(HistoryDiverged, match="99"):
        place.run(target, id="up", upstream=["a"])


def test_another_target_is_loaded_from_the_start(place: Any, target: type[Target_]) -> None:
    place.run(Feed)
    place.run(target, id="up", upstream=["a"])
    target.rows.clear()
    target.at.clear()
    target.print_ = "two"
    place.run(target, id="up", upstream=["a"])
    assert target.rows == {"t": list(range(5)), "u": [100]}


def test_full_refresh_of_a_target_says_that_it_forgets_nothing(place: Any, target: type[Target_]) -> None:
    place.run(Feed)
    place.run(target, id="up", upstream=["a"])
    result = place.run(target, id="up", upstream=["a"], full_refresh=True)
    assert target.rows["t"] == list(range(5))
    assert any("lies in the target" in w for w in result.warnings)


def test_several_upstreams_and_those_of_other_users(place: Any, sinks: type[Sinks]) -> None:
    place.run(Feed)
    place.run(Feed, id="b")
    anchovies.run(Feed, id="a", user="other", datastore=place.url)
    place.run(sinks, id="up", upstream=["a", "b", "other/a"])
    assert len(sinks.got) == 18
    place.run(sinks, id="up2", upstream=["a", "b", "other/a"], enabled=["b.t", "other/a.u"])
    assert len(sinks.got) == 18 + 6
    place.run(sinks, id="up3", upstream=["a", "b"], enabled=["*.t"], disabled=["b.*"])
    assert len(sinks.got) == 24 + 5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"upstream": []}, "whose rows to load"),
        ({"upstream": ["aa"]}, "has kept nothing"),
        ({"upstream": ["a"], "enabled": ["nope"]}, "matches no table"),
        ({"upstream": ["a"], "tbls": {"tt": {}}}, "no upstream has a table"),
    ],
)
def test_mistakes_are_exit_2(place: Any, sinks: type[Sinks], settings: dict[str, Any], says: str) -> None:
    place.run(Feed)
    before = place.objects()
    with pytest.raises(ConfigError, match=says) as caught:
        place.run(sinks, id="up", **settings)
    assert caught.value.exit_code == 2
    assert [k for k in place.objects() if k not in before and "task_logs" not in k] == []


def test_a_missing_upstream_may_be_allowed(place: Any, sinks: type[Sinks]) -> None:
    place.run(Feed)
    result = place.run(sinks, id="up", upstream=["a", "later"], upstream_may_be_missing=True)
    assert result.ok
    assert len(sinks.got) == 6
    assert place.run(sinks, id="up9", upstream=["later"], upstream_may_be_missing=True).ok


def test_a_table_that_no_sink_takes(place: Any) -> None:
    class Some(Uploader):
        @sink("t")
        def t(self, stream: Stream) -> None:
            list(stream)

    place.run(Feed)
    with pytest.raises(ConfigError, match="no sink takes table 'u'"):
        place.run(Some, id="up", upstream=["a"])
    assert place.run(Some, id="up", upstream=["a"], disabled=["u"]).ok


def test_two_sessions_of_one_uploader_load_each_row_once(place: Any, target: type[Target_]) -> None:
    """The second does not look at the lease and loads everything while the first is about to: the first begins again."""
    place.run(Feed)
    real, rivals = target.load, []

    def load(self: Any, it: Load) -> Any:
        if not rivals:
            settings = resolve({"id": "up", "user": "tester", "datastore": place.url, "upstream": ["a"]}, {}, Config())
            rivals.append(SessionRun(target, settings, Config(), {}, silent, place.store))
            rivals[0].work()
            assert rivals[0].error is None
        return real(self, it)

    target.load = load  # type: ignore[method-assign]
    result = place.run(target, id="up", upstream=["a"])
    assert (result.status, target.rows) == ("ok", {"t": list(range(5)), "u": [100]})
    target.calls.clear()
    place.run(target, id="up", upstream=["a"])
    assert target.calls == []
