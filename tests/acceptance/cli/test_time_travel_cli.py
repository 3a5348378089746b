"""`checkpoint set|delete|rewind` and `replay` as they are typed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

NUMBERS = """
from anchovies.sdk import Downloader, context, source

class Numbers(Downloader):
    @source("numbers")
    def numbers(self, **kwds):
        run = context().checkpoint("run")
        n = run.get(0) + 1
        yield [{"n": i, "run": n} for i in range(n)]
        run.set(n)
"""


@pytest.fixture
def shop(anchovy: Any) -> Any:
    """Three commits of a table with a key."""
    (anchovy.folder / "numbers_.py").write_text(NUMBERS)
    anchovy.config("tbls:\n  numbers: {unique_by: n}\n")
    for _ in range(3):
        anchovy.ok("start", "-op", "./numbers_.py:Numbers", "-i", "shop")
    return anchovy


def rows(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT n, run FROM shop__me__numbers WHERE _del IS NULL ORDER BY n").fetchall()


def test_edits(shop: Any) -> None:
    done = shop.ok("checkpoint", "set", "run", "10", "-i", "shop", "--why", "a test")
    assert "run  3    10" in done.stdout
    assert "me@" in done.stdout and "a test" in done.stdout
    done = json.loads(shop.ok("checkpoint", "-i", "shop", "rewind", "--to", "1", "--json").stdout)
    assert done["changed"] == [{"key": "run", "was": 10, "now": 1}]
    assert (done["slot"], done["why"]) == (5, "checkpoint rewind --to 1")
    assert "nothing to change" in shop.ok("checkpoint", "rewind", "--to", "1", "-i", "shop").stdout
    history = json.loads(shop.ok("checkpoint", "history", "-i", "shop", "--json").stdout)
    assert [(h["slot"], h["value"]) for h in history] == [(1, 1), (2, 2), (3, 3), (4, 10), (5, 1)]
    assert history[3]["by"].startswith("me@") and history[3]["by"].endswith(": a test")
    shop.ok("start", "-op", "./numbers_.py:Numbers", "-i", "shop")
    assert json.loads(shop.ok("checkpoint", "get", "run", "-i", "shop").stdout) == 2
    assert "run" in shop.ok("checkpoint", "delete", "-d", "-i", "shop").stdout
    assert "no checkpoints" in shop.ok("checkpoint", "-i", "shop").stdout


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("set", "run", "3 apples"), "is not JSON"),
        (("delete", "rnu"), "did you mean 'run'?"),
        (("delete",), "say what to forget"),
        (("delete", "run", "--all"), "say what to forget"),
        (("rewind", "--to", "9"), "has no slot 9"),
        (("rewind",), "--to"),
    ],
)
def test_edits_that_cannot_be(shop: Any, typed: tuple[str, ...], said: str) -> None:
    before = shop.visible()
    done = shop("checkpoint", *typed, "-i", "shop")
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert shop.visible() == before


def test_a_new_key_is_set_with_a_warning(shop: Any) -> None:
    assert "did you mean 'run'?" in shop.ok("checkpoint", "set", "runs", "1", "-i", "shop").stderr


def test_nothing_is_edited_where_nothing_was_kept(shop: Any) -> None:
    done = shop("checkpoint", "set", "run", "1", "-i", "shpo")
    assert (done.returncode, "has kept nothing" in done.stderr) == (2, True)
    assert not (shop.home / "me/shpo").exists()


def test_replay_into_another_database(shop: Any) -> None:
    shop.ok("replay", "-U", "shop", "--into", "sqlite:///then.db", "--as-of", "2")
    assert rows(shop.folder / "then.db") == [(0, 2), (1, 2)]
    result = json.loads(shop.ok("replay", "-U", "shop", "--into", "sqlite:///now.db", "--json").stdout)
    assert (result["anchovy_id"], result["commits"]) == ("replay", 1)
    assert rows(shop.folder / "now.db") == [(0, 3), (1, 3), (2, 3)]


def test_replay_into_a_connection_keeps_its_password_to_itself(shop: Any, secret: str) -> None:
    url = f"postgresql://u:{quote(secret, safe='')}@127.0.0.1:1/x"
    assert shop("replay", "-U", "shop", "--into", "copy", env={"ACHVY_CNXN__COPY__URL": url}).returncode == 1
    assert shop("replay", "-U", "shop", "--into", url).returncode == 1  # the runner looks for the secret
    assert shop("replay", "-U", "shop", "--into", url.replace("@", ":@")).returncode != 0
    assert "there is no such connection" in shop("replay", "-U", "shop", "--into", "cpoy").stderr


def test_replay_anew_wants_a_yes(shop: Any) -> None:
    env = {"ACHVY_CNXN__DB__URL": "sqlite:///w.db"}
    shop.ok("start", "-op", "sql.Uploader", "-i", "warehouse", "-U", "shop", env=env)
    done = shop("replay", "-i", "warehouse", "-U", "shop", "--as-of", "1", env=env)
    assert (done.returncode, "loaded already" in done.stderr, "--yes" in done.stderr) == (2, True, True)
    shop.ok("replay", "-i", "warehouse", "-U", "shop", "--as-of", "1", "--yes", env=env)
    assert rows(shop.folder / "w.db") == [(0, 1)]
    shop.ok("start", "-op", "sql.Uploader", "-i", "warehouse", "-U", "shop", env=env)
    assert rows(shop.folder / "w.db") == [(0, 3), (1, 3), (2, 3)]


def test_verify_says_what_holds_and_names_what_does_not(shop: Any) -> None:
    env = {"ACHVY_CNXN__DB__URL": "sqlite:///w.db"}
    shop.ok("start", "-op", "sql.Uploader", "-i", "warehouse", "-U", "shop", env=env)
    before = shop.objects()
    whole = shop.ok("verify", "--all", "--deep")
    assert "me/shop" in whole.stdout and "me/warehouse" in whole.stdout and "BROKEN" not in whole.stdout
    done = shop.ok("verify", "-i", "warehouse", "-op", "sql.Uploader", "-U", "shop", "--json", env=env)
    (found,) = json.loads(done.stdout)["anchovies"]
    assert [x["ok"] for x in found["lines"]] == [True] * 9
    assert "rows, as the receipts say" in found["lines"][-1]["said"]
    assert shop.objects() == before

    (path,) = list((shop.home / "me/shop/data").rglob("*.parquet"))[:1]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\0")
    broken = shop("verify", "-i", "shop")
    assert broken.returncode == 1
    assert f"{path.name} is damaged: its checksum is not the one in the log" in broken.stdout
    assert "restore that file from a backup" in broken.stdout
    path.write_bytes(data)
    assert shop.ok("verify", "-i", "shop").stdout.count(" ok ") == 7

    snap = min((shop.home / "me/shop/$log/snap").iterdir())  # names count down: the newest comes first
    good = snap.read_bytes()
    snap.write_bytes(good[:-9])
    assert "anchovy verify --repair" in shop("verify", "-i", "shop").stdout
    assert "made again: me/shop/$log/snap/" in shop.ok("verify", "-i", "shop", "--repair").stdout
    assert snap.read_bytes() == good


def test_verify_of_nothing(shop: Any) -> None:
    for args in (("-i", "shpo"), ("-u", "nobody", "--all")):
        done = shop("verify", *args)
        assert (done.returncode, "has kept nothing" in done.stderr) == (2, True)


def test_verify_where_the_database_does_not_answer(shop: Any) -> None:
    env = {"ACHVY_CNXN__DB__URL": "sqlite:////nowhere/w.db"}
    shop.ok("start", "-op", "./numbers_.py:Numbers", "-i", "loads")
    done = shop("verify", "-i", "loads", "-op", "./numbers_.py:Numbers", env=env)
    assert (done.returncode, "loads nothing" in done.stderr) == (2, True)
