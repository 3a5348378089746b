"""`anchovy logs`: which records show, and how."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import anchovies
from anchovies.cli import logs, say
from anchovies.cli.main import run
from anchovies.sdk import Downloader, source

Typed = Callable[..., tuple[int, str, str]]


class Two(Downloader):
    @source("orders")
    def orders(self, task: Any) -> Any:
        task.with_(pages=3)
        yield [{"n": n} for n in range(1200)]

    @source("broken")
    def broken(self) -> Any:
        raise ValueError("no\nmore")
        yield


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """`typed('-i', 'x')` → what `anchovy logs -i x -u me` says, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.setenv("ACHVY_HOME", str(tmp_path / "home"))

    def type_(*args: str) -> tuple[int, str, str]:
        say.redactor.cache_clear()
        code = run(["logs", "-u", "me", *args])
        caught = capsys.readouterr()
        return code, caught.out, caught.err

    return type_


@pytest.fixture
def ran(typed: Typed, tmp_path: Path) -> None:
    """Three runs: two of `shop` (the second fails), one of `hive` whose records lie in the common place."""
    datastore = str(tmp_path / "home")
    anchovies.run(Two, id="shop", user="me", datastore=datastore, enabled="orders")
    with pytest.raises(ValueError, match="no"):
        anchovies.run(Two, id="shop", user="me", datastore=datastore)
    anchovies.run(Two, id="hive", user="me", datastore=datastore, enabled="orders", task_store_cls="HiveTaskStore")


def of(typed: Typed, *args: str) -> list[tuple[str, str, str | None, str]]:
    """The records that show."""
    code, out, err = typed("--json", *args)
    assert (code, err) == (0, "")
    return [(r["anchovy_id"], r["task_type"], r["tbl"], r["status"]) for r in map(json.loads, out.splitlines())]


@pytest.mark.usefixtures("ran")
def test_every_filter(typed: Typed) -> None:
    good, bad, late = ("shop", "TBL", "orders", "OK"), ("shop", "TBL", "broken", "ERR"), ("hive", "TBL", "orders", "OK")
    every = of(typed)
    assert sorted(every) == sorted([good, good, bad, late])
    assert every[-1] == late
    assert of(typed, "-n", "1") == [late]
    assert sorted(of(typed, "-i", "shop")) == sorted([good, good, bad])
    assert of(typed, "--status", "err") == [bad]
    assert of(typed, "--tbl", "br*") == [bad]
    assert of(typed, "--since", "1h") == every
    assert of(typed, "--since", "2999-01-01") == []
    assert of(typed, "--type", "error") == [("shop", "ERROR", "broken", "ERR"), ("shop", "ERROR", None, "ERR")]
    assert ("hive", "STARTUP", None, "OK") in of(typed, "--phases")
    session = json.loads(typed("--json", "-i", "hive")[1])["session_id"]
    assert of(typed, "--session", session) == [late]
    assert of(typed, "--batch", "7") == []


@pytest.mark.usefixtures("ran")
def test_the_table(typed: Typed) -> None:
    code, out, _ = typed()
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["when", "(UTC)", "anchovy", "task", "status", "rows", "took"]
    assert len({line.index("OK") for line in lines if "OK" in line}) == 1
    assert lines[-1].split()[2:6] == ["hive", "orders", "OK", "1,200"]
    assert "pages 3" in lines[-1]
    (bad,) = (line for line in lines if "ERR" in line)
    assert "  ValueError: no more (test_logs.py:" in bad
    assert "anchovy" not in typed("-i", "shop")[1].splitlines()[0]


def test_it_says_so_when_there_is_nothing(typed: Typed) -> None:
    assert "no tasks of me are on record" in typed()[1]
    assert typed("--json") == (0, "", "")
    for more in ([], ["--json"]):
        code, out, err = typed("-i", "shop", *more)
        assert (code, out, "me/shop has kept nothing" in err) == (2, "", True)


@pytest.mark.usefixtures("ran")
def test_near_names_and_filters_that_leave_nothing(typed: Typed) -> None:
    code, _, err = typed("-i", "shpo")
    assert (code, "did you mean 'shop'?" in err) == (2, True)
    assert "no task of me/shop is like that" in typed("-i", "shop", "--tbl", "x")[1]


def test_times() -> None:
    assert (
        logs._moment("2026-11-22T17:00Z")
        == logs._moment("2026-11-22T17:00")
        == datetime(2026, 11, 22, 17, tzinfo=UTC).timestamp()
    )
    assert logs._moment("1970-01-01") == logs._moment(None) == 0
    assert logs._moment("0001-01-01") == 0


@pytest.mark.usefixtures("ran")
def test_since_looks_at_each_record(typed: Typed) -> None:
    """Not only at the objects, which are as old as their last record."""
    first, *rest = (json.loads(line)["timestamp"] for line in typed("--json", "-i", "shop")[1].splitlines())
    shown = (json.loads(line)["timestamp"] for line in typed("--json", "-i", "shop", "--since", rest[0])[1].splitlines())
    assert first < rest[0]
    assert list(shown) == rest


def test_a_time_that_is_none(typed: Typed) -> None:
    code, _, err = typed("--since", "soon")
    assert (code, "'soon' is no time" in err, "7d" in err) == (2, True, True)


@pytest.mark.usefixtures("ran")
def test_following_shows_what_comes(typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def sleep(self: Any, seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise KeyboardInterrupt
        if looks == 1:
            anchovies.run(Two, id="late", user="me", datastore=str(tmp_path / "home"), enabled="orders")

    monkeypatch.setattr("anchovies.core.clock.SystemClock.sleep", sleep)
    code, out, _ = typed("-f", "-n", "1")
    assert code == 130
    assert [line.split()[2] for line in out.splitlines()[1:]] == ["hive", "late"]
