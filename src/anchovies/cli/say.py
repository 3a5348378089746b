"""Everything that is printed goes through here, and through the redactor."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import click

import anchovies
from anchovies.core.clock import SystemClock, iso
from anchovies.core.env import Redactor
from anchovies.core.errors import AnchovyError

_OURS = str(Path(anchovies.__file__ or "").parent)


_environments: list[Mapping[str, str]] = []
_json = [False]


@cache
def redactor() -> Redactor:
    """What knows the secrets of this process."""
    return Redactor.of(_environments[-1]) if _environments else Redactor.current()


def mask(env: Mapping[str, str]) -> None:
    """From now on, secrets are those of `env`: the command line brought some as well."""
    _environments.append(env)
    redactor.cache_clear()


def out(text: str = "") -> None:
    """A line on stdout."""
    click.echo(redactor()(text))


def note(text: str = "") -> None:
    """A line on stderr. Where nobody takes it, nothing else can be said about that, and the run goes on."""
    with suppress(OSError):
        click.echo(redactor()(text), err=True)


def data(value: Any) -> None:
    """Plain data as JSON on stdout."""
    out(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def speak_json(on: bool) -> None:
    """Whether errors and warnings are JSON lines, as `--log-format json` wants everything on stderr."""
    _json[:] = [on]


def json_line(level: str, event: str, message: str, **fields: Any) -> None:
    """One JSON object on stderr. Fields without a value are left out; what is no plain data becomes text."""
    line = {"timestamp": iso(SystemClock().now_us()), "level": level, "event": event, "message": message, **fields}
    plain = {k: v for k, v in line.items() if v is not None}
    note(json.dumps(redactor().deep(plain), ensure_ascii=False, default=str))


def error(message: str, hint: str | None = None) -> None:
    """`error: …` and `hint: …` on stderr."""
    if _json[-1]:
        return json_line("error", "error", message, hint=hint)
    note(f"{click.style('error:', fg='red', bold=True)} {message}")
    if hint:
        note(f"{click.style('hint:', fg='cyan')} {hint}")


def warning(message: str) -> None:
    """`warning: …` on stderr."""
    if _json[-1]:
        return json_line("warning", "warning", message)
    note(f"{click.style('warning:', fg='yellow')} {message}")


def failure(e: BaseException, *, verbose: bool) -> int:
    """Say what went wrong and return the exit code. Of errors that are not ours the author's own lines show; all if `verbose`."""
    if isinstance(e, AnchovyError):
        if verbose and not _json[-1]:
            note("".join(traceback.format_exception(e)).rstrip())
        error(e.message, e.hint)
        return e.exit_code
    trace = "".join(traceback.format_exception(e)).rstrip() if verbose else short_traceback(e)
    if _json[-1]:
        json_line("error", "error", f"{type(e).__name__}: {e}", traceback=trace)
        return 1
    note(trace)
    error(f"{type(e).__name__}: {e}", None if verbose else "-v shows the whole traceback")
    return 1


def short_traceback(e: BaseException) -> str:
    """The frames outside of this library and the standard library's import machinery: where the author's code went wrong."""
    frames = [f for f in traceback.extract_tb(e.__traceback__) if not _is_ours(f.filename)]
    lines = traceback.format_list(frames[-3:])
    return "".join(lines).rstrip() or "(in anchovies itself)"


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen")) or str(Path(click.__file__).parent) in filename or filename == sys.argv[0]


def table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...] = (), gap: str = "  ") -> None:
    """Columns of text on stdout, padded."""
    every = [head, *rows] if head else rows
    widths = [max(len(r[i]) for r in every) for i in range(len(every[0]))] if every else []
    for n, row in enumerate(every):
        line = gap.join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        out(click.style(line, bold=True) if head and n == 0 else line)
