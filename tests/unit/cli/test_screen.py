"""What a run shows: log lines, the live table, the summary."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from rich.console import Console

from anchovies.cli import say
from anchovies.cli.live import Live, headline
from anchovies.cli.screen import Json, Lines, failures, line_of, next_steps, screen_for
from anchovies.core.config import Config
from anchovies.core.settings import Settings, resolve
from anchovies.engine.events import Event
from anchovies.sdk.result import SessionResult, TableResult


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def now_us(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def result(*tables: TableResult, **more: object) -> SessionResult:
    base: dict[str, object] = {
        "status": "ok", "exit_code": 0, "anchovy_id": "sales", "anchovy_user": "me", "session_id": "s", "operator": "m:CsvDownloader",
        "datastore": "/ds", "commits": 1, "duration_ms": 1500,
    }  # fmt: skip
    return SessionResult(tables=list(tables), **{**base, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Event("committed", "sales", {"rows": 1234, "bytes": 5, "slot": 3}), ("info", "committed sales 1,234 rows slot 3")),
        (
            Event("loaded", "sales", {"rows": 1, "slot": 3, "counts": {"inserted": 1, "late": 0}}),
            ("info", "loaded sales 1 row slot 3 (1 inserted)"),
        ),
        (Event("warning", None, {"message": "look out"}), ("warning", "look out")),
        (Event("task_ended", "t", {"task_type": "TBL", "status": "ERR", "err_msg": "no"}), ("error", "failed tbl t: no")),
        (Event("progress", "t", {"rows": 1}), None),
    ],
    ids=lambda v: getattr(v, "kind", ""),
)
def test_a_line_an_event(event: Event, line: tuple[str, str] | None) -> None:
    assert line_of(event) == line


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("warning") as screen:
        screen.listen(Event("committed", "t", {"rows": 1, "slot": 1}))
        screen.listen(Event("warning", None, {"message": "look out"}))
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.endswith("WARNING look out\n")
    assert caught.err.count("\n") == 1


def test_json_is_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with Json() as screen:
        screen.listen(Event("committed", "t", {"rows": 1, "slot": 1}))
    screen.conclude(result(TableResult(tbl="t")))
    caught = capsys.readouterr()
    assert caught.out.startswith('{\n  "status": "ok"')
    assert caught.err == ""


def test_lines_go_through_the_redactor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ACHVY_CNXN__API__TOKEN", "correct-horse")
    say.redactor.cache_clear()
    Lines().listen(Event("warning", None, {"message": "correct-horse"}))
    say.redactor.cache_clear()
    assert "correct-horse" not in capsys.readouterr().err


def shown(screen: Live) -> str:
    out = Console(file=io.StringIO(), width=120)
    out.print(screen.render())
    text = out.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_live_progress() -> None:
    clock = Clock()
    screen = Live(console=Console(file=io.StringIO(), width=120), clock=clock)
    screen.listen(Event("session_started", None, {"operator": "Csv", "anchovy": "me/sales"}))
    screen.listen(Event("task_started", "sales", {"task_type": "TBL"}))
    clock.sleep(2)
    screen.listen(Event("progress", "sales", {"rows": 10_000, "bytes": 4_000_000, "position": "a.tsv"}))
    screen.listen(Event("committed", "sales", {"rows": 8_000, "slot": 1}))
    text = shown(screen)
    assert "Csv me/sales" in text
    row = next(line for line in text.splitlines() if line.startswith("sales"))
    assert row.split() == ["sales", "10,000", "5,000", "2.0", "8,000", "a.tsv"]


def concluded(found: SessionResult, *events: Event) -> str:
    console = Console(file=io.StringIO(), width=120)
    screen = Live(console=console, clock=Clock())
    for event in events:
        screen.listen(event)
    screen.conclude(found)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_of_a_download() -> None:
    text = concluded(result(TableResult(tbl="sales", rows=1200, kept=1100, commits=2)))
    assert "read" in text and "kept" in text
    assert "1,200" in text and "1,100" in text
    assert "done: 1,100 rows in 1 commit, 1.5 s; kept in /ds" in text
    assert "anchovy start -op sql.Uploader --id warehouse -u me -U sales" in text


def test_the_summary_of_a_load() -> None:
    counts = {"inserted": 5, "changed": 4, "unchanged": 3, "late": 2, "expired": 1}
    text = concluded(result(TableResult(tbl="sales", kept=15, counts=counts), operator="m:Uploader"))
    row = next(line for line in text.splitlines() if line.startswith("sales"))
    assert row.split()[:8] == ["sales", "ok", "15", "5", "4", "3", "2", "1"]
    assert "next:" not in text


def test_warnings_and_failures_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    failed = result(
        TableResult(tbl="t", status="failed", err_msg="boom", hint="mend it"),
        status="failed",
        exit_code=1,
        err_msg="t: boom",
        commits=0,
    )
    concluded(failed, Event("warning", "u", {"message": "read in full"}))
    err = capsys.readouterr().err
    assert err.count("boom") == 1
    assert "hint: mend it" in err
    assert "warning: read in full" in err


def test_headlines() -> None:
    assert headline(result(commits=0)) == "nothing new (1.5 s)"
    assert headline(result(status="skipped", err_msg="pid 5 runs it")) == "skipped: pid 5 runs it"
    assert headline(result(status="timeout", exit_code=3)).startswith("timeout: ")
    assert not next_steps(result(status="failed", exit_code=1))
    assert failures(result(err_msg="x", hint="y")) == [("x", "y")]


def test_which_screen() -> None:
    def screen(**cli: object) -> object:
        return screen_for(resolve({"id": "x", **cli}, {}, Config()))

    assert type(screen(json=True)) is Json
    assert type(screen()) is Lines  # tests have no terminal


def test_a_failure_is_told_once_with_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """A log line has told it; what no line has told is told at the end."""
    bad = TableResult(tbl="t", status="failed", err_msg="boom", hint="mend it")
    unheard = TableResult(tbl="u", status="failed", err_msg="bang", hint="mend that")
    screen = Lines()
    screen.listen(Event("task_ended", "t", {"task_type": "TBL", "status": "ERR", "err_msg": "boom", "hint": "mend it"}))
    screen.conclude(result(bad, unheard, status="failed", exit_code=1, err_type="TableFailures", err_msg="2 tables failed"))
    err = capsys.readouterr().err
    assert [err.count(x) for x in ("boom", "mend it", "bang", "mend that", "2 tables")] == [1, 1, 1, 1, 0]
    assert err.splitlines()[0].endswith("ERROR failed tbl t: boom (hint: mend it)")
    Lines().conclude(result(status="failed", exit_code=1, err_type="X", err_msg="no datastore", hint="look"))
    assert capsys.readouterr().err == "error: no datastore\nhint: look\n"


def test_rows_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().listen(Event("rows", "t", {"rows": [{"n": 1, "on": date(2026, 1, 2)}, {"n": 2}]}))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" INFO ")[2] for line in lines] == ['row t {"n":1,"on":"2026-01-02"}', 'row t {"n":2}']


@pytest.fixture
def json_settings() -> Iterator[Settings]:
    yield resolve({"id": "sales", "user": "me", "log_format": "json"}, {}, Config())
    say.speak_json(False)


def told(err: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in err.splitlines()]


def test_json_lines(json_settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    screen = screen_for(json_settings)
    with screen:
        screen.listen(Event("warning", None, {"message": "early"}))
        screen.listen(Event("session_started", None, {"session": "s-1", "operator": "Csv", "anchovy": "me/sales"}))
        screen.listen(Event("batch_started", None, {"batch": 3}))
        screen.listen(Event("progress", "t", {"rows": 1}))
        screen.listen(Event("committed", "t", {"rows": 2, "bytes": 5, "slot": 7}))
        screen.listen(Event("rows", "t", {"rows": [{"n": 1}]}))
        bad = {"task_type": "TBL", "status": "ERR", "err_msg": "boom", "hint": "mend it", "error": ValueError("boom")}
        screen.listen(Event("task_ended", "t", bad))
        found = result(TableResult(tbl="t", status="failed", err_msg="boom"), status="failed", exit_code=1, err_msg="t: boom")
        screen.listen(Event("session_ended", None, {"result": found}))
    screen.conclude(found)
    caught = capsys.readouterr()
    assert caught.out == ""
    lines = told(caught.err)
    assert [(x["level"], x["event"]) for x in lines] == [
        ("warning", "warning"), ("info", "session_started"), ("info", "committed"), ("info", "rows"), ("error", "task_ended"),
        ("error", "session_ended"),
    ]  # fmt: skip
    early, started, committed, rows, failed, ended = lines
    assert (early["message"], early["anchovy"]) == ("early", "me/sales")
    assert (started["session"], started["operator"]) == ("s-1", "Csv")
    assert {k: v for k, v in committed.items() if k != "timestamp"} == {
        "level": "info", "event": "committed", "message": "committed t 2 rows slot 7", "anchovy": "me/sales", "session": "s-1",
        "batch": 3, "tbl": "t", "rows": 2, "bytes": 5, "slot": 7,
    }  # fmt: skip
    assert committed["timestamp"].endswith("Z")
    assert rows["rows"] == [{"n": 1}]
    assert (failed["err_type"], failed["err_msg"], failed["hint"]) == ("ValueError", "boom", "mend it")
    assert "traceback" not in failed
    assert (ended["status"], ended["exit_code"], ended["err_msg"]) == ("failed", 1, "t: boom")


def test_json_lines_of_everything_have_tracebacks(json_settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    screen = screen_for(json_settings.with_(log_level="debug"))
    screen.listen(Event("task_ended", "t", {"status": "ERR", "err_msg": "boom", "error": ValueError("boom")}))
    screen.listen(Event("progress", "t", {"rows": 1}))
    failed, progress = told(capsys.readouterr().err)
    assert failed["traceback"] == "ValueError: boom"
    assert (progress["level"], progress["rows"]) == ("debug", 1)


def test_json_lines_beside_a_result(json_settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    screen = screen_for(json_settings.with_(json=True))
    screen.listen(Event("committed", "t", {"rows": 1, "slot": 1}))
    screen.listen(Event("warning", None, {"message": "look out"}))
    screen.conclude(result())
    caught = capsys.readouterr()
    assert json.loads(caught.out)["status"] == "ok"
    assert [x["message"] for x in told(caught.err)] == ["look out"]


def test_json_lines_hide_secrets(
    json_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACHVY_CNXN__API__TOKEN", 'correct"horse\n')
    say.redactor.cache_clear()
    screen_for(json_settings).listen(Event("warning", None, {"message": 'of correct"horse\n', "deep": ['correct"horse\n']}))
    say.redactor.cache_clear()
    (line,) = told(capsys.readouterr().err)
    assert (line["message"], line["deep"]) == ("of ***", ["***"])


def test_live_progress_of_several_tables_at_once() -> None:
    clock = Clock()
    screen = Live(console=Console(file=io.StringIO(), width=120, height=9), clock=clock)
    screen.listen(Event("session_started", None, {"operator": "Csv", "anchovy": "me/sales"}))
    for n in range(8):
        screen.listen(Event("task_started", f"t{n}", {"task_type": "TBL"}))
    clock.sleep(2)
    for n, status in ((0, "OK"), (1, "ERR"), (2, "OK"), (3, "OK")):
        screen.listen(Event("task_ended", f"t{n}", {"status": status, "rows": 5}))
        clock.sleep(1)
    screen.listen(Event("progress", "t6", {"rows": 600}))
    screen.listen(Event("progress", "t7", {"rows": 60}))
    text = shown(screen)
    assert "Csv me/sales: 4 running, 3 done, 1 failed, 110 rows/s" in text
    rows = [line.split()[:3] for line in text.splitlines() if line.startswith("t") and line[1].isdigit()]
    assert [r[0] for r in rows] == ["t1", "t4", "t5", "t6", "t7"], "what is done makes room"
    assert rows[3] == ["t6", "600", "100"]
    assert "… and 3 tables more" in text
