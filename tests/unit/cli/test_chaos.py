"""`anchovy chaos`: the same seed tells the same story; a broken promise is exit code 1."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from anchovies.cli.main import anchovy
from anchovies.store import snapshot
from anchovies.testing import tell


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(anchovy, ["chaos", *args])
    return result.exit_code, result.stdout, result.stderr


def test_a_seed_tells_its_story() -> None:
    code, out, _ = run("--seed", "5")
    assert code == 0 and "creates slot 1 of the log" in out and out.splitlines()[-1].startswith("seed 5: ")
    assert run("--seed", "5") == (code, out, "")
    assert run("--seed", "5", "--quiet")[1] == out.splitlines()[-1] + "\n"


def test_many_are_counted() -> None:
    code, out, _ = run("--seed", "5", "--histories", "3")
    assert code == 0 and out.startswith("seeds 5 to 7: ") and "0 broken promises" in out


def test_a_broken_promise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "shards_for", lambda count: 0)
    monkeypatch.setattr(snapshot, "_keep", lambda store, home, ledger, slot: snapshot.KeptLedger(0))
    code, _, err = run("--histories", "3")
    assert code == 1 and "seed 1 breaks a promise" in err
    code, _, err = run("--seed", "1", "--quiet")
    assert code == 1 and err.startswith("seed 1 breaks a promise")


def test_without_greenlet_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("no greenlet", name="greenlet")

    monkeypatch.setattr(tell, "import_module", missing)
    result = CliRunner().invoke(anchovy, ["chaos"])
    assert "greenlet is not installed" in str(result.exception) and "pip install" in (getattr(result.exception, "hint", "") or "")
