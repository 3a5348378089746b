"""`cache=True`: the next stage begins after the one before it has ended; rows and marks keep their order; nothing is left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from anchovies.core.errors import FatalError
from anchovies.engine import spool
from anchovies.engine.actions import Ack, DiscardUnit, SetCheckpoint
from anchovies.engine.spool import Spool
from anchovies.sdk import Downloader, Stream, context, sink, source


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_was_put_is_replayed_in_its_order(temp: Path) -> None:
    made = Spool("test", spool._Marks)
    one, two = pa.record_batch({"n": [1, 2, 3]}), pa.record_batch({"other": ["a", None]})
    marks = [(2, [SetCheckpoint("a", {"x": 1}), Ack("t")]), (3, [SetCheckpoint("b", None, gone=True), DiscardUnit(), 0])]
    made.put(one, marks)
    made.put(None, [(0, [])])
    made.put(two.slice(1), [])
    assert os.listdir(temp) == []  # it has no name
    found = list(made.replay())
    assert [(b and b.to_pydict(), also) for b, also in found] == [
        ({"n": [1, 2, 3]}, marks), (None, [(0, [])]), ({"other": [None]}, []),
    ]  # fmt: skip
    made.close()


class Stages(Downloader):
    """What happens, in order."""

    said: list[str]
    count = 30

    @source("a", cache=True)
    def a(self) -> Any:
        cursor = context().checkpoint("a")
        for n in range(cursor.get(0), self.count):
            yield {"n": n}
            cursor.set(n + 1)
        self.said.append("a ended")

    @source("b", cache=True)
    @sink("a", streaming=True)
    def b(self, stream: Stream) -> Any:
        self.said.append("b began")
        yield from stream
        self.said.append("b ended")

    @sink("b")
    def low(self, stream: Stream) -> None:
        for i, _ in enumerate(stream):
            if not i:
                self.said.append("low has rows")


def test_a_stage_begins_after_the_one_before_it_has_ended(place: Any, temp: Path) -> None:
    class Whole(Stages):
        said: list[str] = []

        @source("c")
        @sink("b", streaming=True, cache=True)
        def c(self, stream: Stream) -> Any:
            self.said.append("c began")
            yield from stream

    place.run(Whole, commit_bytes=1, commit_seconds=0)
    said = [s for s in Whole.said if s != "b began"]  # it may wait for its rows
    assert said[:2] == ["a ended", "b ended"]
    assert sorted(said[2:]) == ["c began", "low has rows"]
    for table in "abc":
        assert [r["n"] for r in place.rows(table)] == list(range(30))
        assert place.units(table) == [[n] for n in range(30)]  # marks have come with them
    assert place.checkpoint("a") == 30
    assert os.listdir(temp) == []


def test_a_cached_sink_waits_for_all_rows(place: Any, temp: Path) -> None:
    seen: list[str] = []

    class Waits(Downloader):
        @source("t")
        def t(self) -> Any:
            for n in range(5000):
                yield [{"n": n}] * 3
            seen.append("source ended")

        @sink("t", cache=True)
        def take(self, stream: Stream) -> None:
            seen.append("sink began")
            assert sum(1 for _ in stream) == 15_000

    place.run(Waits)
    assert seen == ["source ended", "sink began"]


def test_a_cached_source_that_fails_keeps_the_whole_units_before_it(place: Any, temp: Path) -> None:
    class Fails(Downloader):
        @source("t", cache=True)
        def t(self) -> Any:
            yield {"n": 1}
            context().checkpoint("t").set(1)
            yield {"n": 2}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        place.run(Fails)
    assert place.rows("t") == [{"n": 1}]
    assert place.checkpoint("t") == 1


def test_rejects_keep_their_place_in_what_is_cached(place: Any, temp: Path) -> None:
    class Bad(Downloader):
        @source("t", cache=True)
        def t(self) -> Any:
            for n in range(6):
                yield {"n": str(n) if n % 2 else "none"}
                context().checkpoint("t").set(n)

        @source("u", cache=True)
        @sink("t", streaming=True)
        def u(self, stream: Stream) -> Any:
            for row in stream:
                yield {"n": str(row["n"]) if row["n"] != 3 else object()}

    says = {"columns": {"n": "int"}, "on_bad_row": "reject"}
    result = place.run(Bad, tbls={"t": says, "u": says})
    assert [(t.tbl, t.kept, t.rejected) for t in result.tables] == [("t", 3, 3), ("u", 2, 1)]
    assert ([r["n"] for r in place.rows("t")], [r["n"] for r in place.rows("u")]) == ([1, 3, 5], [1, 5])


def test_a_limit_cuts_what_was_cached_at_its_mark(place: Any, temp: Path) -> None:
    class Cut(Stages):
        said: list[str] = []

    for done in (10, 20, 30):
        place.run(Cut, tbls={"a": {"batch_rows": 10}})
        assert (place.checkpoint("a"), len(place.rows("a")), len(place.rows("b"))) == (done, done, done)


def test_a_failure_behind_a_cache_ends_all_and_leaves_nothing(place: Any, temp: Path) -> None:
    class Fails(Stages):
        said: list[str] = []

        @sink("b", cache=True)
        def bad(self, stream: Stream) -> None:
            next(iter(stream))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        place.run(Fails)
    assert place.rows("a") == place.rows("b") == []
    assert place.checkpoint("a") is None
    assert os.listdir(temp) == []


@pytest.mark.parametrize("where", ["made", "written"])
def test_a_full_disk_is_a_clear_error_that_names_the_folder(place: Any, temp: Path, monkeypatch: Any, where: str) -> None:
    def full(*args: Any, **kwds: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "made":
        monkeypatch.setattr(spool.tempfile, "TemporaryFile", full)
    else:
        monkeypatch.setattr(spool.tempfile, "TemporaryFile", lambda **kwds: open("/dev/full", "r+b", buffering=0))  # noqa: SIM115

    class Full(Stages):
        said: list[str] = []

    with pytest.raises(FatalError, match=f"temporary folder {temp} took no more: No space left") as caught:
        place.run(Full)
    assert "TMPDIR" in str(caught.value.hint)
    assert place.records() == []


KILLED = """
import os, signal, sys
from anchovies import run
from anchovies.sdk import Downloader, sink, source

class Killed(Downloader):
    @source("t", cache=True)
    def t(self):
        for n in range(300_000):
            yield {"n": n, "text": "x" * 100}
            if n == 250_000:
                os.kill(os.getpid(), signal.SIGKILL)

run(Killed, id="k", user="u", datastore="memory://")
"""


@pytest.mark.slow
def test_a_kill_leaves_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert os.listdir(tmp_path) == []
