"""The suites for authors catch what they say that they catch: one broken operator for each check, and a good one that passes."""

from __future__ import annotations

import inspect
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anchovies.sdk import Connection, ConnectionMemo, Downloader, Secret, Uploader, context, on_task, sink, source
from anchovies.sdk.stream import Counts, Load, Position, PositionMoved
from anchovies.testing.chaosruns import ChaosRuns
from anchovies.testing.downloader import DownloaderSuite
from anchovies.testing.trial import Subject, Trial
from anchovies.testing.uploader import UploaderSuite
from anchovies.testing.uploads import Target, Upload

_stray = threading.Event()  # what stray threads of a test wait for


class Shop(Connection):
    """Items, one a line, in a file; some operators below remember things beside it."""

    path: str
    token: Secret = Secret("")

    def items(self, after: int = 0) -> list[dict[str, Any]]:
        text = Path(self.path).read_text()
        return [x for x in map(json.loads, text.splitlines()) if x["id"] > after]

    @property
    def notes(self) -> Path:
        return Path(self.path).with_name("notes")


class Good(Downloader):
    connection_cls = Shop

    @source("items")
    def items(self) -> Iterator[Any]:
        last = context().checkpoint("last")
        for item in self.cnxn.items(last.get(0)):
            yield item
            last.set(item["id"])

    @source("parts")
    @sink("items", streaming=True)
    def parts(self, stream: Any) -> Iterator[Any]:
        for item in stream:
            yield {"item": item["id"], "part": "a"}
            yield {"item": item["id"], "part": "b"}


class MarksTooEarly(Good):
    @source("items")
    def items(self) -> Iterator[Any]:
        last = context().checkpoint("last")
        for item in self.cnxn.items(last.get(0)):
            last.set(item["id"])
            yield item


class MarksTooLate(Good):
    @source("items")
    def items(self) -> Iterator[Any]:
        last = context().checkpoint("last")
        before = last.get(0)
        for item in self.cnxn.items(before):
            yield item
            last.set(before)
            before = item["id"]


class NeverMarks(Good):
    @source("items")
    def items(self) -> Iterator[Any]:
        yield from self.cnxn.items()


class SkipsOne(Good):
    @source("items")
    def items(self) -> Iterator[Any]:
        last = context().checkpoint("last")
        for item in self.cnxn.items(last.get(0)):
            yield item
            last.set(item["id"] + 1)


class OneAtATime(Good):
    """It keeps what it is at in itself, where another table finds it."""

    _busy = threading.Lock()

    @source("others")
    def others(self) -> Iterator[Any]:
        yield from self._alone()

    @source("items")
    def items(self) -> Iterator[Any]:
        yield from self._alone()

    def _alone(self) -> Iterator[Any]:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("two at once")
        try:
            _stray.wait(0.3)
            yield from self.cnxn.items()
        finally:
            self._busy.release()


class OneForAllSplits(Good):
    """One checkpoint says that everything was read, whichever split it was."""

    @on_task("xopen")
    def look(self) -> None:
        self._read = context().checkpoint("read").get(False)

    @source("items", splits=["even", "odd", "none", "nothing"])
    def items(self, split: str) -> Iterator[Any]:
        for item in [] if self._read else self.cnxn.items():
            if item["id"] % 2 == {"even": 0, "odd": 1}.get(split):
                yield item
        context().checkpoint("read").set(True)


class MovesByItself(Good):
    _calls = itertools.count()

    @source("items")
    def items(self) -> Iterator[Any]:
        yield from super().items()
        context().checkpoint("seen").set(next(self._calls))


class NeverTheSame(Good):
    _calls = itertools.count()

    @source("items")
    def items(self) -> Iterator[Any]:
        last = context().checkpoint("last")
        for item in self.cnxn.items(last.get(0)):
            yield {**item, "read": next(self._calls)}
            last.set(item["id"])


class RemembersElsewhere(Good):
    """Its position lies in a file of its own, which knows nothing of commits."""

    @source("items")
    def items(self) -> Iterator[Any]:
        notes = self.cnxn.notes
        after = int(notes.read_text()) if notes.exists() else 0
        for item in self.cnxn.items(after):
            yield item
            notes.write_text(str(item["id"]))


