"""The lease: politeness between processes that would run the same anchovy. No safety depends on it; the log fences.

On one host the operating system's lock decides, which dies with its holder. Across hosts the age of the lease object
does, judged by the store's own times of two of its objects, never by a clock of ours. The object is never deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from anchovies.core.clock import Clock, iso
from anchovies.core.errors import AlreadyExists, AlreadyRunning, AnchovyError, NotFound
from anchovies.core.ids import Ids
from anchovies.core.retry import Retry
from anchovies.store.base import OsLock, Store
from anchovies.store.keys import Home
from anchovies.store.record import Writer

TTL = 60.0
BEAT = 10.0
PATIENCE = 3600.0
QUIET_KEPT = 1000
_POLL_HERE, _POLL_AWAY = 0.5, 5.0
Policy = Literal["skip", "wait", "fail"]


class Quiet(msgspec.Struct, frozen=True, omit_defaults=True):
    """Runs that found nothing: how many ever, and when the last 1,000 ended (`last`: seconds since 1970, `gaps` back from it)."""

    count: int = 0
    last: int = 0
    gaps: list[int] = []

    def at(self, now_us: int) -> Quiet:
        """With one more, now."""
        now = now_us // 1_000_000
        gaps = [now - self.last, *self.gaps][: QUIET_KEPT - 1] if self.count else []
        return Quiet(count=self.count + 1, last=now, gaps=gaps)

    def times(self) -> list[int]:
        """Seconds since 1970, newest first."""
        out = [self.last] if self.count else []
        for gap in self.gaps:
            out.append(out[-1] - gap)
        return out


class PolledLog(msgspec.Struct, frozen=True, array_like=True):
    """An upstream's log up to which everything was loaded: the slot, the tables there were, what its head looked like."""

    slot: int
    tables: list[str]
    tag: str = ""


