"""What a running service can say of itself: counted from what it tells anyway, read by who asks from other threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from anchovies.core.clock import Clock
from anchovies.core.errors import Stopped
from anchovies.engine.events import Event
from anchovies.store.lease import Doing


class Tally(msgspec.Struct):
    """One table, since the process started."""

    rows: int = 0
    bytes: int = 0
    commits: int = 0
    failures: int = 0
    rejected: int = 0


class Lag(msgspec.Struct):
    """How far the service is behind one upstream, as its last batch knew it. `since`: when nothing was waiting last."""

    commits: int = 0
    since: float = 0.0


class Now(msgspec.Struct, frozen=True):
    """All of it at one moment. Times are seconds since 1970, durations seconds; None: not yet."""

    now: float
    started: float
    batches: int
    failed: int
    streak: int
    running: int | None
    began: float | None
    ended: float | None
    succeeded: float | None
    duration: float | None
    reloads: int
    wakes: int
    slot: int
    error: str | None
    tables: dict[str, Tally]
    lags: dict[str, Lag]

    def behind(self, upstream: str) -> float:
        """Seconds in which something of an upstream has been waiting, at most."""
        lag = self.lags[upstream]
        return max(0.0, self.now - lag.since) if lag.commits else 0.0


class Board:
    """Thread-safe. `hear` gets every event of the session, `ended` the end of each batch."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = threading.Lock()
        self._started = self._seconds()
        self._tables: dict[str, Tally] = {}
        self._lags: dict[str, Lag] = {}
        self._batches = self._failed = self._streak = self._reloads = self._wakes = self._slot = 0
        self._running: int | None = None
        self._began: float | None = None
        self._ended: float | None = None
        self._succeeded: float | None = None
        self._duration: float | None = None
        self._error: str | None = None

    def _seconds(self) -> float:
        return self._clock.now_us() / 1_000_000

    def hear(self, event: Event) -> None:
        """Count what an event says. What happens after every few rows is none of them."""
        if (count := _COUNTED.get(event.kind)) is not None:
            with self._turn:
                count(self, event.tbl, event.data)

    def _batch(self, tbl: str | None, data: Mapping[str, Any]) -> None:
        self._running, self._began = int(data["batch"]), self._seconds()

    def _rows(self, tbl: str | None, data: Mapping[str, Any]) -> None:
        mine = self._tables.setdefault(tbl or "", Tally())
        mine.rows += data["rows"]
        mine.bytes += data["bytes"]
        mine.commits += 1

    def _task(self, tbl: str | None, data: Mapping[str, Any]) -> None:
        mine = self._tables.setdefault(tbl or "", Tally())
        mine.rejected += data.get("rejected") or 0
        mine.failures += data.get("status") == "ERR" and not isinstance(data.get("error"), Stopped)

    def _woken(self, tbl: str | None, data: Mapping[str, Any]) -> None:
        self._wakes += 1

    def _reloaded(self, tbl: str | None, data: Mapping[str, Any]) -> None:
        self._reloads += 1

    def ended(self, failed: str | None, slot: int, lag: Mapping[str, int]) -> None:
        """A batch has ended: why it failed (masked), if it did; how far the own log is; what is not loaded of each upstream."""
        with self._turn:
            now = self._ended = self._seconds()
            self._duration = max(0.0, now - (self._began or now))
            self._running, self._slot, self._error = None, slot, failed
            self._batches += 1
            self._failed += failed is not None
            self._streak = self._streak + 1 if failed is not None else 0
            if failed is None:
                self._succeeded = now
            known = {u: self._lags.get(u, Lag(since=now)) for u in lag}
            self._lags = {u: Lag(n, known[u].since if n else now) for u, n in lag.items()}

    def now(self) -> Now:
        with self._turn:
            return Now(
                now=self._seconds(),
                started=self._started,
                batches=self._batches,
                failed=self._failed,
                streak=self._streak,
                running=self._running,
                began=self._began,
                ended=self._ended,
                succeeded=self._succeeded,
                duration=self._duration,
                reloads=self._reloads,
                wakes=self._wakes,
                slot=self._slot,
                error=self._error,
                tables={name: msgspec.structs.replace(t) for name, t in sorted(self._tables.items())},
                lags=dict(sorted(self._lags.items())),
            )

    def doing(self, interval: float, timeout: float | None) -> Doing:
        """What the heartbeat says."""
        n = self.now()
        return Doing(
            interval=interval,
            timeout=timeout,
            batches=n.batches,
            running=n.running is not None,
            moved=int(n.began if n.running is not None and n.began else n.ended or n.started),
            succeeded=int(n.succeeded or 0),
            streak=n.streak,
            error=(n.error or "")[:500],
            at=int(n.now),
        )


_COUNTED = {
    "batch_started": Board._batch,
    "committed": Board._rows,
    "loaded": Board._rows,
    "task_ended": Board._task,
    "reloaded": Board._reloaded,
    "woken": Board._woken,
}