class KeepsHalf(Good):
    """What it read of something that then breaks off stays."""

    @source("items")
    def items(self) -> Iterator[Any]:
        done = context().checkpoint("done")
        if done.get():
            return
        for line in Path(self.cnxn.path).read_text().splitlines():
            yield {"id": line}
            context().checkpoint("at").set(line)
        done.set(True)


class HoldsItsPlace(Good):
    """What it has yielded it takes for kept."""

    parts = None  # type: ignore[assignment]
    _at = -1

    @source("items")
    def items(self) -> Iterator[Any]:
        last = context().checkpoint("last")
        self._at = max(self._at, last.get(0))
        for item in self.cnxn.items(self._at):
            yield item
            self._at = item["id"]
            if self._at % 3 == 0:
                last.set(self._at)
        last.set(self._at)


class KeepsBack(Good):
    @source("parts")
    @sink("items", streaming=True)
    def parts(self, stream: Any) -> Iterator[Any]:
        held: list[Any] = []
        for item in stream:
            held.append({"item": item["id"]})
            if len(held) == 3:
                yield from held
                held = []
        yield from held


class TellsLate(Good):
    """A sink that hands on two rows at a time."""

    @sink("items", streaming=True)
    def tell(self, stream: Any) -> None:
        held: list[str] = []
        for item in stream:
            held.append(f"{item['id']}\n")
            if len(held) == 2:
                self._write(held)
                held = []
        self._write(held)

    def _write(self, lines: list[str]) -> None:
        with open(self.cnxn.notes, "a") as notes:
            notes.writelines(lines)


class Prints(Good):
    @source("items")
    def items(self) -> Iterator[Any]:
        print("token", self.cnxn.token.reveal())
        yield from super().items()


class KeepsTheToken(Good):
    @source("items")
    def items(self) -> Iterator[Any]:
        for item in super().items():
            yield {**item, "by": self.cnxn.token.reveal()}


class LeavesAThread(Good):
    @source("items")
    def items(self) -> Iterator[Any]:
        threading.Thread(target=_stray.wait, daemon=True, name="stray").start()
        yield from super().items()


class LeavesAFile(Good):
    _kept: list[Any] = []

    @source("items")
    def items(self) -> Iterator[Any]:
        self._kept.append(open(self.cnxn.path))  # noqa: SIM115
        yield from super().items()


class Suite(DownloaderSuite):
    """Over `operator`."""

    def __init__(self, operator: type[Downloader]) -> None:
        self.operator = operator

    def make(self, folder: Path) -> Subject:
        shop = folder / "shop"
        shop.write_text("".join(f'{{"id": {n}}}\n' for n in range(1, 8)))

        def grow() -> None:
            with open(shop, "a") as f:
                f.write('{"id": 8}\n{"id": 9}\n')

        def spoil() -> Any:
            shop.write_text('{"id": 1}\n{"id": 2}\n{"i')
            return lambda: shop.write_text("".join(f'{{"id": {n}}}\n' for n in range(1, 8)))

        notes = folder / "notes"
        seen = {"tell": lambda: notes.read_text() if notes.exists() else ""}
        cnxns = {"default": {"path": str(shop), "token": "open-sesame-7"}}
        return Subject(self.operator, cnxns=cnxns, grow=grow, spoil=spoil, observe=seen)


