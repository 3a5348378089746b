"""`anchovy verify`: a log looked over, and what uploads say held against the logs of their sources and against their targets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import msgspec

from anchovies.core.clock import Clock, SystemClock
from anchovies.core.config import Config
from anchovies.core.errors import AnchovyError, ConfigError, RetryableError
from anchovies.core.ids import Ids, SystemIds
from anchovies.core.retry import Retry
from anchovies.core.settings import Settings
from anchovies.core.words import count
from anchovies.engine.edits import edit_log
from anchovies.engine.feeds import OWN, Feed, find_feeds, find_upstreams, target_name
from anchovies.engine.look import looking
from anchovies.engine.services import Services
from anchovies.sdk.operator import Operator, Uploader
from anchovies.sdk.stream import Position
from anchovies.store.audit import Audit, Line
from anchovies.store.base import Store
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.record import Loaded, Record


class Verified(msgspec.Struct):
    """One anchovy, line by line."""

    anchovy: str
    lines: list[Line]
    repaired: list[str] = []

    @property
    def ok(self) -> bool:
        return all(line.ok for line in self.lines)


class Source(msgspec.Struct):
    """The log of an upstream, as far as it can be read: its records, and how many rows of a table lie in each."""

    store: str
    records: list[Record]

    def rows(self, tbl: str, start: int, end: int) -> int:
        return sum(f.rows for r in self.records[start:end] for f in r.change.files if f.table == tbl)

    def has(self, slot: int, cid: str) -> bool:
        return slot == 0 or (slot <= len(self.records) and self.records[slot - 1].cid == cid)


class Verifier:
    """Verifies anchovies of one datastore; sources that several of them load are read once."""

    def __init__(self, store: Store, *, deep: bool = False, clock: Clock | None = None, ids: Ids | None = None) -> None:
        self._store, self._deep = store, deep
        self._clock, self._ids = clock or SystemClock(), ids or SystemIds()
        self._retry = Retry(self._clock, self._ids)
        self._sources: dict[str, Source | None] = {}

    def verify(self, home: Home, *, repair: bool = False) -> Verified:
        """All that can be said without a database. `repair`: what is broken of snapshots is made again, from a log that is whole.
        Raises StoreUnavailable."""
        audit = Audit(self._store, home, self._retry, deep=self._deep)
        found = Verified(f"{home.user}/{home.id}", audit.run())
        if repair and audit.damaged and all(x.ok for x in found.lines if x.what in ("format", "slots", "records")):
            repaired = self._repair(home, audit.damaged)
            audit = Audit(self._store, home, self._retry, deep=self._deep)
            found = Verified(found.anchovy, audit.run(), repaired)
        if any(r.change.loaded for r in audit.records):
            found.lines.append(self._loads(audit.records))
        return found

    def _repair(self, home: Home, damaged: list[str]) -> list[str]:
        """Delete what is broken, and let it be written again. The log is not touched."""
        for key in damaged:
            self._retry.call(lambda key=key: self._store.delete(key))  # type: ignore[misc]
        log = edit_log(self._store, home, self._clock, self._ids)
        log.load()
        log.keep_snapshot()
        return damaged

    # --- what was loaded ---

    def source(self, name: str) -> Source | None:
        """The log of `user/id`; None where there is none, or it cannot be read."""
        if name not in self._sources:
            user, _, anchovy = name.partition("/")
            reader = Reader(self._store, Home(user, anchovy), self._retry)
            try:
                state = reader.state()
                self._sources[name] = Source(state.store, list(reader.records(0, ""))) if state.slot else None
            except RetryableError:
                raise
            except AnchovyError:
                self._sources[name] = None
        return self._sources[name]

    def _loads(self, records: list[Record]) -> Line:
        """What was loaded lies in the log that it was loaded from, row by row."""
        line = Line("loads", "I9")
        loads = counted = 0
        for record in records:
            for x in record.change.loaded:
                loads += 1
                counted += bool(x.counts)
                if wrong := self._load(x):
                    line.fail(
                        f"slot {record.slot}, {x.tbl}: {wrong}",
                        f"look at that log: anchovy verify -u {x.source.partition('/')[0]} -i {x.source.partition('/')[2]}",
                    )
        lie = count(loads, "load lies", "loads lie")
        line.said = f"{lie} in the logs of their sources, {counted:,} with counts that add up to their rows"
        return line

    def _load(self, x: Loaded) -> str | None:
        source = self.source(x.source)
        if source is None:
            return f"the log of {x.source} is not here, or cannot be read"
        if source.store != x.store:
            return None  # an earlier log of that name: nothing can be said
        if not source.has(x.end, x.cid):
            return f"it says that commit {x.end} of {x.source} was loaded, which is not in that log"
        rows, said = source.rows(x.tbl, x.start, x.end), sum(n for what, n in x.counts.items() if what != "expired")
        if x.counts and rows != said:
            return f"{said:,} rows were loaded of commits {x.start + 1} to {x.end} of {x.source}, which hold {rows:,}"
        return None

    # --- what the targets say ---

    def targets(self, operator: type[Operator], settings: Settings, config: Config, env: Mapping[str, str]) -> list[Line]:
        """Position and rows of each target, asked from the database itself. Raises ConfigError, and what the database raises."""
        if not issubclass(operator, Uploader):
            raise ConfigError(f"{operator.__name__} loads nothing", hint="name the uploader: -op sql.Uploader")
        with looking(operator, settings, config, env, self._store) as (services, _):
            feeds = find_feeds(services, config, find_upstreams(services, config), env)
            records = list(Reader(self._store, services.home, self._retry).records(0, ""))
            return [self._target(services, feed, records) for feed in feeds]

    def _target(self, services: Services, feed: Feed, records: list[Record]) -> Line:
        line = Line(f"{feed.target.schema}.{feed.name}", "I11")
        name = target_name(services, feed.target)
        source, uploader = self.source(feed.target.source), services.operator
        assert isinstance(uploader, Uploader)
        at = uploader.position(feed.target) if name != OWN else None
        if at is None or source is None:
            line.said = "nothing was loaded yet" if name != OWN else "keeps no position of its own"
            return line
        mine = [
            x for r in records for x in r.change.loaded if (x.source, x.tbl, x.target) == (feed.target.source, feed.name, name)
        ]
        line.said = f"stands at commit {at.slot:,} of {len(source.records):,}"
        if not source.has(at.slot, at.cid):
            line.fail(f"it stands at commit {at.slot}, which is not in the log of {feed.target.source}", _GONE)
        elif mine and mine[-1].store == feed.target.store and mine[-1].end > at.slot:
            line.fail(f"commit {mine[-1].end} was loaded, but it stands at {at.slot}", _BACK)
        else:
            _compare(line, feed, uploader.count(feed.target), _expected(feed, source, at, mine))
        return line


_GONE = "the datastore was restored from an older copy, or is another one: bring the newer one back"
_BACK = (
    "an older backup of the database was restored: the next load brings the rest, or an idle run, every fiftieth of which asks"
)
_ROWS = "somebody changed the table by hand; `anchovy replay --yes` makes it anew from what was committed"


def _expected(feed: Feed, source: Source, at: Position, mine: list[Loaded]) -> int | None:
    """How many rows a table must have; None where that cannot be said: the receipts from its start on are not all there."""
    mode = feed.target.tbl.write_mode
    if mode == "append":
        return source.rows(feed.name, 0, at.slot)
    chain: list[Loaded] = []
    for x in mine:
        if x.start == 0:
            chain = []
        chain.append(x)
    joined = all(a.end == b.start for a, b in pairwise(chain))
    if not chain or chain[0].start or not joined or chain[-1].end != at.slot:
        return None
    total = {what: sum(x.counts.get(what, 0) for x in chain) for what in ("inserted", "changed", "late", "expired", "deleted")}
    if mode == "scd":
        return total["inserted"] + total["changed"] + total["late"]
    return total["inserted"] - total["expired"] - total["deleted"]


def _compare(line: Line, feed: Feed, there: int | None, expected: int | None) -> None:
    if there is None:
        return
    line.said += f", {count(there, 'row')}" + ("" if expected is None else ", as the receipts say")
    if expected is not None and there != expected:
        line.fail(f"it holds {count(there, 'row')}, the receipts come to {expected:,}", _ROWS)


def plain(found: Verified) -> dict[str, Any]:
    """For `--json`."""
    lines = [
        {"what": x.what, "rule": x.rule, "ok": x.ok, "said": x.said, "broken": x.broken, "hint": x.hint} for x in found.lines
    ]
    return {"anchovy": found.anchovy, "ok": found.ok, "lines": lines, "repaired": found.repaired}
