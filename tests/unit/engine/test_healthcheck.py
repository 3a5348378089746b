"""`anchovy healthcheck`: what is well and what is not, as its exit code says it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import anchovies
from anchovies.cli import say
from anchovies.cli.main import run as cli
from anchovies.core.config import Config
from anchovies.core.settings import resolve
from anchovies.engine.events import silent
from anchovies.engine.healthcheck import SPARE, Asked, Check, checks
from anchovies.engine.limits import stopped_by
from anchovies.engine.session import SessionRun
from anchovies.engine.watch import Watch
from anchovies.sdk import Connection, ConnectionMemo, Downloader, RetryableError, Secret, attr, source
from anchovies.store.keys import Home
from anchovies.store.lease import TTL, Doing, LeaseInfo, read
from anchovies.store.local import LocalStore

HOME = Home("me", "a")
OPERATOR = """
from anchovies.sdk import Downloader, source

class One(Downloader):
    @source("t")
    def t(self):
        yield [{"n": 1}]

class Fails(Downloader):
    @source("t")
    def t(self):
        raise RuntimeError("no hunter2hunter2 for you")
"""


class Api(Connection):
    uri: str = attr("where it is", default="x")
    password: Secret | None = attr("a secret", default=None)

    def check(self) -> None:
        if self.uri == "down":
            raise RetryableError("the API is down", hint="wait")
        if self.uri == "hangs":
            time.sleep(60)


class Using(Downloader):
    api: Api
    other = ConnectionMemo("other", lambda: object())

    @source("t")
    def t(self) -> Any:
        yield [{"n": 1}]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "home")


def look(
    url: str, operator: type | None = Using, env: Any = None, config: Config | None = None, asked: Any = None, **more: Any
) -> dict[str, Check]:
    settings = resolve({"id": "a", "user": "me", "datastore": url, **more}, env or {}, Config())
    found = list(checks(operator, settings, config or Config(), env or {}, Asked(**(asked or {}))))
    assert len({c.name for c in found}) == len(found)
    return {c.name: c for c in found}


def ok(found: dict[str, Check]) -> dict[str, bool]:
    return {name: c.ok for name, c in found.items()}


def test_nothing_has_run_yet(url: str) -> None:
    found = look(url)
    assert ok(found) == dict.fromkeys(["configuration", "datastore", "connection api", "connection other", "last run"], True)
    assert found["last run"].text == "it has never run"
    assert "nothing of me/a is in it yet" in found["datastore"].text
    assert not os.path.exists(url), "a look makes nothing"
    found = look(url, service=True)
    assert (found["service"].ok, found["service"].text) == (False, "no service runs")


def test_after_a_run(url: str) -> None:
    anchovies.run(Using, id="a", user="me", datastore=url)
    found = look(url)
    assert all(ok(found).values())
    assert found["last run"].text.endswith("ago, 1 rows")
    assert found["datastore"].text.endswith("read and written")
    assert not list(LocalStore(url).list("me/a/$log/probe/"))
    assert not look(url, asked={"max_age": 1e-9})["last run"].ok
    assert look(url, asked={"max_age": 3600.0})["last run"].ok
    found = look(url, service=True)
    assert found["service"].text.startswith("no service runs; it ended 20")


def test_a_failed_run(url: str) -> None:
    class Fails(Downloader):
        @source("t")
        def t(self) -> Any:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        anchovies.run(Fails, id="a", user="me", datastore=url)
    found = look(url, Fails)
    assert not found["last run"].ok
    assert "RuntimeError: no" in found["last run"].text


def test_connections(url: str) -> None:
    down = look(url, env={"ACHVY_CNXN__API__URI": "down"})["connection api"]
    assert (down.ok, down.text, down.hint) == (False, "the API is down", "wait")
    wrong = look(url, env={"ACHVY_CNXN__API__URL2": "x"})["connection api"]
    assert not wrong.ok
    assert "takes no attribute" in wrong.text
    hangs = look(url, env={"ACHVY_CNXN__API__URI": "hangs"}, asked={"patience": 0.1})
    assert ok(hangs) == {
        "configuration": True,
        "datastore": True,
        "connection api": False,
        "connection other": True,
        "last run": True,
    }
    assert hangs["connection api"].text == "no answer within 0.1s"
    assert "connection api" not in look(url, env={"ACHVY_CNXN__API__URI": "down"}, asked={"live": True})


def test_a_table_that_is_configured_wrongly(url: str) -> None:
    found = look(url, config=Config(tbls={"t": {"unique": "n"}}))["configuration"]
    assert not found.ok
    assert "unique_by" in str(found.hint)


def test_a_datastore_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    found = look(str(file))
    assert not found["datastore"].ok
    assert "last run" not in found, "nothing is known of it"
    assert found["connection api"].ok


# of a service


def lease(url: str, age: float = 0.0, **more: Any) -> None:
    """What the lease says, written so many seconds ago."""
    info = LeaseInfo(host="there", pid=7, session="s", since="2026", free=False, **more)
    store = LocalStore(url)
    store.put(HOME.lease, msgspec.json.encode(info))
    path = store.local_path(HOME.lease)
    assert path is not None
    os.utime(path, (time.time() - age, time.time() - age))


def doing(**more: Any) -> Doing:
    return msgspec.structs.replace(Doing(interval=60, batches=4, at=1000, moved=990, succeeded=990), **more)


@pytest.mark.parametrize(
    ("age", "what", "asked", "well", "text"),
    [
        (0, doing(), {}, True, "it pauses since 10s; 4 batches so far, session s on there (pid 7)"),
        (5, doing(running=True, moved=800), {}, True, "batch 5 runs since 205s"),
        (TTL - 5, doing(), {}, True, "it pauses since 65s"),
        (TTL + 5, doing(), {}, False, "no heartbeat for 65s of session s on there (pid 7)"),
        (TTL + 5, doing(), {"live": True}, False, "no heartbeat"),
        (0, None, {}, True, "running since 2026"),
        (
            0,
            doing(streak=2, error="the API is down"),
            {},
            False,
            "2 batches failed in a row, the last that went well: 10s ago. the",
        ),
        (0, doing(streak=1, succeeded=0), {}, False, "1 batch failed in a row, the last that went well: never"),
        (0, doing(streak=2), {"live": True}, True, "it pauses"),
        (0, doing(moved=1000 - 600 - int(SPARE) - 5), {}, False, "its loop stands still"),
        (0, doing(moved=1000 - 600 - int(SPARE) - 5), {"live": True}, False, "its loop stands still"),
        (0, doing(moved=1000 - 600), {}, True, "it pauses"),
        (0, doing(running=True, moved=1), {}, True, "batch 5 runs since"),
        (0, doing(), {"max_age": 5.0}, False, "the last batch that went well: 10s ago"),
        (0, doing(), {"max_age": 60.0}, True, "it pauses"),
        (0, doing(succeeded=0), {"max_age": 60.0}, False, "never"),
    ],
)
def test_a_service(url: str, age: float, what: Doing | None, asked: dict[str, Any], well: bool, text: str) -> None:
    lease(url, age, doing=what)
    found = look(url, service=True, asked=asked)["service"]
    assert (found.ok, text in found.text) == (well, True), found.text


def test_a_task_that_runs_and_one_that_died(url: str) -> None:
    lease(url)
    assert look(url)["run"].ok
    lease(url, TTL + 10)
    assert not look(url)["run"].ok


def test_a_real_service(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.store.lease.BEAT", 0.05)
    given = {"id": "a", "user": "me", "datastore": url, "service": True, "interval": 0.05}
    run = SessionRun(Using, resolve(given, {}, Config()), Config(), {}, silent, LocalStore(url))
    thread = threading.Thread(target=lambda: Watch(run).run(signals=False))
    thread.start()
    try:
        end = time.monotonic() + 30
        while (found := read(LocalStore(url), HOME).doing) is None or not found.batches:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert all(ok(look(url, service=True)).values())
    finally:
        run.stop.set(stopped_by(15, "SIGTERM"))
        thread.join(30)
    assert not look(url, service=True)["service"].ok


# the command


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    (tmp_path / "ops.py").write_text(OPERATOR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.setenv("ACHVY_HOME", str(tmp_path / "home"))

    def type_(*args: str) -> tuple[int, str]:
        say.redactor.cache_clear()
        code = cli(["healthcheck", "-i", "a", "-u", "me", *args])
        return code, capsys.readouterr().out

    return type_


def test_what_a_person_sees(typed: Any) -> None:
    code, out = typed("-op", "./ops.py:One")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [["ok", "configuration"], ["ok", "datastore"], ["ok", "last"]]
    code, out = typed("-S")
    assert code == 1
    assert "FAIL  service" in out
    assert "hint: start it" in out


def test_json(typed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACHVY_CNXN__API__PASSWORD", "hunter2hunter2")
    cli(["start", "-i", "a", "-u", "me", "-op", "./ops.py:Fails"])
    code, out = typed("--json")
    found = json.loads(out[out.index("{") :])
    assert (code, found["ok"]) == (1, False)
    assert found["checks"][-1]["name"] == "last run"
    assert "hunter2" not in out


@pytest.mark.parametrize("wrong", [["-op", "./ops.py:Nobody"], ["--interval", "soon"], ["-op", "./broken.py:X"]])
def test_a_configuration_that_cannot_be_read_is_not_well(typed: Any, tmp_path: Path, wrong: list[str]) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('broken')")
    code, out = typed(*wrong)
    assert code == 1
    assert out.startswith("FAIL  configuration")


def test_a_wrong_time_is_a_mistake_of_the_command(typed: Any) -> None:
    assert typed("--timeout", "soon")[0] == 2
