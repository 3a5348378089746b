"""`anchovy logs`: what tasks came to."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import click
import msgspec

from anchovies.cli import say
from anchovies.cli.options import WHO, read, takes
from anchovies.core.clock import SystemClock, iso
from anchovies.core.errors import ConfigError
from anchovies.core.settingkinds import DURATION
from anchovies.core.suggest import did_you_mean
from anchovies.sdk.markers import PHASES
from anchovies.store.audit import homes
from anchovies.store.open import open_store
from anchovies.store.tasklog import TaskRecord
from anchovies.store.tasklogs import TaskLogs

HEAD = ("when (UTC)", "anchovy", "task", "status", "rows", "took", "")
TYPES = (*(p.upper() for p in PHASES), "ACK")
EVERY = 2.0  # seconds between two looks of --follow
_LATER = 253_402_300_799.0


@click.command()
@click.option("--tbl", "tbls", multiple=True, metavar="GLOB", help="Only tasks of these tables. May be repeated.")
@click.option("--status", type=click.Choice(["ok", "err"], case_sensitive=False), help="Only what went well, or what failed.")
@click.option(
    "--type",
    "types",
    multiple=True,
    type=click.Choice(TYPES, case_sensitive=False),
    help="Only tasks of this type. May be repeated.",
)
@click.option("--since", metavar="TIME", help="How long ago (2h), or a date or time (2026-11-22, 2026-11-22T17:00Z).")
@click.option("--session", metavar="ID", help="Only of sessions whose id begins so.")
@click.option("--batch", type=click.IntRange(0), metavar="N", help="Only of that batch of a session.")
@click.option("-n", "most", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="How many, the newest.")
@click.option("--phases", is_flag=True, help="Also phases without any news: STARTUP, XOPEN, XCLOSE, SHUTDOWN.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@takes(*WHO, "json")
def logs(tbls: tuple[str, ...], status: str | None, types: tuple[str, ...], since: str | None, session: str | None,
         batch: int | None, most: int, phases: bool, follow: bool, **options: Any) -> None:  # fmt: skip
    """Show what tasks came to, the newest last: of all anchovies of the user, or (-i) of one.

    Tables, failures and acknowledgements show; with --phases every phase does. --json prints one record a line.

    \b
    anchovy logs --status err --since 2d
    anchovy logs -i sales --tbl 'order*' --json
    """
    given = read(options, quiet=True)
    s = given.settings
    id = None if s.origin("id") == "default" else s.id
    store = open_store(s.datastore, given.env)
    after = _moment(since)
    wanted = _filter(tbls, status, types, session, batch, iso(round(after * 1_000_000)), phases)
    found = TaskLogs(store, s.user, id)
    show = _lines if s.json else _Table(id is None)
    records = found.newest(most, wanted, after)
    if not records and not follow:
        none = _none(store, s.user, id, filtered=bool(tbls or status or types or since or session or batch is not None))
        if not s.json:
            say.out(none)
    show(records)
    while follow:
        SystemClock().sleep(EVERY)
        show(found.fresh(wanted))


def _filter(
    tbls: tuple[str, ...],
    status: str | None,
    types: tuple[str, ...],
    session: str | None,
    batch: int | None,
    after: str,
    phases: bool,
) -> Callable[[TaskRecord], bool]:
    def wanted(r: TaskRecord) -> bool:
        return (
            r.timestamp >= after
            and (not tbls or any(fnmatchcase(r.tbl or "", t) for t in tbls))
            and (status is None or r.status == status.upper())
            and (r.task_type in types if types else phases or _is_news(r))
            and (session is None or r.session_id.startswith(session))
            and (batch is None or r.batch_id == batch)
        )

    return wanted


def _is_news(r: TaskRecord) -> bool:
    """An ERROR of a table, or of all that failed, only repeats what the tables' own records say."""
    if r.task_type == "ERROR":
        return (r.tbl is None and r.data.get("err_type") != "TableFailures") or "hook_error" in r.data
    return r.status != "OK" or r.task_type in ("TBL", "ACK")


