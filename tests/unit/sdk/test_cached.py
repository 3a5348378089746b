"""`@cached`: once a lifetime, for each operator and each list of arguments; outside of a run a plain method."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import anchovies
from anchovies.core.errors import ConfigError
from anchovies.sdk import Downloader, Tbl, cached, on_task, source
from anchovies.sdk.cached import MOST, Cache, keep_cache


class Asking(Downloader):
    def __init__(self) -> None:
        self.asked: list[Any] = []

    @cached
    def one(self, *args: Any, **kwds: Any) -> Any:
        """What is asked."""
        self.asked.append((args, kwds))
        return object()

    @cached(ttl="2m")
    def longer(self) -> int:
        self.asked.append("longer")
        return len(self.asked)

    @cached
    def some(self) -> Any:
        self.asked.append("some")
        yield from "ab"

    @cached
    def failing(self) -> None:
        self.asked.append("failing")
        raise RuntimeError(len(self.asked))


class Now:
    at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def asking(now: Now) -> Asking:
    """An operator that runs: what it found is good for a minute."""
    operator = Asking()
    keep_cache(operator, Cache(60, now))
    return operator


def test_once_a_lifetime(asking: Asking, now: Now) -> None:
    first = asking.one()
    now.at = 59.9
    assert asking.one() is first
    now.at = 60.0
    assert asking.one() is not first
    assert len(asking.asked) == 2


def test_a_lifetime_of_its_own(asking: Asking, now: Now) -> None:
    assert asking.longer() == 1
    now.at = 119
    assert asking.longer() == 1
    now.at = 120
    assert asking.longer() == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1,), (2,)),
        ((1,), (1.0,)),
        ((1,), (True,)),
        (("a", "b"), ("b", "a")),
        (([1],), ((1,),)),
        (({"a": [1]},), ({"a": [2]},)),
        ((Tbl("a"),), (Tbl("b"),)),
        (({1},), ([1],)),
    ],
)
def test_arguments_tell_results_apart(asking: Asking, one: Any, other: Any) -> None:
    assert asking.one(*one) is asking.one(*one)
    assert asking.one(*one) is not asking.one(*other)
    assert len(asking.asked) == 2


def test_named_arguments(asking: Asking) -> None:
    assert asking.one(a=1, b=2) is asking.one(b=2, a=1)
    assert asking.one(a=1) is not asking.one(a=2)


def test_arguments_that_cannot_be_told_apart(asking: Asking) -> None:
    with pytest.raises(ConfigError, match="Asking.one: unhashable"):
        asking.one(bytearray())


def test_the_items_of_a_generator(asking: Asking) -> None:
    assert asking.some() == asking.some() == ("a", "b")
    assert asking.asked == ["some"]


def test_an_error_is_not_kept(asking: Asking) -> None:
    for n in (1, 2):
        with pytest.raises(RuntimeError, match=str(n)):
            asking.failing()


def test_operators_share_nothing(now: Now) -> None:
    one, other = Asking(), Asking()
    for operator in (one, other):
        keep_cache(operator, Cache(60, now))
    assert one.one() is not other.one()


def test_outside_of_a_run_it_is_the_plain_method() -> None:
    operator = Asking()
    assert operator.one() is not operator.one()
    assert list(operator.some()) == ["a", "b"]
    assert Asking.one.__doc__ == "What is asked."


def test_it_stays_small(asking: Asking, now: Now) -> None:
    for n in range(MOST + 50):
        asking.one(n)
    cache: Cache = asking.__dict__["_anchovies_cache"]
    assert len(cache._found) == MOST
    newest = asking.one(MOST + 49)
    asking.one(0)
    assert asking.one(MOST + 49) is newest
    assert len(asking.asked) == MOST + 51


def test_many_threads_ask_once(asking: Asking) -> None:
    class Slow(Asking):
        @cached
        def slow(self) -> object:
            self.asked.append("slow")
            time.sleep(0.05)
            return object()

    slow = Slow()
    keep_cache(slow, Cache(60, time.monotonic))
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(slow.slow())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len(set(map(id, found))), slow.asked) == (8, 1, ["slow"])


def test_how_it_must_not_be_written() -> None:
    with pytest.raises(ConfigError, match="by name"):
        cached(60)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="@cached"):
        cached(ttl="soon")


def test_in_a_run(tmp_path: Any) -> None:
    """Hooks and sources see one result; `discover_tbls` is asked once as well."""
    said: list[Any] = []

    class Found(Downloader):
        @cached
        def names(self) -> Any:
            said.append("names")
            yield "a"

        def discover_tbls(self) -> Any:
            said.append("discover")
            return [Tbl(n) for n in self.names()]

        @on_task("xclose")
        def look(self) -> None:
            said.append(self.names())

        @source()
        def every(self, table: str) -> Any:
            yield {"name": table, "of": len(self.names())}

    assert anchovies.run(Found, id="found", datastore=f"memory://cached-{tmp_path}").rows == 1
    assert said == ["discover", "names", ("a",)]


def test_marks_stay() -> None:
    class Marked(Downloader):
        @source("t")
        @cached
        def t(self) -> Any:
            yield {"n": 1}

    assert Marked().sources == ("t",)
