"""`--log-format json`: one JSON object a line on stderr, for whoever collects logs."""

from __future__ import annotations

import traceback
from typing import Any

from anchovies.cli import say
from anchovies.cli.screen import Json, Lines, line_of
from anchovies.core.settings import Settings
from anchovies.engine.events import Event
from anchovies.sdk.result import SessionResult

_OF_RESULT = ("status", "exit_code", "batches", "commits", "rows", "duration_ms", "err_type", "err_msg", "hint")


class JsonLines(Lines):
    """Each event with `timestamp, level, event, message, anchovy, session, batch, tbl` and what else it says.

    Progress shows at level debug.
    """

    def __init__(self, level: str, settings: Settings) -> None:
        super().__init__(level)
        self._who: dict[str, Any] = {"anchovy": f"{settings.user}/{settings.id}", "session": None, "batch": None}

    def listen(self, event: Event) -> None:
        if event.kind == "session_started":
            self._who["session"] = event.data.get("session")
        elif event.kind == "batch_started":
            self._who["batch"] = event.data.get("batch")
        level, message = line_of(event) or ("debug", event.kind)
        message = f"rows of {event.tbl}" if event.kind == "rows" else message
        if self._shows(event, level):
            said = {k: v for k, v in self._said(event).items() if v is not None and k not in self._who}
            say.json_line(level, event.kind, message, **self._who, tbl=event.tbl, **said)

    def _said(self, event: Event) -> dict[str, Any]:
        """The fields of an event that are plain data."""
        said = {k: v for k, v in event.data.items() if k not in ("result", "error", "message")}
        if isinstance(result := event.data.get("result"), SessionResult):
            said |= {k: getattr(result, k) for k in _OF_RESULT}
        if isinstance(error := event.data.get("error"), BaseException):
            said["err_type"] = type(error).__name__
            if self._least == 0:
                said["traceback"] = "".join(traceback.format_exception(error)).rstrip()
        return said

    def conclude(self, result: SessionResult) -> None:
        """Everything was told by then."""


class JsonLinesAndResult(Json, JsonLines):
    """The result as JSON on stdout; warnings and errors as JSON lines on stderr."""

    def __init__(self, level: str, settings: Settings) -> None:
        JsonLines.__init__(self, self.quiet(level), settings)
