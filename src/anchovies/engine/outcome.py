"""What a session came to: status and exit code of what ended it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anchovies.core.errors import AnchovyError, AnchovyExecutionTimeout, CommitUnknown, ConfigError, FatalError, Fenced, Stopped
from anchovies.engine.services import phrase
from anchovies.sdk.result import SessionResult, TableResult

#: what a service does not go on after: a person, or another session, has to act first
ENDS_SERVICE = (AnchovyExecutionTimeout, CommitUnknown, ConfigError, Fenced, Stopped)
_SUMMED = ("rows", "kept", "rejected", "bytes", "files", "commits", "duration_ms")


class TableFailures(AnchovyError):
    """Tables that failed the run, each with its error. Only bad configuration makes it one of the configuration."""

    def __init__(self, failures: list[tuple[str, BaseException]]) -> None:
        self.errors = [e for _, e in failures]
        name, first = failures[0]
        more = f"{len(failures)} tables failed ({', '.join(n for n, _ in failures)}); the first: " if len(failures) > 1 else ""
        super().__init__(f"{more}{name}: {phrase(first)}", hint=first.hint if isinstance(first, AnchovyError) else None)
        self.exit_code = 2 if all(isinstance(e, ConfigError) for e in self.errors) else 1


def gave_up(failures: int, last: BaseException) -> FatalError:
    """What ends a service whose error budget (`max_failures`) is spent."""
    return FatalError(
        f"{failures} {'batches in a row' if failures > 1 else 'batch'} failed, so the service gives up (max_failures); "
        f"the last: {phrase(last)}",
        hint=last.hint
        if isinstance(last, AnchovyError) and last.hint
        else "what was committed stays; mend it and start it again",
    )


def settle(result: SessionResult, error: BaseException | None, *, service: bool = False) -> None:
    """Write status and exit code of what ended a session. A service that a signal stopped has done its work."""
    if error is None or (service and isinstance(error, Stopped)):
        return
    result.err_type, result.err_msg = type(error).__name__, phrase(error)
    result.hint = error.hint if isinstance(error, AnchovyError) else None
    if isinstance(error, AnchovyExecutionTimeout):
        result.status, result.exit_code = "timeout", 3
    elif isinstance(error, Stopped):
        signum = int(error.where.get("signal", 0))  # type: ignore[call-overload]
        result.status, result.exit_code = "interrupted", 128 + signum if signum else 1
    else:
        result.status, result.exit_code = "failed", error.exit_code if isinstance(error, AnchovyError) else 1


def mask(result: SessionResult, masked: Callable[[Any], Any]) -> None:
    """Take what `masked` knows as secret out of every message of a result: it is stored, and the lease quotes it."""
    parts: list[SessionResult | TableResult] = [result, *result.tables]
    for part in parts:
        part.err_msg, part.hint, part.warnings = masked(part.err_msg), masked(part.hint), masked(part.warnings)


def add_up(sums: list[TableResult], batch: list[TableResult]) -> list[TableResult]:
    """A service's result: of each table what the newest batch says, with the sums of all batches."""
    have = {t.tbl: t for t in sums}
    for t in batch:
        if (old := have.get(t.tbl)) is not None:
            for name in _SUMMED:
                setattr(t, name, getattr(t, name) + getattr(old, name))
            t.counts = {k: t.counts.get(k, 0) + old.counts.get(k, 0) for k in {**old.counts, **t.counts}}
        have[t.tbl] = t
    return list(have.values())
