"""Fault points: inert unless armed, counted, and loud about what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from anchovies.core import faultpoint
from anchovies.core.env import read_environment
from anchovies.core.errors import ConfigError, SourceError, StoreUnavailable
from anchovies.core.faultpoint import STALL, arm, fault


@pytest.fixture(autouse=True)
def unarmed() -> Iterator[None]:
    yield
    arm("")


def test_nothing_happens_unless_armed(capfd: pytest.CaptureFixture[str]) -> None:
    fault("a.b")
    arm("a.c:raise")
    fault("a.b")
    assert capfd.readouterr() == ("", "")


def test_raise_is_the_error_of_its_place(capfd: pytest.CaptureFixture[str]) -> None:
    arm("a.b:raise,s:raise")
    with pytest.raises(StoreUnavailable, match=r"fault point a\.b"):
        fault("a.b")
    with pytest.raises(SourceError):
        fault("s", SourceError)
    assert capfd.readouterr().err == "fault point a.b: raise\nfault point s: raise\n"


def test_the_nth_hit_only() -> None:
    arm("a:raise@3")
    fault("a")
    fault("a")
    with pytest.raises(StoreUnavailable):
        fault("a")
    fault("a")


def test_the_same_text_again_goes_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACHVY_FAULT", "a:raise@2")
    read_environment()
    fault("a")
    read_environment()
    with pytest.raises(StoreUnavailable):
        fault("a")


def test_every_hit_of_a_pattern(capfd: pytest.CaptureFixture[str]) -> None:
    arm("lease.*:trace@0")
    for name in ("lease.a", "commit.a", "lease.b", "lease.a"):
        fault(name)
    assert [line.split()[2] for line in capfd.readouterr().err.splitlines()] == ["lease.a:", "lease.b:", "lease.a:"]


def test_a_stall_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(faultpoint.time, "sleep", slept.append)
    arm("a:stall")
    fault("a")
    assert slept == [STALL] and STALL <= 0.5


@pytest.mark.parametrize("text", ["a", "a:explode", ":kill", "a:kill@x", "a:kill@-1"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="ACHVY_FAULT"):
        arm(text)


def test_a_file_that_lies_about_arms_nothing(tmp_path: object) -> None:
    with open(f"{tmp_path}/.env", "w") as f:
        f.write("ACHVY_FAULT=a:raise\n")
    read_environment(str(tmp_path))
    fault("a")


def test_kill_kills_the_real_command() -> None:
    code = "from anchovies.core.env import read_environment as r; r()\nfrom anchovies.sdk.faults import fault; fault('x'); print('alive')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "ACHVY_FAULT": "x:kill"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "fault point x: kill\n")
