"""`anchovy maintain` as a person uses it, and beside running downloaders and uploaders."""

from __future__ import annotations

import json
import shlex
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

NUMBERS = """
from anchovies.sdk import Downloader, context, source

class Numbers(Downloader):
    @source("numbers")
    def numbers(self, **kwds):
        last = context().checkpoint("last")
        start = last.get(0) + 1
        yield from ({"n": n} for n in range(start, start + 10))
        last.set(start + 9)
"""


@pytest.fixture
def sea(anchovy):  # type: ignore[no-untyped-def]
    """A downloader of ten rows a run, an uploader into SQLite, and how to maintain the first."""
    (anchovy.folder / "numbers_.py").write_text(NUMBERS)
    anchovy.env["ACHVY_CNXN__DB__URL"] = f"sqlite:///{anchovy.folder}/w.db"

    class Sea:
        folder: Path = anchovy.folder

        def down(self) -> None:
            done = anchovy("start", "-op", "./numbers_.py:Numbers", "-i", "num", "-u", "me", "--if-running", "wait")
            assert done.returncode == 0, done.stderr

        def up(self) -> None:
            done = anchovy("start", "-op", "sql.Uploader", "-i", "w", "-u", "me", "-U", "num", "--if-running", "wait")
            assert done.returncode == 0, done.stderr

        def maintain(self, *args: str, code: int = 0) -> str:
            done = anchovy("maintain", "-i", "num", "-u", "me", *args)
            assert done.returncode == code, done.stderr
            return str(done.stdout + done.stderr)

        def data(self) -> set[str]:
            return {p.name for p in anchovy.home.glob("me/num/data/*/*/*")}

        def rows(self) -> list[int]:
            db = sqlite3.connect(f"{anchovy.folder}/w.db")
            found = [n for (n,) in db.execute("SELECT n FROM num__me__numbers ORDER BY n")]
            db.close()
            return found

    return Sea()


def test_what_no_commit_names_goes(sea) -> None:  # type: ignore[no-untyped-def]
    sea.down()
    lane = next(sea.folder.glob(".anchovies/me/num/data/numbers/*"))
    (lane / "0123456789abcdef.parquet").write_bytes(b"of a session that was killed")
    sea.down()
    said = sea.maintain()
    assert "me/num, 2 commits" in said and "deleted    1 file, 28 bytes" in said
    assert len(sea.data()) == 2
    assert json.loads(sea.maintain("--json"))["files"] == 0


def test_retention_waits_for_whoever_is_registered(sea) -> None:  # type: ignore[no-untyped-def]
    sea.down()
    assert "no reader is registered" in sea.maintain("--retain", "1s")
    sea.up()
    sea.down()
    kept = sea.data()
    said = json.loads(sea.maintain("--retain", "0s", "--json"))
    assert said["retired"] == {"numbers": 1} and said["files"] == 1 and len(sea.data() & kept) == 1
    sea.up()
    assert sea.rows() == list(range(1, 21))


def test_a_new_reader_is_told_of_the_gap(sea, anchovy) -> None:  # type: ignore[no-untyped-def]
    sea.down()
    sea.up()
    sea.maintain("--retain", "0s")
    late = anchovy(
        "start", "-op", "sql.Uploader", "-i", "late", "-u", "me", "-U", "num", env={"ACHVY_CNXN__DB__URL": "sqlite:///late.db"}
    )
    assert late.returncode == 1 and "retired" in late.stderr and "numbers" in late.stderr


def test_an_uploader_that_is_gone_is_forgotten(sea) -> None:  # type: ignore[no-untyped-def]
    sea.down()
    sea.up()
    said = sea.maintain("--forget-consumer", "wx", code=2)
    assert "no uploader 'wx' is registered" in said and "me/w" in said
    assert "forgotten" in sea.maintain("--forget-consumer", "w")
    assert "none is registered" in sea.maintain("--forget-consumer", "w", code=2)


def test_a_database_that_was_replaced_is_named_and_forgotten_as_it_is_told(sea, anchovy) -> None:  # type: ignore[no-untyped-def]
    sea.down()
    sea.up()
    (sea.folder / "w.db").rename(sea.folder / "old.db")  # it stays, so its inode is not given out again
    sea.down()
    sea.up()
    assert sea.rows() == list(range(1, 21))
    held = json.loads(sea.maintain("--retain", "0s", "--json"))["holders"]
    assert [(h["consumer"], h["loaded"], h["since"], h["ahead"]) for h in held] == [("me/w", 1, 2, True)]
    said = sea.maintain("--retain", "0s")
    assert "kept       numbers, from commit 2 of " in said and "me/w has loaded no more than commit 1" in said
    assert "it has more in another database" in said
    command = shlex.split(said.partition("gone for good: ")[2].splitlines()[0])
    assert command[:2] == ["anchovy", "maintain"]
    assert "nothing is kept for it any more" in anchovy.ok(*command[1:]).stdout
    done = json.loads(sea.maintain("--retain", "0s", "--json"))
    assert done["holders"] == [] and len(sea.data()) == 0
    assert "no uploader has registered the target" in sea.maintain("--forget-target", "num__me.numbers@0:0", code=2)
    sea.down()
    sea.up()
    assert sea.rows() == list(range(1, 31))


def test_a_reset_is_a_record_with_who_and_why(sea) -> None:  # type: ignore[no-untyped-def]
    sea.down()
    assert "fenced" in sea.maintain("--reset", "brought back from a backup")
    record = json.loads((sea.folder / ".anchovies/me/num/$log/log/0000000000/0000000000000002.json").read_text())
    assert record["kind"] == "reset" and record["change"]["note"]["why"] == "brought back from a backup"
    sea.down()
    sea.up()
    assert sea.rows() == list(range(1, 21))


def test_nothing_there_is_a_mistake(anchovy) -> None:  # type: ignore[no-untyped-def]
    done = anchovy("maintain", "-i", "nobody", "-u", "me")
    assert done.returncode == 2 and "has kept nothing" in done.stderr


def test_many_maintain_while_others_work(sea) -> None:  # type: ignore[no-untyped-def]
    sea.down()
    sea.up()

    def work(n: int) -> None:
        (sea.down, sea.up, lambda: sea.maintain("--retain", "0s"), lambda: sea.maintain("--deep"))[n % 4]()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(16)))
    sea.up()
    assert sea.rows() == list(range(1, 51))
