"""What an operator class says of itself: marks, connections, sources and sinks."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from anchovies.core.errors import ConfigError, FatalError
from anchovies.engine.calls import call
from anchovies.engine.routes import Routes
from anchovies.sdk import Connection, ConnectionMemo, Downloader, Secret, Stream, Uploader, attr, context, on_task, sink, source
from anchovies.sdk.context import entered
from anchovies.sdk.markers import SourceSpec, specs_of
from anchovies.testing.context import FakeContext

if TYPE_CHECKING:
    import somewhere_that_is_not_installed


class Api(Connection):
    url: Secret = attr("where", aliases=("uri",))
    timeout: float | None = None


class Base(Downloader):
    api: Api
    odd: somewhere_that_is_not_installed.Thing  # what only a type checker can read is passed over
    memo = ConnectionMemo("named", dict)
    plain: int = 3

    @source("exact")
    def exact(self) -> Any:
        yield {"n": 1}

    @source("glob_*")
    def globs(self) -> Any:
        yield {}

    @source()
    def rest(self) -> Any:
        yield {}

    @sink("exact")
    @sink("glob_*")
    def eat(self, stream: Stream) -> None:
        list(stream)


def test_marks_leave_the_function_as_it_is() -> None:
    assert list(Base().exact()) == [{"n": 1}]
    assert specs_of(Base.exact) == (SourceSpec(("exact",), False, True),)
    assert Base().sources == ("exact", "globs", "rest")
    assert Base().sinks == ("default_sink", "eat")


def test_exact_names_win_over_globs_and_globs_over_everything() -> None:
    routes = Routes(Base)
    assert [routes.source(t) for t in ("exact", "glob_x", "other")] == ["exact", "globs", "rest"]
    assert [r.method for r in routes.sinks("exact")] == [r.method for r in routes.sinks("glob_x")] == ["eat"]
    assert routes.takers("other") == {}
    assert routes.exact_tables() == ["exact"]
    assert routes.stores("exact")


def test_an_override_without_marks_takes_the_base_s_away() -> None:
    class Less(Base):
        def exact(self) -> Any:
            return ()

    assert "exact" not in Less().sources


def test_hooks_by_phase_and_table() -> None:
    class Hooked(Downloader):
        @on_task("tbl")
        def every(self) -> None: ...

        @on_task("tbl", tbl="a")
        def one(self) -> None: ...

    routes = Routes(Hooked)
    assert (routes.hooks("tbl", "a"), routes.hooks("tbl", "b"), routes.hooks("xopen")) == (["every", "one"], ["every"], [])
    with pytest.raises(ConfigError, match="no such phase"):
        on_task("later")  # type: ignore[arg-type]


@pytest.mark.parametrize("mark", [source, sink])
def test_table_names_are_texts(mark: Any) -> None:
    with pytest.raises(ConfigError, match="table names are texts"):
        mark(1)
    with pytest.raises(ConfigError, match="table names are texts"):
        mark("")


def test_connections_that_a_class_names() -> None:
    assert Base.connection_classes() == {"api": Api, "named": dict}
    assert isinstance(Base.memo, ConnectionMemo)
    with pytest.raises(ConfigError, match="Base has no default connection"):
        _ = Base().cnxn
    with pytest.raises(AttributeError, match="'odd'"):
        _ = Base().odd


def test_a_connection_opens_once_and_hides_what_it_was_given() -> None:
    said: list[str] = []

    class Door(Api):
        def open(self) -> None:
            said.append("open")

        def close(self) -> None:
            said.append("close")

    door = Door(id="front", uri="http://me:correct-horse@x", timeout="2.5")
    with door, door:
        assert door.ensure_open() is door
    door.check()
    assert said == ["open", "close", "open", "close"]
    assert repr(door) == "<Door front>"
    assert (door.timeout, door.url.reveal()) == (2.5, "http://me:correct-horse@x")
    assert "correct-horse" not in f"{door} {door.url} {vars(door)}"
    assert Door.takes() == "it takes: url, timeout (optional)"


def test_a_class_of_attributes_that_cannot_be() -> None:
    class Wrong(Connection):
        many: list[str] = attr("no")

    with pytest.raises(ConfigError, match="not possible"):
        Wrong(many="x")


def test_calls_hand_in_what_is_named() -> None:
    given = {"tbl": 1, "table": "t"}
    assert call(lambda: "none", given) == "none"
    assert call(lambda table: table, given) == "t"
    assert call(lambda table, other=5: (table, other), given) == ("t", 5)
    assert call(lambda **kwds: kwds, given) == given
    assert call(lambda tbl, **kwds: (tbl, kwds), given) == (1, {"table": "t"})
    for method in (lambda pages: pages, lambda pages, **kwds: pages):
        with pytest.raises(ConfigError, match="wants 'pages'") as caught:
            call(method, given)
        assert caught.value.hint == "it can have: table, tbl"


def test_what_the_engine_stands_in_for_is_not_called() -> None:
    with pytest.raises(FatalError):
        Downloader().default_sink(None)  # type: ignore[arg-type]
    for method in ("position", "load"):
        with pytest.raises(FatalError):
            getattr(Uploader(), method)(None)


def test_contexts_nest_and_the_only_session_is_seen_from_every_thread() -> None:
    one, two = FakeContext(), FakeContext()
    seen: list[Any] = []

    def ask() -> None:
        with pytest.raises(ConfigError, match="outside"):
            context()
        seen.append("outside")

    with entered(one, whole_process=True):
        assert context() is one
        with entered(two):
            assert context() is two
            thread = Thread(target=lambda: seen.append(context()))
            thread.start()
            thread.join()
        with entered(two, whole_process=True):
            thread = Thread(target=ask)
            thread.start()
            thread.join()
    assert seen == [one, "outside"]  # two sessions in one process: nobody guesses
