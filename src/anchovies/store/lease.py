"""The lease: politeness between processes that would run the same anchovy. No safety depends on it; the log fences.

On one host the operating system's lock decides, which dies with its holder. Across hosts the age of the lease object
does, judged by the store's own times of two of its objects, never by a clock of ours. The object is never deleted.
"""

from __future__ import annotations

import threading
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
LAST_WORDS = 5.0  # seconds that a release waits for a beat that hangs
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
    how-manieth run."""

    of: str = ""
    own: str = ""
    turn: int = 0
    logs: dict[str, PolledLog] = {}


class Maintained(msgspec.Struct, frozen=True, omit_defaults=True):
    """Up to which slot a session has looked after its log, and when (seconds since 1970)."""

    slot: int = 0
    at: int = 0


class Remembered(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one run leaves to the next. Nothing but time is lost with it."""

    polled: Polled = Polled()
    maintained: Maintained = Maintained()


class Doing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a service was doing at its last beat (`at`). Durations and times (since 1970, by its own clock) in seconds.

    `moved`: when the batch that is `running` began, else when the last one ended; `succeeded`: when the last one that went well
    did; `streak`: how many have failed since.
    """

    interval: float = 0.0
    timeout: float | None = None
    batches: int = 0
    running: bool = False
    moved: int = 0
    succeeded: int = 0
    streak: int = 0
    error: str = ""
    at: int = 0


class LeaseInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What lies in the lease object. `free`: its holder has let go of it; then `result` is what its run came to. `doing`: of a
    service that has it."""

    host: str = ""
    pid: int = 0
    session: str = ""
    since: str = ""
    beat: int = 0
    free: bool = True
    result: dict[str, Any] = {}
    quiet: Quiet = Quiet()
    remembered: Remembered = Remembered()
    doing: Doing | None = None


class Held(msgspec.Struct, frozen=True):
    """The lease is ours. `last` is what it said before."""

    last: LeaseInfo


class Busy(msgspec.Struct, frozen=True):
    """Somebody else runs this anchovy. `info` says who, if it says anything; `here`: a process of this host, whoever that is."""

    home: str
    info: LeaseInfo
    here: bool = False

    @property
    def text(self) -> str:
        i = self.info
        if self.here:
            return f"{self.home} is already run by another process on this host"
        if not i.session:
            return f"{self.home} is already run by another process, and its lease does not say which"
        return f"{self.home} is already run by session {i.session} on {i.host} (pid {i.pid}) since {i.since}"


def read(store: Store, home: Home, lane: int = 0) -> LeaseInfo:
    """What the lease says; a free one when there is none, or when it cannot be understood."""
    try:
        return msgspec.json.decode(store.get(home.lease_of(lane)), type=LeaseInfo)
    except (NotFound, msgspec.MsgspecError):
        return LeaseInfo()


