"""`make chaos` in small: it counts, it ends in time, and a violation ends it with the way to see it again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anchovies.testing import buckets, chaos, endless
from anchovies.testing.simulator import Violation
from anchovies.testing.storm import Storm

MINUTES = "0.04"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "SECONDS", 2.0)
    monkeypatch.setattr(chaos, "KILLS", 3)
    monkeypatch.setattr(chaos.signal, "signal", lambda *args: None)


def last(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    out, err = capsys.readouterr()
    word, _, told = out.splitlines()[-1].partition(" ")
    assert word == "chaos"
    return json.loads(told), out + err


def test_it_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert chaos.main(["--minutes", MINUTES, "--seed", "5", "--only", "simulation,sqlite"]) == 0
    told, said = last(capsys)
    assert told["ok"] and told["seed"] == 5
    assert told["histories"] > 0 and told["last history"] == 5 + told["histories"] - 1
    assert told["simulated"]["fault"] > 0 and told["simulated"]["kill"] > 0
    assert told["rounds"] > 0 and told["kills"] == told["kills, sqlite"] and told["rows exactly once"] > 0
    assert "chaos with seed 5: simulation, sqlite" in said and "histories" in said


@pytest.mark.server
def test_a_bucket_as_the_datastore(capsys: pytest.CaptureFixture[str]) -> None:
    if reason := buckets.missing("s3"):
        pytest.skip(reason)
    assert chaos.main(["--minutes", MINUTES, "--seed", "6", "--only", "s3"]) == 0
    told, _ = last(capsys)
    assert told["ok"] and told["kills"] == told["kills, s3"] >= 3 and told["rows exactly once"] > 0


def test_without_a_server_it_says_so_and_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "find_spec", lambda name: None)
    assert chaos.main(["--minutes", MINUTES, "--seed", "7", "--only", "s3,sqlite"]) == 0
    told, said = last(capsys)
    assert "without s3: no S3 server: pip install 'moto[server]'" in said
    assert told["ok"] and "kills, s3" not in told and told["kills, sqlite"] > 0


def test_a_storm_that_finds_something_ends_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(self: Storm) -> None:
        raise AssertionError("duckdb, ints: 7 rows, 8 wanted")

    monkeypatch.setattr(Storm, "judge", judge)
    assert chaos.main(["--minutes", MINUTES, "--seed", "9", "--only", "duckdb"]) == 1
    told, said = last(capsys)
    assert not told["ok"]
    assert "duckdb, ints: 7 rows, 8 wanted" in said and "make chaos SEED=9 ONLY=duckdb" in said and "what it left: /" in said


def test_a_history_that_breaks_a_promise_ends_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(chaos.Simulation):
        def check(self) -> None:
            self.next, self.violation = 77, "history 77 breaks a promise: rows lost"
            super().check()

    monkeypatch.setattr(chaos, "Simulation", Broken)
    assert chaos.main(["--minutes", MINUTES, "--seed", "70", "--only", "simulation"]) == 1
    _, said = last(capsys)
    assert "history 77 breaks a promise: rows lost" in said and "anchovy chaos --seed 77" in said


def test_the_simulation_says_what_it_found(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class World:
        stats = {"fault": 2}

    def simulate(seed: int) -> Any:
        if seed == 12:
            raise Violation("rows twice")
        return World()

    monkeypatch.setattr(endless, "simulate", simulate)
    assert endless.main(10) == 1
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said == {"counts": {"fault": 4, "histories": 2}, "next": 12, "violation": "history 12 breaks a promise: rows twice"}


def test_an_unknown_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        chaos.main(["--only", "mysql"])
    assert "there is no kind 'mysql'" in capsys.readouterr().err
