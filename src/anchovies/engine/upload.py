"""Hops 6 to 9: follow the upstreams, hand loads to the operator, write down what was loaded.

The target's own position decides (it changes in the target's transaction); our log's `loaded` says afterwards what came of it: it
may lag, it never leads. A run that sees nothing new there does not open the target.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from anchovies.core.errors import (
    ConfigError,
    CorruptDatastore,
    GapError,
    HistoryDiverged,
    RetryableError,
    StaleSession,
    StoreUnavailable,
)
from anchovies.core.faultpoint import fault
from anchovies.core.retry import Retry
from anchovies.engine import splits
from anchovies.engine.bounds import Bound
from anchovies.engine.calls import call
from anchovies.engine.context import RunTask
from anchovies.engine.feeds import Feed, known_position, target_name, transactional
from anchovies.engine.polls import looks_anyway
from anchovies.engine.rowlog import tell_rows
from anchovies.engine.services import Services
from anchovies.sdk.operator import Uploader
from anchovies.sdk.result import TableResult
from anchovies.sdk.stream import Position, PositionMoved
from anchovies.store.record import Change, Loaded, Note

MOST_BYTES = 256 << 20
MOST_MOVES = 50  # how often a rival may be faster before we give up


class FeedRun:
    """Brings one table up to date."""

    def __init__(self, services: Services, feed: Feed, task: RunTask) -> None:
        self._s = services
        self._feed = feed
        self._task = task
        self._retry = Retry(services.clock, services.ids, services.batch.time_left)
        self._at = feed.known
        self._why: Note | None = None
        self._logged = 0
        self.result = TableResult(tbl=feed.name)
        self._bound = Bound.of(feed.target.tbl, services.settings)

    def is_current(self) -> bool:
        """Whether our own log already says that everything was loaded."""
        return self._feed.is_current and not self._anew and not self._went_back()

    def _went_back(self) -> bool:
        """Now and then: whether the target stands before what was loaded (an older backup of it was restored)."""
        operator, feed = self._s.operator, self._feed
        if not looks_anyway(self._s.remembered.polled.turn) or not transactional(operator) or not feed.known.slot:
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
            splits.begin(self._s)
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
                    if self._has_enough():
                        return
                if at.slot > self._feed.known.slot:
                    self._note(self._feed.known, at, {})  # the target was ahead of what we knew: do not ask it again
                return
            except PositionMoved:
                tried += 1
                if tried > MOST_MOVES:
                    raise
            except (StoreUnavailable, StaleSession):
                raise
            except CorruptDatastore:
                self._feed.upstream.state = self._feed.upstream.reader.state()
                self._look_for_gap(self._at)  # retired since the log was read, perhaps
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
            return known_position(self._s, feed.target)
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
        self._at = at
        self._look_for_gap(at)
        loads = import_module("anchovies.engine.loads")
        records = feed.upstream.reader.records(at.slot, at.cid, count)
        most = min(MOST_BYTES, self._bound.bytes or MOST_BYTES)
        yield from loads.group(records, at, self._s.store, feed.target, most, feed.retired, self._bound.rows)

    def _has_enough(self) -> bool:
        """Whether a limit of the batch is reached while there is more to load; says so."""
        at, setting = self._feed.known.slot, self._bound.passed(self.result.rows, self.result.bytes)
        if setting is None or at >= self._feed.head:
            return False
        said = f"{self._feed.name} has come to its {self._bound.said(setting)}: the next batch goes on from there"
        self._task.with_(limit=said)
        self.result.warnings.append(said)
        self._s.tell("warning", self._feed.name, message=said)
        return True

    def _look_for_gap(self, at: Position) -> None:
        """Raises GapError where data files after `at` were retired: what is missing is never passed over in silence."""
        feed = self._feed
        if at.slot >= feed.retired:
            return
        gap = f"the data files of {feed.name} up to commit {feed.retired} of {feed.target.source} were retired (`retain`)"
        if self._anew:
            message = f"{gap}: the load goes on behind them, from commit {at.slot}, as --full-refresh says"
            self._s.tell("warning", feed.name, message=message)
            return
        raise GapError(
            f"{gap}, but {feed.target.schema}.{feed.name} has loaded no more than commit {at.slot}",
            hint=f"read the source again (start {feed.target.id} with --full-refresh -e {feed.name}), then start this uploader "
            f"once with --full-refresh -e {feed.name}: it goes on behind the gap",
            tbl=feed.name,
            slot=at.slot,
            retired=feed.retired,
        )

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
        if self._s.settings.log_rows and load.files:
            self._logged = tell_rows(self._s, self._feed.name, next(load.files[0].batches()), self._logged)
        result.rows += load.rows
        result.kept += load.rows
        result.bytes += load.size
        result.files += len(load.files)
        result.commits += 1
        if load.files:  # how long the newest rows were on their way, in seconds
            self._task.with_(lag=max(0.0, round((self._s.clock.now_us() - load.files[-1].seq) / 1_000_000, 3)))
        for name, n in counts.items():
            result.counts[name] = result.counts.get(name, 0) + n
        self._s.tell("loaded", self._feed.name, rows=load.rows, bytes=load.size, counts=counts, slot=load.end.slot)
        self._s.tell("progress", self._feed.name, rows=result.rows, bytes=result.bytes, position=f"commit {load.end.slot}")
        self._at = load.end
        self._note(started, load.end, counts)

    def _feed_sinks(self, load: Any) -> dict[str, int]:
        loads = import_module("anchovies.engine.loads")
        tbl = self._feed.target.tbl
        s = self._s
        for route in s.routes.sinks(tbl.name):
            stream = loads.LoadStream(tbl, load, s.batch.check)
            ran = {"task": self._task, "batch": s.batch, "session": s.session, "worker": s.worker}
            marks = {"source": self._feed.target.source, "sink": route.method}
            given = {**ran, **marks, "tbl": tbl, "table": tbl.name, "stream": stream}
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
