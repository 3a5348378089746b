"""What a run shows while it runs, and at its end: a live display on a terminal, one line an event elsewhere, or JSON."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Collection
from importlib import import_module
from typing import Any, Protocol, Self

import msgspec

from anchovies.cli import say
from anchovies.core.clock import SystemClock, iso
from anchovies.core.errors import Stopped
from anchovies.core.settings import Settings
from anchovies.core.words import count
from anchovies.engine.events import Event
from anchovies.sdk.result import SessionResult, TableResult

LEVELS = ("debug", "info", "warning", "error")


class Screen(Protocol):
    """`with screen:` shows it; `listen` is what the engine tells; `conclude` comes after everything."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def listen(self, event: Event) -> None: ...
    def conclude(self, result: SessionResult) -> None: ...


def screen_for(settings: Settings) -> Screen:
    """The screen that fits: JSON lines, `--json`, a terminal, or none of them."""
    if settings.log_format == "json":
        lines = import_module("anchovies.cli.jsonlog")
        logged: Screen = (lines.JsonLinesAndResult if settings.json else lines.JsonLines)(settings.log_level, settings)
        return logged
    if settings.json:
        return Json(settings.log_level)
    lively = not (settings.no_progress or settings.log_rows) and settings.log_level in ("info", "warning")
    if lively and sys.stderr.isatty():
        live: Screen = import_module("anchovies.cli.live").Live(settings.log_level)
        return live
    return Lines(settings.log_level)


class Lines:
    """One line an event, on stderr."""

    def __init__(self, level: str = "info") -> None:
        self._least = LEVELS.index(level)
        self._told: set[object] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def listen(self, event: Event) -> None:
        told = line_of(event)
        if told and self._shows(event, told[0]):
            self._told |= {event.data["err_msg"]} if event.data.get("err_msg") else set()
            for line in told[1].splitlines() if event.kind == "rows" else (told[1],):
                say.note(f"{iso(SystemClock().now_us())} {told[0].upper()} {line}")
            if self._least == 0 and isinstance(error := event.data.get("error"), BaseException):
                say.note("".join(traceback.format_exception(error)).rstrip())

    def _shows(self, event: Event, level: str) -> bool:
        """Rows come only where they were asked for."""
        return event.kind == "rows" or LEVELS.index(level) >= self._least

    def conclude(self, result: SessionResult) -> None:
        """What failed, unless a line has told it."""
        for message, hint in failures(result, self._told):
            say.error(message, hint)


class Json(Lines):
    """The result as JSON on stdout; warnings and errors on stderr."""

    def __init__(self, level: str = "info") -> None:
        super().__init__(self.quiet(level))

    @staticmethod
    def quiet(level: str) -> str:
        """The level that is meant where the result tells the rest."""
        return "warning" if level == "info" else level

    def conclude(self, result: SessionResult) -> None:
        say.out(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())


def line_of(event: Event) -> tuple[str, str] | None:
    """(level, text) of an event; None for those that only a live display shows."""
    make = _LINES.get(event.kind)
    return make(event.tbl or "", event.data) if make else None


def _started(tbl: str, d: dict[str, Any]) -> tuple[str, str]:
    return "info", f"start {d.get('operator', '')} as {d.get('anchovy', '')} in {d.get('datastore', '')}"


def _committed(tbl: str, d: dict[str, Any]) -> tuple[str, str]:
    return "info", f"committed {tbl} {count(d.get('rows', 0), 'row')} slot {d.get('slot')}"


def _loaded(tbl: str, d: dict[str, Any]) -> tuple[str, str]:
    counts = ", ".join(f"{v:,} {k}" for k, v in d.get("counts", {}).items() if v)
    return "info", f"loaded {tbl} {count(d.get('rows', 0), 'row')} slot {d.get('slot')}{f' ({counts})' if counts else ''}"


def _task(tbl: str, d: dict[str, Any]) -> tuple[str, str]:
    name = f"{str(d.get('task_type', '')).lower()}{f' {tbl}' if tbl else ''}"
    if isinstance(d.get("error"), Stopped):
        return "info", f"stopped {name}: {d.get('err_msg')}"
    if d.get("status") == "ERR":
        hint = f" (hint: {d['hint']})" if d.get("hint") else ""
        return "error", f"failed {name}: {d.get('err_msg')}{hint}"
    level = "info" if tbl else "debug"
    rows = f" read {count(d['rows'], 'row')}, kept {d.get('kept', 0):,}" if "rows" in d else ""
    rows += f", rejected {d['rejected']:,}" if d.get("rejected") else ""
    return level, f"done {name}{rows} in {d.get('duration_ms', 0)} ms"


def _rows(tbl: str, d: dict[str, Any]) -> tuple[str, str]:
    encode = msgspec.json.Encoder(enc_hook=str).encode
    return "info", "\n".join(f"row {tbl} {encode(row).decode()}" for row in d["rows"])


def _ended(tbl: str, d: dict[str, Any]) -> tuple[str, str]:
    result: SessionResult | None = d.get("result")
    if result is None:
        return "info", "end"
    text = f"end {result.status}: {count(result.rows, 'row')} in {count(result.commits, 'commit')}, {result.duration_ms} ms"
    return ("info" if result.ok else "error"), text


_LINES = {
    "session_started": _started,
    "batch_started": lambda tbl, d: ("debug", f"batch {d.get('batch')}"),
    "task_started": lambda tbl, d: ("debug", f"begin {str(d.get('task_type', '')).lower()} {tbl}".rstrip()),
    "committed": _committed,
    "loaded": _loaded,
    "task_ended": _task,
    "rows": _rows,
    "warning": lambda tbl, d: ("warning", f"{d.get('message')}"),
    "reloaded": lambda tbl, d: ("info", f"{d.get('file')} was read again: {', '.join(d.get('changed', ()))}"),
    "woken": lambda tbl, d: ("debug", f"woken by {', '.join(d.get('upstreams', ()))}"),
    "batch_ended": lambda tbl, d: ("debug", f"end of batch {d.get('batch')}"),
    "session_ended": _ended,
}


def failures(result: SessionResult, told: Collection[object] = ()) -> list[tuple[str, str | None]]:
    """(message, hint) of what failed: each table, then the session if that says something else. Not those whose message was
    `told`."""
    failed = [(t.tbl, t.err_msg, t.hint) for t in _failed(result) if t.err_msg]
    found = [(msg if tbl in msg else f"{tbl}: {msg}", hint) for tbl, msg, hint in failed if msg not in told]
    if result.err_type == "TableFailures" and failed:
        return found  # each has been told
    if result.err_msg and not any(result.err_msg in (t.err_msg, f"{t.tbl}: {t.err_msg}") for t in result.tables):
        found.append((result.err_msg, result.hint))
    return found


def _failed(result: SessionResult) -> list[TableResult]:
    """A service that was told to stop has done its work, although a table was in the middle of something."""
    return [t for t in result.tables if t.err_msg and not (result.ok and t.status == "interrupted")]


def next_steps(result: SessionResult) -> list[str]:
    """What somebody may want to type now."""
    me = f"--id {result.anchovy_id} -u {result.anchovy_user}"
    if result.status == "skipped" or not result.ok:
        return []
    if any(t.counts for t in result.tables):
        return []
    if "Uploader" in result.operator.rpartition(":")[2]:
        return []
    return [f"anchovy start -op sql.Uploader --id warehouse -u {result.anchovy_user} -U {result.anchovy_id}   # load it",
            f"anchovy checkpoint {me}   # how far it is"]  # fmt: skip