def checks(suite: type) -> list[str]:
    return [name for name in dir(suite) if name.startswith("test_")]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`check(suite, name)` runs one test of a suite by hand, at `most` places."""
    chaos = ChaosRuns(None, False, tmp_path)
    monkeypatch.setattr("anchovies.testing.downloader.PATIENCE", 0.1)

    def run(suite: Any, name: str, most: int | None = 4, **more: Any) -> None:
        chaos.most = most
        method = getattr(suite, name)
        given: dict[str, Any] = {"anchovy_chaos": chaos, **more}
        given["trial"] = lambda: Trial(chaos.world(suite.make))
        given["upload"] = lambda **how: Upload(chaos.world(suite.make), **how)
        method(**{k: given[k] for k in inspect.signature(method).parameters})

    yield run
    chaos.close()


@pytest.mark.parametrize("name", checks(DownloaderSuite))
def test_a_good_downloader_passes(check: Any, name: str) -> None:
    check(Suite(Good), name)


YIELD, KILL = "test_a_failure_at_any_yield_loses_and_doubles_nothing", "test_a_kill_at_any_request_loses_and_doubles_nothing"


@pytest.mark.parametrize(
    ("operator", "name", "said"),
    [
        (MarksTooEarly, YIELD, "after the next run, items: 1 of 7 rows missing"),
        (MarksTooLate, "test_a_second_run_keeps_nothing_new", "nothing moved, but the second run kept rows"),
        (NeverMarks, "test_a_second_run_keeps_nothing_new", "7 of 7 rows too many"),
        (SkipsOne, "test_what_comes_later_comes_once", "read in two goes, and in one, the rows differ"),
        (MovesByItself, "test_a_second_run_keeps_nothing_new", "nothing moved, but a checkpoint did"),
        (NeverTheSame, "test_two_fresh_runs_bring_the_same", "two runs over equal sources"),
        (OneAtATime, "test_tables_side_by_side_bring_the_same", "four tables at once (--threads 4): failed: "),
        (OneForAllSplits, "test_two_workers_bring_what_one_brings", "shared by two workers, the rows differ"),
        (HoldsItsPlace, "test_a_source_that_asks_for_another_try_gets_it", "the source was called again, and items: 1 of 7 rows"),
        (RemembersElsewhere, KILL, "after the next run"),
        (RemembersElsewhere, "test_preview_and_plan_store_nothing", "looking changed what a run brings"),
        (KeepsHalf, "test_a_source_that_breaks_off_is_taken_back", "rows of what was broken were kept"),
        (KeepsBack, "test_streaming_sinks_keep_nothing_back", "parts says streaming=True, but of 1 rows"),
        (TellsLate, "test_streaming_sinks_keep_nothing_back", "tell says streaming=True, but of 1 rows"),
        (Prints, "test_secrets_stay_secret", "shows in: output"),
        (KeepsTheToken, "test_secrets_stay_secret", "shows in: rows"),
        (LeavesAThread, "test_nothing_stays_open", "left open after a session: thread stray"),
        (LeavesAFile, "test_nothing_stays_open", "left open after a session: descriptor of"),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_a_broken_downloader_is_caught(check: Any, operator: type[Downloader], name: str, said: str) -> None:
    try:
        with pytest.raises(AssertionError) as caught:
            check(Suite(operator), name, most=None)
        assert said in str(caught.value)
    finally:
        _stray.set()
        _stray.clear()
        for file in LeavesAFile._kept:
            file.close()
        LeavesAFile._kept.clear()


def test_an_empty_source_proves_nothing(check: Any) -> None:
    class Empty(Good):
        @source("items")
        def items(self) -> Iterator[Any]:
            yield from ()

    with pytest.raises(AssertionError, match="the source of the test has no rows"):
        check(Suite(Empty), "test_it_brings_rows")


def test_a_table_that_is_read_in_full_may_come_again(check: Any) -> None:
    class Whole(Suite):
        def make(self, folder: Path) -> Subject:
            found = super().make(folder)
            found.whole = ("items", "parts")
            return found

    for name in (YIELD, KILL, "test_a_second_run_keeps_nothing_new", "test_what_comes_later_comes_once"):
        check(Whole(NeverMarks), name)


# uploaders


class Folder:
    """A target that changes as one: a file that is replaced."""

    def __init__(self, path: str, token: str = "") -> None:
        self.file = Path(path)

    def read(self) -> dict[str, Any]:
        return json.loads(self.file.read_text()) if self.file.exists() else {"at": [0, ""], "rows": []}

    def write(self, held: dict[str, Any]) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(held))
        new.rename(self.file)


class GoodUploader(Uploader):
    place = ConnectionMemo("place", Folder)

    def position(self, target: Any) -> Position | None:
        slot, cid = self.place.read()["at"]
        return Position(slot, cid) if slot else None

    def load(self, load: Load) -> Counts:
        held = self.place.read()
        self._check(held, load)
        rows = [row for file in load.files for batch in file.batches() for row in batch.to_pylist()]
        held["rows"] += rows
        held["at"] = [load.end.slot, load.end.cid]
        self.place.write(held)
        return {"inserted": len(rows)}

    def _check(self, held: dict[str, Any], load: Load) -> None:
        if held["at"] != [load.start.slot, load.start.cid]:
            raise PositionMoved("somebody else was faster")


class NeverLooks(GoodUploader):
    def _check(self, held: dict[str, Any], load: Load) -> None:
        """It does not."""


class InPieces(GoodUploader):
    """Rows first, the position later."""

    def load(self, load: Load) -> Counts:
        self._check(self.place.read(), load)
        for file in load.files:
            for batch in file.batches():
                held = self.place.read()
                held["rows"] += batch.to_pylist()
                self.place.write(held)
        held = self.place.read()
        held["at"] = [load.end.slot, load.end.cid]
        self.place.write(held)
        return {"inserted": load.rows}


class Forgets(GoodUploader):
    """Its position is the uploader's own memory."""

    def position(self, target: Any) -> Position | None:
        return None

    def _check(self, held: dict[str, Any], load: Load) -> None:
        """It could not."""