class Polled(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an uploader's last run has seen: of what it looked for (`of`, a digest), with its own log at `own` (a cid), in its
    how-manieth run. Nothing but time is lost with it."""

    of: str = ""
    own: str = ""
    turn: int = 0
    logs: dict[str, PolledLog] = {}


class LeaseInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What lies in the lease object. `free`: its holder has let go of it; then `result` is what its run came to."""

    host: str = ""
    pid: int = 0
    session: str = ""
    since: str = ""
    beat: int = 0
    free: bool = True
    result: dict[str, Any] = {}
    quiet: Quiet = Quiet()
    polled: Polled = Polled()


class Held(msgspec.Struct, frozen=True):
    """The lease is ours. `last` is what it said before."""

    last: LeaseInfo


class Busy(msgspec.Struct, frozen=True):
    """Somebody else runs this anchovy."""

    home: str
    info: LeaseInfo

    @property
    def text(self) -> str:
        i = self.info
        if i.free:
            return f"{self.home} is already run by another process on this host"
        return f"{self.home} is already run by session {i.session} on {i.host} (pid {i.pid}) since {i.since}"


def read(store: Store, home: Home) -> LeaseInfo:
    """What the lease says; a free one when there is none, or when it cannot be understood."""
    try:
        return msgspec.json.decode(store.get(home.lease), type=LeaseInfo)
    except (NotFound, msgspec.MsgspecError):
        return LeaseInfo()


class Lease:
    """One process's dealings with the lease of one anchovy: `acquire`, `beat` now and then, `release`."""

    def __init__(self, store: Store, home: Home, clock: Clock, ids: Ids, who: Writer, retry: Retry | None = None) -> None:
        self._store, self._home, self._clock, self._ids, self._who = store, home, clock, ids, who
        self._retry = retry or Retry(clock, ids)
        self._lock: OsLock | None = None
        self._mine: LeaseInfo | None = None
        self._beaten = 0.0

    def acquire(self, policy: Policy, deadline: float | None = None, check: Callable[[], None] = lambda: None) -> Held | Busy:
        """Take the lease. When it is held: `skip` gives Busy at once, `fail` raises AlreadyRunning, `wait` tries on until
        `deadline` (monotonic seconds; None: in an hour) and then raises it. `check()` is called between tries and may raise.
        """
        until = self._clock.monotonic() + PATIENCE if deadline is None else deadline
        while True:
            got = self._try()
            if isinstance(got, Held) or policy == "skip":
                return got
            left = until - self._clock.monotonic()
            if policy == "fail" or left <= 0:
                raise AlreadyRunning(
                    got.text + (", and it did not end in time" if policy == "wait" else ""),
                    hint="let it end, or see --if-running",
                )
            check()
            away = got.info.host not in ("", self._who.host)
            self._clock.sleep(min(left, _POLL_AWAY if away else _POLL_HERE))

    def beat(self) -> bool:
        """Say that we live, if it is time to (every 10 s; call it as often as you like). False: somebody took the lease over."""
        if self._mine is None:
            return False
        if self._clock.monotonic() - self._beaten < BEAT:
            return True
        try:
            if not self._still_ours():
                return False
            self._write(replace(self._mine, beat=self._mine.beat + 1))
        except AnchovyError:
            pass  # the lease may grow old; what we commit is safe all the same
        return True

    def release(self, last_result: dict[str, Any], quiet: bool, polled: Polled | None = None) -> None:
        """Let go, and leave what the run came to. `quiet`: it found nothing and committed nothing; such runs are counted here.

        Never raises: a lease that stays behind is taken over after its time.
        """
        try:
            if self._mine is not None and self._still_ours():
                counted = self._mine.quiet.at(self._clock.now_us()) if quiet else self._mine.quiet
                polled = self._mine.polled if polled is None else polled
                self._write(replace(self._mine, free=True, result=last_result, quiet=counted, polled=polled))
        except AnchovyError:
            pass
        finally:
            self._let_go()

    def _try(self) -> Held | Busy:
        try:
            self._lock = self._retry.call(lambda: self._store.try_lock(self._home.lock))
        except AlreadyExists:
            return Busy(self._home.root, self._read())
        try:
            last = self._read()
            if self._alive(last):
                self._let_go()
                return Busy(self._home.root, last)
            self._take(last)
        except BaseException:
            self._let_go()
            raise
        return Held(last)

    def _take(self, last: LeaseInfo) -> None:
        w = self._who
        since = iso(self._clock.now_us())
        mine = replace(last, host=w.host, pid=w.pid, session=w.session, since=since, beat=0, free=False)
        self._retry.call(lambda: self._write(mine))

    def _alive(self, last: LeaseInfo) -> bool:
        """May its holder still be running? With the lock in our hands nobody on this host is."""
        if last.free or (self._lock is not None and last.host == self._who.host):
            return False
        return self._retry.call(self._age) < TTL

    def _age(self) -> float:
        """Seconds since the lease was written, by the store's own times: an object written now is the measure."""
        probe = self._home.probe(self._ids.nonce())
        self._store.put(probe, b"{}")
        try:
            return self._modified(probe) - self._modified(self._home.lease)
        finally:
            self._store.delete(probe)

    def _modified(self, key: str) -> float:
        return next((e.modified for e in self._store.list(key) if e.key == key), 0.0)

    def _still_ours(self) -> bool:
        """Nobody takes a fresh lease away, so only an old one is looked at."""
        if self._mine is not None and self._clock.monotonic() - self._beaten < TTL / 2:
            return True
        now = read(self._store, self._home)
        if self._mine is not None and (now.free or now.session == self._mine.session):
            return True
        self._mine = None
        return False

    def _read(self) -> LeaseInfo:
        return self._retry.call(lambda: read(self._store, self._home))

    def _write(self, info: LeaseInfo) -> None:
        self._store.put(self._home.lease, msgspec.json.encode(info, order="sorted"))
        self._mine = info
        self._beaten = self._clock.monotonic()

    def _let_go(self) -> None:
        self._mine = None
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
