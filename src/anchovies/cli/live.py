"""The live display of a terminal, and the summary at its end. Needs rich, so it is loaded only where there is a terminal."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from anchovies.cli import say
from anchovies.cli.screen import failures, next_steps
from anchovies.core.clock import Clock, SystemClock
from anchovies.core.words import count
from anchovies.engine.events import Event
from anchovies.sdk.result import SessionResult, TableResult

STYLES = {"ok": "green", "failed": "bold red", "timeout": "bold red", "interrupted": "yellow", "skipped": "yellow"}
COUNTS = ("inserted", "changed", "unchanged", "late", "expired")


@dataclass
class Progress:
    """One table while it runs. Times are monotonic seconds."""

    began: float
    rows: int = 0
    bytes: int = 0
    kept: int = 0
    position: str = ""
    ended: float | None = None
    status: str = ""


class Live:
    """Tables with rows, rates and positions, refreshed four times a second; warnings above it."""

    def __init__(self, level: str = "info", console: Console | None = None, clock: Clock | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._tables: dict[str, Progress] = {}
        self._title = "starting"
        self._warnings: list[str] = []
        self._spinner = Spinner("dots")
        self._live = RichLive(console=self.console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def listen(self, event: Event) -> None:
        with self._lock:
            if event.kind == "session_started":
                self._title = f"{event.data.get('operator')} {event.data.get('anchovy')}"
            elif event.kind == "warning":
                self._warnings.append(str(event.data.get("message")))
            elif event.kind == "batch_started":
                self._tables.clear()
            elif event.tbl is not None:
                self._table_event(event.tbl, event.kind, event.data)

    def _table_event(self, tbl: str, kind: str, data: dict[str, Any]) -> None:
        if kind == "task_started":
            self._tables[tbl] = Progress(self._clock.monotonic())
        shown = self._tables.setdefault(tbl, Progress(self._clock.monotonic()))
        if kind == "progress":
            shown.rows, shown.bytes = data.get("rows") or 0, data.get("bytes") or 0
            shown.position = str(data.get("position") or "")
        elif kind in ("committed", "loaded"):
            shown.kept += data.get("rows") or 0
        elif kind == "task_ended":
            shown.rows = data.get("rows", shown.rows)
            shown.ended, shown.status = self._clock.monotonic(), "failed" if data.get("status") == "ERR" else "ok"

    def render(self) -> Group:
        """What the screen shows right now."""
        with self._lock:
            title, every = self._title, list(self._tables.items())
        tables, hidden = self._fitting(every)
        self._spinner.update(text=Text(say.redactor()(f"{title}{self._together(every)}")))
        grid = Table(box=None, pad_edge=False, header_style="dim")
        for name, right in (("table", 0), ("rows", 1), ("rows/s", 1), ("MB/s", 1), ("kept", 1), ("position", 0)):
            grid.add_column(name, justify="right" if right else "left", no_wrap=True)
        for name, p in tables:
            seconds = max((p.ended or self._clock.monotonic()) - p.began, 0.001)
            rate, speed = f"{p.rows / seconds:,.0f}", f"{p.bytes / seconds / 1e6:,.1f}" if p.bytes else ""
            style = STYLES.get(p.status, "")
            grid.add_row(Text(name, style), f"{p.rows:,}", rate, speed, f"{p.kept:,}", Text(say.redactor()(p.position), "dim"))
        rest = [Text(f"… and {count(hidden, 'table')} more", "dim")] if hidden else []
        return Group(self._spinner, grid, *rest) if tables else Group(self._spinner)

    def _fitting(self, every: list[tuple[str, Progress]]) -> tuple[list[tuple[str, Progress]], int]:
        """As many as the screen is high, in their order: what runs before what failed, and that before what is done; and how many
        are left out."""
        room = max(3, self.console.size.height - 4)
        if len(every) <= room:
            return every, 0
        rank = {"": 0, "failed": 1}
        first = sorted(range(len(every)), key=lambda i: (rank.get(every[i][1].status, 2), -(every[i][1].ended or 0), i))[:room]
        return [every[i] for i in sorted(first)], len(every) - room

    def _together(self, every: list[tuple[str, Progress]]) -> str:
        """`: 3 running, 12 done, 1 failed, 45,000 rows/s`, where there is more than one table."""
        if len(every) < 2:
            return ""
        running = [p for _, p in every if p.ended is None]
        failed = sum(p.status == "failed" for _, p in every)
        numbers = ((len(running), "running"), (len(every) - len(running) - failed, "done"), (failed, "failed"))
        rate = sum(p.rows / max(self._clock.monotonic() - p.began, 0.001) for p in running)
        said = [f"{n} {what}" for n, what in numbers if n]
        return f": {', '.join([*said, f'{rate:,.0f} rows/s'] if running else said)}"

    def conclude(self, result: SessionResult) -> None:
        if result.tables:
            self.console.print(_loads(result) if any(t.counts for t in result.tables) else _kept(result))
        self.console.print(Text(say.redactor()(headline(result)), STYLES.get(result.status, "")))
        for warning in dict.fromkeys([*self._warnings, *result.warnings, *(w for t in result.tables for w in t.warnings)]):
            say.warning(warning)
        for message, hint in failures(result):
            say.error(message, hint)
        if steps := next_steps(result):
            self.console.print(Text("next:", "dim"))
            for step in steps:
                self.console.print(Text(f"  {step}", "dim"), soft_wrap=True)


def headline(result: SessionResult) -> str:
    """The run in one sentence."""
    took = f"{result.duration_ms / 1000:.1f} s"
    if result.status == "skipped":
        return f"skipped: {result.err_msg or 'this anchovy is running already'}"
    if result.ok and not result.rows and not result.commits:
        return f"nothing new ({took})"
    rows = f"{count(result.rows, 'row')} in {count(result.commits, 'commit')}, {took}"
    where = "" if any(t.counts for t in result.tables) else f"; kept in {result.datastore}"
    return f"{'done' if result.ok else result.status}: {rows}{where}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for n, name in enumerate(columns):
        table.add_column(name, justify="left" if n < 2 else "right", no_wrap=n > 0)
    return table


def _status(t: TableResult) -> Text:
    return Text(t.status, STYLES.get(t.status, ""))


def _kept(result: SessionResult) -> Table:
    some = any(t.rejected for t in result.tables)
    table = _table("table", "status", "read", "kept", *(["rejected"] if some else []), "commits", "time")
    for t in result.tables:
        rejected = [f"{t.rejected:,}"] if some else []
        counts = (f"{t.rows:,}", f"{t.kept:,}", *rejected, f"{t.commits:,}")
        table.add_row(t.tbl, _status(t), *counts, f"{t.duration_ms / 1000:.1f} s")
    return table


def _loads(result: SessionResult) -> Table:
    table = _table("table", "status", "loaded", *COUNTS, "time")
    for t in result.tables:
        counts = (f"{t.counts.get(c, 0):,}" for c in COUNTS)
        table.add_row(t.tbl, _status(t), f"{t.kept:,}", *counts, f"{t.duration_ms / 1000:.1f} s")
    return table