class LoadsInPlans(GoodUploader):
    def plan_load(self, target: Any) -> list[str]:
        held = self.place.read()
        held["rows"].append({"id": 0})
        self.place.write(held)
        return []


class Sinks(Uploader):
    place = ConnectionMemo("place", Folder)

    @sink("items")
    def items(self, stream: Any) -> None:
        for row in stream:
            held = self.place.read()
            held["rows"].append(row)
            self.place.write(held)


class SwallowsErrors(Sinks):
    @sink("items")
    def items(self, stream: Any) -> None:
        try:
            super().items(stream)
        except OSError:
            return


class Chatty(Sinks):
    @sink("items")
    def items(self, stream: Any) -> None:
        print("https://me:open-sesame-7@example.com")
        super().items(stream)


class SuiteUp(UploaderSuite):
    def __init__(self, operator: type[Uploader]) -> None:
        self.operator = operator

    def make(self, folder: Path) -> Target:
        file = folder / "target.json"
        return Target(
            self.operator,
            cnxns={"place": {"path": str(file), "token": "open-sesame-7"}},
            contents=lambda: {"items": Folder(str(file)).read()["rows"]},
            exactly=issubclass(self.operator, GoodUploader),
            secrets=["open-sesame-7"],
        )


@pytest.mark.parametrize("operator", [GoodUploader, Sinks], ids=lambda x: x.__name__)
@pytest.mark.parametrize("name", checks(UploaderSuite))
def test_a_good_uploader_passes(check: Any, operator: type[Uploader], name: str) -> None:
    check(SuiteUp(operator), name, nth=2)


ENDS = "test_an_end_at_any_request_or_row_loses_and_doubles_nothing"
BREAKS = "test_a_load_that_breaks_off_changes_nothing"


@pytest.mark.parametrize(
    ("operator", "name", "said"),
    [
        (NeverLooks, "test_a_load_that_begins_elsewhere_is_refused", "was taken: check the position"),
        (InPieces, BREAKS, "a load that failed left rows behind"),
        (Forgets, "test_a_lost_answer_loads_nothing_twice", "8 of 8 rows too many"),
        (Forgets, "test_a_target_that_stands_elsewhere_is_believed", "rows too many"),
        (Forgets, ENDS, "rows too many"),
        (InPieces, ENDS, "failed at row 2 of 8"),
        (LoadsInPlans, "test_plan_changes_nothing", "a look loaded rows"),
        (SwallowsErrors, "test_a_sink_that_fails_gets_its_rows_again", "the run said that all went well"),
        (Chatty, "test_secrets_stay_secret", "shows in: output"),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_a_broken_uploader_is_caught(check: Any, operator: type[Uploader], name: str, said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check(SuiteUp(operator), name, most=None, nth=2)
    assert said in str(caught.value)


# the places


@pytest.mark.parametrize(
    ("most", "total", "found"), [(None, 3, [1, 2, 3]), (5, 9, [1, 3, 5, 7, 9]), (1, 4, [4]), (5, 0, []), (9, 2, [1, 2])]
)
def test_places_are_spread(tmp_path: Path, most: int | None, total: int, found: list[int]) -> None:
    assert ChaosRuns(most, False, tmp_path).places(total) == found


def test_the_fixture_alone(anchovy_chaos: ChaosRuns) -> None:
    anchovy_chaos(Suite(Good).make)
    runs = anchovy_chaos.runs
    anchovy_chaos(SuiteUp(GoodUploader).make)
    assert anchovy_chaos.runs > runs > 5
    with pytest.raises(AssertionError, match="failed before yield"):
        anchovy_chaos(Suite(MarksTooEarly).make)
