"""What may be a connection: a class of one's own or any callable; when they open and close, in which thread, what is told."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from anchovies.core.config import Config
from anchovies.core.errors import ConfigError, RetryableError
from anchovies.core.secret import Secret
from anchovies.core.settings import resolve
from anchovies.engine.events import Event
from anchovies.engine.handles import handle_of
from anchovies.engine.limits import stopped_by
from anchovies.engine.loop import Loop
from anchovies.engine.session import SessionRun
from anchovies.sdk import Connection, ConnectionMemo, Downloader, attr, batch, context, on_task, source

said: list[str] = []


@pytest.fixture(autouse=True)
def quiet() -> None:
    said.clear()


class WithAndClose:
    def __init__(self, key: str) -> None:
        self.key = key
        said.append(f"made {key}")

    def __enter__(self) -> WithAndClose:
        said.append("entered")
        return self

    def __exit__(self, *exc: object) -> None:
        said.append("exited")

    def close(self) -> None:
        said.append("closed")

    def check(self) -> None:
        said.append("checked")


class OnlyClose:
    def __init__(self, key: str) -> None:
        self.key = key

    def close(self) -> None:
        said.append("closed")


@contextlib.contextmanager
def managed(key: str) -> Iterator[OnlyClose]:
    said.append("entered")
    yield OnlyClose(key)
    said.append("exited")


def generated(key: str) -> Iterator[OnlyClose]:
    said.append("begun")
    try:
        yield OnlyClose(key)
    finally:
        said.append("ended")


def closing(key: str) -> Any:
    return contextlib.closing(OnlyClose(key))


class Plain:
    def __init__(self, key: str) -> None:
        self.key = key


KINDS: list[tuple[Callable[..., Any], list[str], list[str]]] = [
    (WithAndClose, ["made k", "entered"], ["exited", "closed"]),
    (OnlyClose, [], ["closed"]),
    (managed, ["entered"], ["exited"]),
    (generated, ["begun"], ["ended"]),
    (closing, [], ["closed"]),
    (Plain, [], []),
]


@pytest.mark.parametrize(("factory", "opened", "closed"), KINDS, ids=lambda x: getattr(x, "__name__", ""))
@pytest.mark.parametrize("default", [False, True])
def test_every_kind_fits(place: Any, factory: Any, opened: list[str], closed: list[str], default: bool) -> None:
    class Using(Downloader):
        if default:
            connection_cls = factory
        else:
            cnxn = ConnectionMemo("other", factory)  # type: ignore[assignment]

        @source("t")
        def t(self) -> Any:
            assert said == []
            assert self.cnxn is self.cnxn
            assert said == opened
            yield {"key": self.cnxn.key}

    place.run(Using, cnxns={"default" if default else "other": {"key": "k"}})
    assert place.rows("t") == [{"key": "k"}]
    assert said == opened + closed


@pytest.mark.parametrize(("factory", "opened", "closed"), KINDS, ids=lambda x: getattr(x, "__name__", ""))
def test_every_kind_can_be_checked(factory: Any, opened: list[str], closed: list[str]) -> None:
    handle = handle_of("x", factory, {"key": Secret("k")})
    handle.check()
    checked = ["checked"] if factory is WithAndClose else []
    assert said == opened + checked + closed
    assert not handle.is_open


def test_a_library_that_tells_no_signature_is_simply_called(place: Any) -> None:
    class Using(Downloader):
        db = ConnectionMemo("db", sqlite3.connect)

        @source("t")
        def t(self) -> Any:
            yield {"n": self.db.execute("select 1").fetchone()[0]}

    place.run(Using, cnxns={"db": {"database": ":memory:"}})
    with pytest.raises(ConfigError, match="connection 'db'"):
        place.run(Using, id="b", cnxns={"db": {"nope": "x", "database": ":memory:"}})


def test_attributes_are_what_a_callable_says_they_are(place: Any) -> None:
    def client(host: str, key: Secret, port: int = 80, tls: bool = True, *, wait: float = 1.0) -> tuple[Any, ...]:
        return host, key, port, tls, wait

    class Using(Downloader):
        api = ConnectionMemo("api", client)

        @source("t")
        def t(self) -> Any:
            host, key, port, tls, wait = self.api
            assert (host, key.reveal(), port, tls, wait) == ("h", "correct-horse", 81, False, 2.5)
            yield {"ok": True}

    place.run(Using, cnxns={"api": {"host": "h", "key": "correct-horse", "port": "81", "tls": "no", "wait": "2.5"}})
    with pytest.raises(ConfigError, match=r"attribute 'port' wants int.*needs 'host' and 'key'") as caught:
        place.run(Using, cnxns={"api": {"port": "many"}})
    assert caught.value.hint == "it takes: host, key, port (optional), tls (optional), wait (optional)"


class Api(Connection):
    host: str = attr("where")
    token: Secret = attr("login")
    port: int = 80


class Db(Connection):
    url: Secret = attr("where")


class Many(Downloader):
    api: Api
    db: Db
    other = ConnectionMemo("other", WithAndClose)

    @source("t")
    def t(self) -> Any:
        yield {"n": 1}


def test_all_that_is_missing_is_listed_at_once(place: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        place.run(Many, cnxns={"api": {"port": "x", "hots": "h"}})
    for name in ("API__HOST", "API__TOKEN", "API__HOTS", "DB__URL", "OTHER__KEY"):
        assert f"ACHVY_CNXN__{name}" in caught.value.message
    assert "attribute 'port' wants int" in caught.value.message
    assert "did you mean ACHVY_CNXN__API__HOST?" in (caught.value.hint or "")
    assert place.objects() == []


def test_an_id_that_is_nearly_one_is_told(place: Any) -> None:
    class Using(Downloader):
        shop: Api

        @source("t")
        def t(self) -> Any:
            yield {"n": 1}

    good = {"host": "h", "token": "t"}
    result = place.run(Using, cnxns={"shop": good, "shopp": good, "warehouse": good})
    assert [w for w in result.warnings if "CNXN" in w] == [
        "ACHVY_CNXN__SHOPP__… is set, but Using has no connection 'shopp': did you mean 'shop'?"
    ]
    for wrong, variable in (("shpo", "ACHVY_CNXN__SHPO__…"), ("default", "ACHVY_CNXN__…")):
        with pytest.raises(ConfigError, match="needs 'host' and 'token'") as caught:
            place.run(Using, cnxns={wrong: good})
        assert (caught.value.hint or "").startswith(f"{variable} is set: did you mean ACHVY_CNXN__SHOP__…?")


def test_an_attribute_cannot_be_called_like_a_file() -> None:
    class Wrong(Connection):
        key_file: str

    with pytest.raises(ConfigError, match="cannot be called 'key_file'") as caught:
        Wrong(key_file="x")
    assert "key_path" in (caught.value.hint or "")


# ---- when


class Telling(Connection):
    def open(self) -> None:
        said.append(f"open {self.id}")

    def close(self) -> None:
        said.append(f"close {self.id}")


class Early(Telling):
    at_startup = True


class Service(Downloader):
    lazy: Telling
    early: Early
    bad: tuple[int, ...] = ()

    @on_task("startup")
    def begin(self) -> None:
        said.append("startup")

    @on_task("shutdown")
    def end(self) -> None:
        said.append("shutdown")

    @source("t")
    def t(self) -> Any:
        assert self.lazy
        assert self.early
        if batch().id in self.bad:
            raise RuntimeError("no")
        yield {"n": 1}


def service(place: Any, batches: int, **body: Any) -> list[str]:
    def listen(event: Event) -> None:
        if event.kind == "batch_ended":
            said.append("--")
            if said.count("--") == batches:
                run.stop.set(stopped_by(15, "SIGTERM"))

    given = {"id": "a", "user": "tester", "datastore": place.url, "service": True, "interval": 0}
    run = SessionRun(type("Service", (Service,), body), resolve(given, {}, Config()), Config(), {}, listen, place.store)
    run.work()
    return said


def test_at_startup_means_until_shutdown_else_they_live_for_a_batch(place: Any) -> None:
    once = ["open lazy", "--", "close lazy"]
    assert service(place, 3) == ["open early", "startup", *once * 3, "shutdown", "close early"]


def test_after_a_batch_that_failed_all_are_opened_anew(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "backoff", lambda self: 0.0)
    assert service(place, 2, bad=(1,)) == [
        "open early", "startup", "open lazy", "--", "close lazy", "close early", "open lazy", "open early", "--", "close lazy",
        "shutdown", "close early",
    ]  # fmt: skip


def test_a_connection_of_startup_that_does_not_open_ends_the_session(place: Any) -> None:
    class Away(Early):
        def open(self) -> None:
            raise ConfigError("wrong password")

    class Using(Downloader):
        connection_cls = Away

        @source("t")
        def t(self) -> Any:
            said.append("never")
            yield {"n": 1}

    with pytest.raises(ConfigError, match="wrong password"):
        place.run(Using)
    assert said == []


@pytest.mark.parametrize("error", [OSError("stuck"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_one_raises_the_others_are_closed(place: Any, error: BaseException) -> None:
    class Stuck(Telling):
        def close(self) -> None:
            raise error

    class Using(Downloader):
        first = ConnectionMemo("first", Telling)
        second = ConnectionMemo("second", Stuck)
        third = ConnectionMemo("third", Telling)

        @source("t")
        def t(self) -> Any:
            assert self.first
            assert self.second
            assert self.third
            yield {"n": 1}

    result = place.run(Using)
    assert said == ["open first", "open second", "open third", "close third", "close first"]
    assert any("connection 'second' did not close" in w for w in result.warnings)


def test_one_that_its_author_closed_is_opened_anew(place: Any) -> None:
    class Using(Downloader):
        cnxn: Telling  # type: ignore[assignment]

        @source("t")
        def t(self) -> Any:
            assert self.cnxn
            self.cnxn.ensure_closed()
            assert self.cnxn.is_open
            yield {"n": 1}

    place.run(Using)
    assert said == ["open default", "close default", "open default", "close default"]


def test_tries_are_told_and_counted(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.engine.limits.StopSignal.wait", lambda self, seconds: False)
    left = [2]

    @contextlib.contextmanager
    def flaky() -> Iterator[str]:
        if left[0]:
            left[0] -= 1
            raise RetryableError("not yet")
        yield "open"

    class Using(Downloader):
        other = ConnectionMemo("other", flaky)

        @source("t")
        def t(self) -> Any:
            yield {"is": self.other}
            assert context().task.data["retries"] == 2  # type: ignore[attr-defined]

    result = place.run(Using)
    assert [w for w in result.warnings if "other" in w] == [
        f"connection 'other': not yet; it is opened again (try {n} of 4)" for n in (2, 3)
    ]


# ---- threads


def test_many_threads_open_one_once_and_a_slow_one_holds_up_no_other(place: Any) -> None:
    release = threading.Event()

    class Slow(Telling):
        def open(self) -> None:
            assert release.wait(20)
            super().open()

    class Using(Downloader):
        slow = ConnectionMemo("slow", Slow)
        fast = ConnectionMemo("fast", Telling)

        @source("t")
        def t(self) -> Any:
            with ThreadPoolExecutor(9) as pool:
                slow = [pool.submit(lambda: self.slow) for _ in range(8)]
                fast = pool.submit(lambda: self.fast)
                assert fast.result(20).is_open
                release.set()
                assert len({id(f.result(20)) for f in slow}) == 1
            yield {"n": 1}

    place.run(Using)
    assert sorted(said) == ["close fast", "close slow", "open fast", "open slow"]


@pytest.mark.parametrize("memo", [False, True])
def test_each_thread_may_have_one_of_its_own(place: Any, memo: bool) -> None:
    meet = threading.Barrier(2)
    seen: dict[str, Any] = {}

    class One(Telling):
        each_thread = not memo

    class Using(Downloader):
        db = ConnectionMemo("db", One, each_thread=memo)

        def one(self, table: str) -> Any:
            seen[table] = self.db
            meet.wait(20)
            assert self.db is seen[table]
            yield {"n": 1}

        a = source("a")(lambda self: self.one("a"))
        b = source("b")(lambda self: self.one("b"))

    place.run(Using, threads=2)
    assert seen["a"] is not seen["b"]
    assert said == ["open db", "open db", "close db", "close db"]
    assert not (seen["a"].is_open or seen["b"].is_open)
    said.clear()
    seen.clear()
    meet = threading.Barrier(1)
    place.run(Using)
    assert seen["a"] is seen["b"], "one thread, one connection"
    assert said == ["open db", "close db"]
