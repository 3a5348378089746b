"""What a replay refuses, what it asks of an uploader, and what it writes down; and targets that are asked although nothing is new."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from anchovies.core.clock import SystemClock
from anchovies.core.config import Config
from anchovies.core.errors import ConfigError
from anchovies.core.ids import SystemIds
from anchovies.core.settings import resolve
from anchovies.engine import polls
from anchovies.engine import upload as upload_module
from anchovies.engine.api import Hooks, run_session
from anchovies.engine.edits import edit_log
from anchovies.engine.replay import Wanted, into, parse_as_of, replaying
from anchovies.sdk import Downloader, Load, Position, RetryableError, SessionResult, Target, Uploader, sink, source
from anchovies.store.keys import Home
from anchovies.store.record import Note

UPSTREAM = Home("tester", "a")


class Rows(Downloader):
    @source("t")
    def t(self, **kwds: Any) -> Any:
        yield {"n": 1}


class Shelf(Uploader):
    """A transactional target in memory: rows by table, and where each stands."""

    at: ClassVar[dict[str, Position]] = {}
    rows: ClassVar[dict[str, int]] = {}
    asked: ClassVar[list[str]] = []
    silent: ClassVar[bool] = False
    can_replace = True

    def position(self, target: Target) -> Position | None:
        type(self).asked.append(target.tbl.name)
        if type(self).silent:
            raise RetryableError("no answer")
        return self.at.get(target.tbl.name)

    def load(self, load: Load) -> dict[str, int]:
        name = load.target.tbl.name
        if load.replaces is not None:
            self.rows[name] = 0
        self.rows[name] = self.rows.get(name, 0) + load.rows
        self.at[name] = load.end
        return {"inserted": load.rows}


@pytest.fixture
def shelf() -> type[Shelf]:
    class Mine(Shelf):
        at: ClassVar[dict[str, Position]] = {}
        rows: ClassVar[dict[str, int]] = {}
        asked: ClassVar[list[str]] = []

    return Mine


@pytest.fixture
def ran(place: Any) -> Any:
    for _ in range(3):
        place.run(Rows)
    return place


def replay(place: Any, operator: type[Uploader], as_of: Any = None, *, yes: bool = True, **more: Any) -> SessionResult:
    given = {"id": "w", "user": "tester", "datastore": place.url, "upstream": ["a"], **more}
    why = Note(who="me@here", why="a test")
    return run_session(
        operator, resolve(given, {}, Config()), Config(), {}, hooks=Hooks(make_work=replaying(Wanted(as_of or {}, yes, why)))
    )


def upload(place: Any, operator: type[Uploader]) -> SessionResult:
    found: SessionResult = place.run(operator, id="w", upstream=["a"])
    return found


def test_our_own_log_forgets_before_the_table_does(ran: Any, shelf: type[Shelf]) -> None:
    upload(ran, shelf)
    assert replay(ran, shelf, {"": 1}).commits == 2
    assert (shelf.rows, shelf.at["t"].slot) == ({"t": 1}, 1)
    loads = [(r.change.loaded[0].start, r.change.loaded[0].end, r.change.note) for r in ran.records("w")]
    note = Note(who="me@here", why="a test")
    assert loads == [(0, 3, None), (3, 0, note), (0, 1, note)]
    upload(ran, shelf)
    assert (shelf.rows, shelf.at["t"].slot) == ({"t": 3}, 3)


def test_a_table_that_brought_nothing_by_then_is_emptied(ran: Any, shelf: type[Shelf]) -> None:
    class Other(Downloader):
        @source("t")
        def t(self, **kwds: Any) -> Any:
            return ()

    ran.run(Other, id="empty")  # a record that only knows that there is such a table
    ran.run(Rows, id="empty")
    ran.run(shelf, id="w", upstream=["empty"])
    assert shelf.rows == {"t": 1}
    assert replay(ran, shelf, {"": 1}, upstream=["empty"]).exit_code == 0
    assert (shelf.rows, shelf.at["t"].slot) == ({"t": 0}, 1)


def test_what_was_given_up_cannot_be_replayed(ran: Any, shelf: type[Shelf]) -> None:
    log = edit_log(ran.store, UPSTREAM, SystemClock(), SystemIds())
    log.load()
    log.retire({"t": 2}, Note(who="x", why="y"))
    result = replay(ran, shelf)
    assert (result.err_type, shelf.rows) == ("GapError", {})
    assert "up to slot 2 were given up" in str(result.err_msg)


def test_an_uploader_that_cannot_replace_loads_what_is_not_there(ran: Any, shelf: type[Shelf]) -> None:
    shelf.can_replace = False  # type: ignore[misc]
    assert replay(ran, shelf).exit_code == 0
    assert shelf.rows == {"t": 3}
    assert "cannot make a table anew" in str(replay(ran, shelf).err_msg)


def test_sinks_have_no_table_to_make_anew(ran: Any) -> None:
    class Sinks(Uploader):
        @sink("t")
        def t(self, stream: Any, **kwds: Any) -> None:
            list(stream)

    assert "keeps no position in its target" in str(replay(ran, Sinks).err_msg)


def test_a_rival_that_loads_on_meanwhile_is_told_of(ran: Any, shelf: type[Shelf]) -> None:
    class Rival(shelf):  # type: ignore[misc,valid-type]
        def load(self, load: Load) -> dict[str, int]:
            self.at["t"] = Position(3, ran.records()[2].cid)
            if self.asked.count("t") < 4:
                self.rows["t"] = 9
                if load.start.slot:
                    raise RetryableError("somebody was faster")
                return {}
            return {}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(upload_module, "MOST_BYTES", 1)
        result = replay(ran, Rival, {"": 2})
    assert "an uploader loads it at the same time" in str(result.err_msg)


@pytest.mark.parametrize(("texts", "found"), [([], {}), (["12"], {"": 12}), (["a=1", "me/b=2"], {"a": 1, "me/b": 2})])
def test_as_of(texts: list[str], found: dict[str, int]) -> None:
    assert parse_as_of(texts) == found


@pytest.mark.parametrize("texts", [["x"], ["0"], ["-1"], ["a=x"], ["1", "2"], ["a=1", "a=2"], [""]])
def test_as_of_that_cannot_be(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match="--as-of"):
        parse_as_of(texts)


def test_into_takes_the_place_of_the_url_and_of_nothing_else() -> None:
    env = {"ACHVY_CNXN__DB__URI": "a://x", "ACHVY_CNXN__DB__TIMEOUT": "3", "HOME": "h", "ACHVY_CNXN__COPY__URL_FILE": "f"}
    assert into(env, "b://y") == {
        "ACHVY_CNXN__DB__TIMEOUT": "3", "HOME": "h", "ACHVY_CNXN__COPY__URL_FILE": "f", "ACHVY_CNXN__DB__URL": "b://y",
    }  # fmt: skip
    assert into(env, "copy") == {"HOME": "h", "ACHVY_CNXN__COPY__URL_FILE": "f", "ACHVY_CNXN__DB__URL_FILE": "f"}
    with pytest.raises(ConfigError, match="no such connection"):
        into(env, "cpoy")


def test_now_and_then_a_target_is_asked_although_nothing_is_new(
    ran: Any, shelf: type[Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "LOOK_EVERY", 4)
    upload(ran, shelf)
    shelf.at["t"], shelf.rows["t"] = Position(1, ran.records()[0].cid), 1  # an older backup
    shelf.asked.clear()
    runs = [upload(ran, shelf).rows for _ in range(6)]
    assert sorted(runs) == [0, 0, 0, 0, 0, 2]
    assert (shelf.rows, len(shelf.asked) <= 4) == ({"t": 3}, True)


def test_a_target_that_does_not_answer_then_is_no_failure(ran: Any, shelf: type[Shelf], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls, "LOOK_EVERY", 2)
    upload(ran, shelf)
    shelf.silent = True  # type: ignore[misc]
    assert [upload(ran, shelf).status for _ in range(4)] == ["ok"] * 4
    assert len(shelf.asked) > 1