class Lease:
    """One process's dealings with the lease of one lane of one anchovy: `acquire`, `beat` now and then, `release`."""

    def __init__(
        self, store: Store, home: Home, clock: Clock, ids: Ids, who: Writer, retry: Retry | None = None, lane: int = 0
    ) -> None:
        self._store, self._home, self._clock, self._ids, self._who = store, home, clock, ids, who
        self._lane = lane
        self._retry = retry or Retry(clock, ids)
        self._lock: OsLock | None = None
        self._mine: LeaseInfo | None = None
        self._beaten = 0.0
        self._turn = threading.Lock()

    def acquire(self, policy: Policy, deadline: float | None = None, check: Callable[[], None] = lambda: None) -> Held | Busy:
        """Take the lease. When it is held: `skip` gives Busy at once, `fail` raises AlreadyRunning, `wait` tries on until
        `deadline` (monotonic seconds; None: in an hour) and then raises it. `check()` is called between tries and may raise.
        """
        until = self._clock.monotonic() + PATIENCE if deadline is None else deadline
        while True:
            got = self._try(until, check)
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

    @property
    def due(self) -> bool:
        """Whether it is time to beat."""
        return self._mine is not None and self._clock.monotonic() - self._beaten >= BEAT

    def beat(self, doing: Doing | None = None) -> bool:
        """Say that we live, and what a service is `doing`, if it is time to (every 10 s; call it as often as you like). False:
        somebody took the lease over.

        One write; it may be called in a thread of its own, for a datastore that does not answer holds it up.
        """
        if self._mine is None:
            return False
        if not self.due:
            return True
        try:
            with self._turn:
                if not self._still_ours():
                    return False
                self._write(replace(self._mine, beat=self._mine.beat + 1, doing=doing))
        except AnchovyError:
            pass  # the lease may grow old; what we commit is safe all the same
        return True

    def release(self, last_result: dict[str, Any], quiet: bool, remembered: Remembered | None = None) -> None:
        """Let go, and leave what the run came to. `quiet`: it found nothing and committed nothing; such runs are counted here.

        Never raises: a lease that stays behind is taken over after its time.
        """
        mine = self._turn.acquire(timeout=LAST_WORDS)  # a beat that hangs
        try:
            if mine and self._mine is not None and self._still_ours():
                counted = self._mine.quiet.at(self._clock.now_us()) if quiet else self._mine.quiet
                remembered = self._mine.remembered if remembered is None else remembered
                self._write(replace(self._mine, free=True, result=last_result, quiet=counted, remembered=remembered, doing=None))
        except AnchovyError:
            pass
        finally:
            self._let_go()
            if mine:
                self._turn.release()

    def _try(self, until: float, check: Callable[[], None]) -> Held | Busy:
        try:
            self._lock = self._retry.call(lambda: self._store.try_lock(self._home.lock_of(self._lane)))
        except AlreadyExists:
            info = self._read()
            return Busy(self._home.root, info, here=info.free)
        try:
            last = found = self._read()
            if not self._is_free(found):
                outlived = self._outlived(found, until, check)
                if outlived is None:
                    self._let_go()
                    return Busy(self._home.root, found)
                last = outlived
            self._take(last)
        except BaseException:
            self._let_go()
            raise
        return Held(last)

    def _take(self, last: LeaseInfo) -> None:
        w = self._who
        since = iso(self._clock.now_us())
        mine = replace(last, host=w.host, pid=w.pid, session=w.session, since=since, beat=0, free=False, doing=None)
        self._retry.call(lambda: self._write(mine))

    def _is_free(self, last: LeaseInfo) -> bool:
        """Nobody has it, or whoever had it has died: with the lock in our hands nobody on this host lives."""
        return last.free or (self._lock is not None and last.host == self._who.host)

    def _outlived(self, last: LeaseInfo, until: float, check: Callable[[], None]) -> LeaseInfo | None:
        """What the lease says, if its holder has not written it for the TTL, or has let go; None: it may still be running."""
        age = self._retry.call(self.age)
        if age is not None:
            return last if age >= TTL else None
        end = self._clock.monotonic() + TTL
        while self._clock.monotonic() < end:
            if self._clock.monotonic() >= until:
                return None
            check()
            self._clock.sleep(_POLL_AWAY)
            now = self._read()
            if now.free:
                return now
            if (now.session, now.beat) != (last.session, last.beat):
                return None
        return last

    def age(self) -> float | None:
        """Seconds since the lease was written, by the store's own times: an object written now is the measure. None: the store
        tells no times, or they make no sense; then only watching the beats remains."""
        probe = self._home.probe(self._ids.nonce())
        self._store.put(probe, b"{}")
        try:
            now, then = self._modified(probe), self._modified(self._home.lease_of(self._lane))
        finally:
            self._store.delete(probe)
        return now - then if now > 0 and then > 0 and now - then > -TTL else None

    def _modified(self, key: str) -> float:
        return next((e.modified for e in self._store.list(key) if e.key == key), 0.0)

    def _still_ours(self) -> bool:
        """Nobody takes a fresh lease away, so only an old one is looked at."""
        if self._mine is not None and self._clock.monotonic() - self._beaten < TTL / 2:
            return True
        now = read(self._store, self._home, self._lane)
        if self._mine is not None and (now.free or now.session == self._mine.session):
            return True
        self._mine = None
        return False

    def _read(self) -> LeaseInfo:
        return self._retry.call(lambda: read(self._store, self._home, self._lane))

    def _write(self, info: LeaseInfo) -> None:
        self._store.put(self._home.lease_of(self._lane), msgspec.json.encode(info, order="sorted"))
        self._mine = info
        self._beaten = self._clock.monotonic()

    def _let_go(self) -> None:
        self._mine = None
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