def _moment(since: str | None) -> float:
    """Seconds since 1970 of `2h` (ago), a date, or a time (UTC where it names no zone)."""
    if since is None:
        return 0.0
    try:
        at = datetime.fromisoformat(since)
        return min(_LATER, max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()))
    except ValueError:
        pass
    try:
        return max(0.0, SystemClock().now_us() / 1_000_000 - float(DURATION.parse(since, "--since")))
    except ConfigError:
        raise ConfigError(
            f"--since: {since!r} is no time", hint="how long ago: 90, 15m, 2h, 7d; or a moment: 2026-11-22, 2026-11-22T17:00Z"
        ) from None


def _none(store: Any, user: str, id: str | None, *, filtered: bool) -> str:
    """Why nothing shows. Raises ConfigError where there is no such anchovy."""
    every = [h.id for h in homes(store, user)]
    who = user if id is None else f"{user}/{id}"
    if id is not None and id not in every:
        hint = did_you_mean(id, every, else_list=f"anchovies of {user}")
        raise ConfigError(f"{who} has kept nothing in {store.url}", hint=hint)
    if filtered:
        return f"no task of {who} is like that; `anchovy logs` shows the newest of all"
    return f"no tasks of {who} are on record in {store.url} (a run that finds nothing to do leaves no record)"


def _lines(records: list[TaskRecord]) -> None:
    for record in records:
        say.out(msgspec.json.encode(record).decode())


class _Table:
    """Records as lines of a table; its columns only grow, so that --follow can go on with it."""

    def __init__(self, several: bool) -> None:
        self._shown = [i for i in range(len(HEAD)) if several or HEAD[i] != "anchovy"]
        self._widths = [0] * len(HEAD)

    def __call__(self, records: list[TaskRecord]) -> None:
        rows = [_cells(r) for r in records]
        first = not any(self._widths) and bool(rows)
        for row in [HEAD, *rows] if first else rows:
            self._widths = [max(w, len(c)) for w, c in zip(self._widths, row, strict=True)]
        if first:
            say.out(click.style(self._line(HEAD), bold=True))
        for row, record in zip(rows, records, strict=True):
            say.out(click.style(self._line(row), fg=None if record.status == "OK" else "red"))

    def _line(self, row: tuple[str, ...]) -> str:
        right = (HEAD.index("rows"), HEAD.index("took"))
        cells = [row[i].rjust(self._widths[i]) if i in right else row[i].ljust(self._widths[i]) for i in self._shown]
        line = "  ".join(cells).rstrip()
        widest = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        return line if widest is None or len(line) <= widest else f"{line[: widest - 1]}…"


def _cells(r: TaskRecord) -> tuple[str, ...]:
    task = r.tbl if r.tbl and r.task_type == "TBL" else f"{r.task_type}{f' {r.tbl}' if r.tbl else ''}"
    rows = f"{r.data['rows']:,}" if isinstance(r.data.get("rows"), int) else ""
    return (r.timestamp[:19].replace("T", " "), r.anchovy_id, task, r.status, rows, _took(r.duration), _rest(r))


def _took(ms: int) -> str:
    return f"{ms / 1000:.1f} s" if ms < 600_000 else f"{ms / 60_000:.0f} min"


def _rest(r: TaskRecord) -> str:
    """What else is known, in one line."""
    if r.status != "OK":
        where = f" ({r.data['where']})" if r.data.get("where") else ""
        return " ".join(f"{r.data.get('err_type', '')}: {r.data.get('err_msg', '')}{where}".split())
    known = {k: v for k, v in r.data.items() if v and k not in ("rows", "bytes", "files", "commits", "kept")}
    if r.data.get("kept") not in (None, r.data.get("rows")):
        known = {"kept": r.data["kept"], **known}
    return ", ".join(f"{k} {' '.join(str(v).split())}" for k, v in known.items())
