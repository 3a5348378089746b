"""Hops 6 to 9: follow the upstreams, hand loads to the operator, write down what was loaded.

The target's own position decides (it changes in the target's transaction); our log's `loaded` says afterwards what came of it: it
may lag, it never leads. A run that sees nothing new there does not open the target.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

import msgspec

from anchovies.core.config import Config
from anchovies.core.errors import ConfigError, HistoryDiverged, RetryableError, StaleSession, StoreUnavailable
from anchovies.core.faultpoint import fault
from anchovies.core.retry import Retry
from anchovies.core.suggest import did_you_mean
from anchovies.core.tbl import Tbl
from anchovies.core.tblconfig import match_tables, merge_tbl, tbl_from_json
from anchovies.engine.calls import call
from anchovies.engine.context import RunTask
from anchovies.engine.polls import Quiet, looks_anyway
from anchovies.engine.services import Services
from anchovies.sdk.operator import Uploader
from anchovies.sdk.result import TableResult
from anchovies.sdk.stream import Position, PositionMoved, Target
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.record import Change, Loaded, Note
from anchovies.store.state import State

MOST_BYTES = 256 << 20
MOST_MOVES = 50  # how often a rival may be faster before we give up
OWN = "own-log"


class Upstream(msgspec.Struct):
    """One upstream anchovy as this batch sees it."""

    user: str
    id: str
    reader: Reader
    state: State

    @property
    def source(self) -> str:
        return f"{self.user}/{self.id}"

    @property
    def tables(self) -> list[str]:
        return list(self.state.tables)


U = TypeVar("U", bound=Upstream | Quiet)


class Feed(msgspec.Struct):
    """One table of one upstream and where it goes."""

    upstream: Upstream
    target: Target
    known: Position  # what our own log says was loaded

    @property
    def name(self) -> str:
        return self.target.tbl.name

    @property
    def head(self) -> int:
        """The last slot that brought rows or a completion of the table."""
        totals = self.upstream.state.totals.get(self.name)
        return 0 if totals is None else max(totals.slot, totals.complete)

    @property
    def is_current(self) -> bool:
        """Whether our own log says that everything was loaded."""
        return self.known.slot >= self.head


def named_upstreams(services: Services) -> list[tuple[str, Home]]:
    """The upstreams as they were named, and where each lies."""
    if not services.settings.upstream:
        raise ConfigError("an uploader needs to know whose rows to load", hint="name its upstream: -U <anchovy id>")
    parts = [(name, *name.rpartition("/")) for name in services.settings.upstream]
    return [(name, Home(user or services.session.user, anchovy)) for name, user, _, anchovy in parts]


def find_upstreams(services: Services, config: Config, leave: Collection[str] = ()) -> list[Upstream]:
    """Every upstream that was named, but for those to `leave` (`user/id`). Raises ConfigError for one that has no home."""
    s = services
    found = []
    for name, home in named_upstreams(s):
        if f"{home.user}/{home.id}" in leave:
            continue
        reader = Reader(s.store, home, Retry(s.clock, s.ids, s.batch.time_left))
        if reader.exists():
            found.append(Upstream(home.user, home.id, reader, reader.state()))
        elif not s.settings.upstream_may_be_missing:
            others = sorted({e.key.split("/")[-1] for e in s.store.list(f"{home.head.rsplit('/', 1)[0]}/")})
            raise ConfigError(
                f"upstream {name!r} has kept nothing in this datastore (user {home.user!r})",
                hint=did_you_mean(home.id, others)
                or f"start it first, check -u and {s.store.url}, or allow it: --upstream-may-be-missing",
            )
    return found


def find_feeds(services: Services, config: Config, upstreams: list[Upstream], env: Mapping[str, str]) -> list[Feed]:
    """Every table to look at, in upstream order. Raises ConfigError for configured tables or patterns that match nothing."""
    return [feed_of(services, config, env, u, name) for u, name in pick_tables(services, config, upstreams)]


def pick_tables(services: Services, config: Config, upstreams: Sequence[U]) -> list[tuple[U, str]]:
    """The tables that were asked for, of all that the upstreams have, in upstream order. Raises ConfigError as above."""
    offered = {_pair(services, u, name): u for u in upstreams for name in u.tables}
    names = [n for _, n in offered]
    lost = [n for n in config.tbls if n not in names]
    if upstreams and lost and not services.settings.upstream_may_be_missing:
        hint = (
            did_you_mean(lost[0], names) or "if nothing of it was kept yet, run its downloader, or add --upstream-may-be-missing"
        )
        raise ConfigError(f"tbls.{lost[0]}: no upstream has a table of that name", hint=hint)
    picked = match_tables(offered, services.settings.enabled, services.settings.disabled) if offered else ()
    return [(offered[pair], pair[1]) for pair in picked]


def feed_of(services: Services, config: Config, env: Mapping[str, str], upstream: Upstream, name: str) -> Feed:
    """One table of an upstream, and where it goes."""
    published = tbl_from_json(upstream.state.tables[name])
    raw = config.tbls.get(name)
    tbl = merge_tbl(published, raw) if raw is not None else published  # a shared config.yaml has the downloader's properties too
    target = Target(upstream.state.store, upstream.user, upstream.id, config.schema_for(env, upstream.user, upstream.id), tbl)
    return Feed(upstream, target, _known(services, target))


def _pair(services: Services, upstream: Upstream | Quiet, tbl: str) -> tuple[str, str]:
    """What `-e upstream.tbl` matches: the upstream as `-U` names it, and the table."""
    own = upstream.user == services.session.user
    return upstream.id if own else f"{upstream.user}/{upstream.id}", tbl


def _known(services: Services, target: Target) -> Position:
    loaded = services.log.state.loaded.get((target.source, target.tbl.name, target_name(services, target)))
    if loaded is None or loaded.store != target.store:
        return Position()
    return Position(loaded.end, loaded.cid)


def target_name(services: Services, target: Target) -> str:
    """How our own log calls a target: its name, and which database file it is where that can be told."""
    print_ = fingerprint(services.operator)
    return OWN if print_ == OWN else f"{target.schema}.{target.tbl.name}@{print_}"


def fingerprint(operator: Any) -> str:
    """Which target an uploader loads into, where that can be told."""
    if not transactional(operator):
        return OWN
    assert isinstance(operator, Uploader)
    return operator.fingerprint() or "db"


def transactional(operator: Any) -> bool:
    """Whether the operator keeps its position in the target itself."""
    return type(operator).load is not Uploader.load


class FeedRun:
    """Brings one table up to date."""

    def __init__(self, services: Services, feed: Feed, task: RunTask) -> None:
        self._s = services
        self._feed = feed
        self._task = task
        self._retry = Retry(services.clock, services.ids, services.batch.time_left)
        self._why: Note | None = None
        self.result = TableResult(tbl=feed.name)

    def is_current(self) -> bool:
        """Whether our own log already says that everything was loaded."""
        return self._feed.is_current and not self._anew and not self._went_back()

    def _went_back(self) -> bool:
        """Now and then: whether the target stands before what was loaded (an older backup of it was restored)."""
        operator, feed = self._s.operator, self._feed
        if not looks_anyway(self._s.last_poll.polled.turn) or not transactional(operator) or not feed.known.slot:
            return False
        assert isinstance(operator, Uploader)
        try:
            with self._s.stop.nudges:
                at = operator.position(feed.target) or Position()
        except RetryableError:
            return False  # nothing has to be loaded, so it need not answer
        return at.slot < feed.known.slot

    @property
    def _anew(self) -> bool:
        return bool(self._s.settings.full_refresh) and self._s.batch.id == 1

    def run(self) -> list[TableResult]:
        """Load until the tail of the upstream, or raise; what was loaded by then stays."""
        if not self.is_current():
            try:
                self._catch_up()
            except BaseException as e:
                e.anchovies_results = [self.result]  # type: ignore[attr-defined]
                raise
        return [self.result]

    def _catch_up(self) -> None:
        """Load until the tail. After a failure that trying again may mend, the target is asked where it stands."""
        tried = 0
        while True:
            self._s.batch.check()
            try:
                at = self._position() if self.result.commits else self._start()
                for load in self._loads(at):
                    self._apply(load)
                    tried = 0
                if at.slot > self._feed.known.slot:
                    self._note(self._feed.known, at, {})  # the target was ahead of what we knew: do not ask it again
                return
            except PositionMoved:
                tried += 1
                if tried > MOST_MOVES:
                    raise
            except (StoreUnavailable, StaleSession):
                raise
            except RetryableError as e:
                tried += 1
                self._task.with_(retries=self._task.data.get("retries", 0) + 1)
                if e.patient and (left := self._s.batch.time_left()) is not None:
                    if tried == 1:
                        self._s.tell("warning", self._feed.name, message=f"{e}: waiting, {left:.0f} s at most")
                    tried = min(tried, self._retry.attempts - 1)
                if self._s.stop.is_set() or not self._retry.again(tried):
                    raise

    def _start(self) -> Position:
        """Where to begin: `--full-refresh` hands sinks everything anew; a position in the target cannot be forgotten."""
        if self._anew:
            if not transactional(self._s.operator):
                return Position()
            message = f"{self._feed.name}: --full-refresh forgets no position, it lies in the target; drop the table to load anew"
            self._s.tell("warning", self._feed.name, message=message)
        return self._position()

    def _position(self) -> Position:
        feed = self._feed
        if not transactional(self._s.operator):
            return _known(self._s, feed.target)
        assert isinstance(self._s.operator, Uploader)
        fault("target.position.before", RetryableError)
        with self._s.stop.nudges:
            at = self._s.operator.position(feed.target) or Position()
        if at.slot > feed.upstream.state.slot:
            feed.upstream.state = feed.upstream.reader.state()  # a rival may have read a longer log than we have
        if at.slot > feed.upstream.state.slot:
            raise HistoryDiverged(
                f"the target of {feed.name} stands at commit {at.slot} of {feed.target.source}, "
                f"whose log ends at {feed.upstream.state.slot}",
                hint="the datastore was restored from an older copy, or another one is named: bring back the newer one",
            )
        return at

    def _loads(self, at: Position) -> Iterator[Any]:
        """Loads from `at` to the last commit that matters to the table. Data files come late: rows need pyarrow."""
        feed = self._feed
        count = feed.head - at.slot
        if count <= 0:
            return
        loads = import_module("anchovies.engine.loads")
        records = feed.upstream.reader.records(at.slot, at.cid, count)
        yield from loads.group(records, at, self._s.store, feed.target, MOST_BYTES)

    def _apply(self, load: Any) -> None:
        started = load.start
        self._s.batch.check()
        fault("target.load.before", RetryableError)
        if transactional(self._s.operator):
            assert isinstance(self._s.operator, Uploader)
            with self._s.stop.nudges:
                counts = dict(self._s.operator.load(load) or {})
        else:
            counts = self._feed_sinks(load)
        fault("target.load.after", RetryableError)
        result = self.result
        result.rows += load.rows
        result.kept += load.rows
        result.bytes += load.size
        result.files += len(load.files)
        result.commits += 1
        for name, n in counts.items():
            result.counts[name] = result.counts.get(name, 0) + n
        self._s.tell("loaded", self._feed.name, rows=load.rows, bytes=load.size, counts=counts, slot=load.end.slot)
        self._s.tell("progress", self._feed.name, rows=result.rows, bytes=result.bytes, position=f"commit {load.end.slot}")
        self._note(started, load.end, counts)

    def _feed_sinks(self, load: Any) -> dict[str, int]:
        loads = import_module("anchovies.engine.loads")
        tbl = self._feed.target.tbl
        s = self._s
        for route in s.routes.sinks(tbl.name):
            stream = loads.LoadStream(tbl, load, s.batch.check)
            ran = {"task": self._task, "batch": s.batch, "session": s.session, "source": None, "sink": route.method, "worker": 0}
            given = {**ran, "tbl": tbl, "table": tbl.name, "stream": stream}
            with s.stop.nudges:
                result = call(getattr(s.operator, route.method), given)
            if result is not None:
                raise ConfigError(
                    f"sink {route.method} of an uploader returned something", hint="it takes rows and returns nothing"
                )
        return {}

    def _note(self, start: Position, end: Position, counts: dict[str, int]) -> None:
        """Append the receipt to our own log, after the target has committed."""
        target = self._feed.target
        loaded = Loaded(
            source=target.source,
            store=target.store,
            tbl=target.tbl.name,
            target=target_name(self._s, target),
            start=start.slot,
            end=end.slot,
            cid=end.cid,
            counts=counts,
        )
        self._s.publish(Change(loaded=[loaded], note=self._why), frozenset())
        self._feed.known = end
        self._s.acknowledge()


def check_sinks(services: Services, tbl: Tbl) -> None:
    """An uploader without its own load() must have a sink for every table."""
    if not transactional(services.operator) and not services.routes.sinks(tbl.name):
        raise ConfigError(
            f"no sink takes table {tbl.name!r}", hint="mark a method with @sink(), or leave the table out: --disable"
        )
