"""`anchovy replay`: committed data loaded again, without the source, into another database or anew into the same one.

A table that the target has is made anew: in one transaction it is dropped, its first rows are loaded and its position is set. So
whatever is killed, table and position fit each other, and an uploader goes on from there. `_seq` lies in the commits, so the same
commits give the same history again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import msgspec

from anchovies.core.config import Config
from anchovies.core.errors import ConfigError, FatalError, GapError
from anchovies.engine.batch import BatchRun
from anchovies.engine.bounds import Bound
from anchovies.engine.context import RunTask
from anchovies.engine.feeds import Feed, Upstream, find_feeds, find_upstreams, transactional
from anchovies.engine.services import Services
from anchovies.engine.together import TableJob
from anchovies.engine.upload import FeedRun
from anchovies.engine.work import Work
from anchovies.sdk.operator import Uploader
from anchovies.sdk.result import TableResult
from anchovies.sdk.stream import Position
from anchovies.store.keys import Home
from anchovies.store.past import past
from anchovies.store.record import Note
from anchovies.store.state import State

INTO = "DB"
_URLS = ("URL", "URI", "URL_FILE", "URI_FILE")


class Wanted(msgspec.Struct, frozen=True):
    """What a replay was asked for. `as_of`: by upstream as `-U` names it (`""`: the only one), the last slot to load; `yes`:
    tables that are there may be made anew."""

    as_of: Mapping[str, int] = {}
    yes: bool = False
    why: Note | None = None


def parse_as_of(texts: Sequence[str]) -> dict[str, int]:
    """`12`, or `sales=12` for each of several upstreams. Raises ConfigError."""
    found: dict[str, int] = {}
    for text in texts:
        name, _, slot = text.rpartition("=")
        if not slot.isdecimal() or not int(slot) or name in found:
            raise ConfigError(f"--as-of {text!r}: expected a slot (`12`), or `<upstream>=12`, once for each")
        found[name] = int(slot)
    return found


def into(env: Mapping[str, str], target: str) -> dict[str, str]:
    """`env` with `target` as the connection `db`: a URL, or the id of another connection (which keeps passwords off the command
    line). Raises ConfigError for a connection that there is not."""
    head = f"ACHVY_CNXN__{INTO}__"
    if "://" in target:
        gone = {f"{head}{attr}" for attr in _URLS}
        return {**{k: v for k, v in env.items() if k.upper() not in gone}, f"{head}URL": target}
    other = f"ACHVY_CNXN__{target.upper()}__"
    taken = {f"{head}{k[len(other) :]}": v for k, v in env.items() if k.startswith(other)}
    if not taken:
        raise ConfigError(f"--into {target}: there is no such connection", hint=f"give a URL, or set {other}URL")
    return {**{k: v for k, v in env.items() if not k.startswith(head)}, **taken}


class Then(msgspec.Struct):
    """An upstream as it was, and which of its tables came later or were given up since."""

    upstream: Upstream
    now: State


class ReplayWork:
    """All tables of the upstreams, from their first commit to the one that was asked for."""

    role = "uploader"

    def __init__(self, services: Services, config: Config, env: Mapping[str, str], wanted: Wanted) -> None:
        self._s, self._config, self._env, self._wanted = services, config, env, wanted

    def batch(self, run: BatchRun) -> None:
        feeds = self.feeds()
        stands = {id(feed): self._stands(feed) for feed in feeds}
        if not self._wanted.yes and (there := [f for f in feeds if stands[id(f)]]):
            raise ConfigError(
                f"{', '.join(where(f) for f in there)}: loaded already, and would be made anew",
                hint="--yes makes them anew (dropped and loaded in one transaction); --into loads into another database",
            )
        run.tables([TableJob(f.name, partial(self._again, f), f.target.tbl.allow_failure) for f in feeds])

    def feeds(self) -> list[Feed]:
        """What there is to load. Raises ConfigError, GapError."""
        s = self._s
        if not transactional(s.operator):
            raise ConfigError(
                f"{type(s.operator).__name__} keeps no position in its target, so nothing there can be made anew",
                hint="`anchovy start --full-refresh` hands its sinks everything again",
            )
        found = [self._then(u) for u in self._upstreams()]
        later = {name for t in found for name in t.now.tables if name not in t.upstream.state.tables}
        config = replace(self._config, tbls={n: raw for n, raw in self._config.tbls.items() if n not in later})
        for name in sorted(later):
            s.tell("warning", name, message=f"{name} came later: it is left as it is")
        feeds = find_feeds(s, config, [t.upstream for t in found], self._env)
        for feed in feeds:
            _check_whole(feed, next(t.now for t in found if t.upstream is feed.upstream))
        s.batch.tbls = {f.name: f.target.tbl for f in feeds}
        return feeds

    def _upstreams(self) -> list[Upstream]:
        found = find_upstreams(self._s, self._config)
        names = [n for n in self._wanted.as_of if n]
        if "" in self._wanted.as_of and (len(found) != 1 or names):
            raise ConfigError(
                "--as-of: a slot without an upstream is for one upstream alone",
                hint=f"each counts its own slots: {' '.join(f'--as-of {u.id}=N' for u in found)}",
            )
        known = {n for u in found for n in (u.id, u.source)}
        if unknown := [n for n in names if n not in known]:
            raise ConfigError(f"--as-of {unknown[0]}: no such upstream", hint=f"upstreams: {', '.join(u.id for u in found)}")
        return found

    def _then(self, upstream: Upstream) -> Then:
        asked = self._wanted.as_of
        slot = asked.get(upstream.source, asked.get(upstream.id, asked.get("")))
        now = upstream.state
        if slot is not None:
            upstream.state = past(self._s.store, Home(upstream.user, upstream.id), slot).then
        return Then(upstream, now)

    def _stands(self, feed: Feed) -> Position | None:
        operator = self._s.operator
        assert isinstance(operator, Uploader)
        with self._s.stop.nudges:
            found = operator.position(feed.target)
        if found is not None and found.slot and not operator.can_replace:
            raise ConfigError(
                f"{where(feed)}: loaded already, and {type(operator).__name__} cannot make a table anew",
                hint="drop the table with its position, or load into another database: --into",
            )
        return found if found is not None and found.slot else None

    def _again(self, feed: Feed, task: RunTask) -> list[TableResult]:
        return Again(self._s, feed, task, self._wanted.why).run()


def where(feed: Feed) -> str:
    """A target, as messages call it."""
    return f"{feed.target.schema}.{feed.name}"


def _check_whole(feed: Feed, now: State) -> None:
    if upto := now.retired.get(feed.name, 0):
        raise GapError(
            f"{feed.name}: the data of {feed.target.source} up to slot {upto} were given up (`retain`), so there is no start",
            hint="leave the table out (--disable), or read the source again with `checkpoint delete --all`",
            tbl=feed.name,
        )


class Again(FeedRun):
    """Loads one table from its first commit, in place of what is there."""

    def __init__(self, services: Services, feed: Feed, task: RunTask, why: Note | None) -> None:
        super().__init__(services, feed, task)
        self._bound = Bound(None, None)  # a table is loaded again as a whole
        self._why = why
        self._replaces: Position | None = None

    def is_current(self) -> bool:
        return False

    def _start(self) -> Position:
        """The beginning. Our own log forgets what was loaded before the table does: it may lag, never lead."""
        operator = self._s.operator
        assert isinstance(operator, Uploader)
        with self._s.stop.nudges:
            stands = operator.position(self._feed.target)
        self._replaces = (stands or Position()) if operator.can_replace else None
        if self._feed.known.slot:
            self._note(self._feed.known, Position(), {})
        return Position()

    def _position(self) -> Position:
        """Where the target stands after something went wrong half way."""
        operator = self._s.operator
        assert isinstance(operator, Uploader)
        with self._s.stop.nudges:
            at = operator.position(self._feed.target) or Position()
        if at.slot > self._feed.upstream.state.slot:
            raise FatalError(
                f"{where(self._feed)} stands at commit {at.slot} by now: an uploader loads it at the same time",
                hint="stop that uploader, or replay into another database: --into",
                tbl=self._feed.name,
            )
        return at

    def _loads(self, at: Position) -> Iterator[Any]:
        """From the start: the first load takes the place of the table; with nothing to load that alone is one."""
        first = at == Position()
        for load in super()._loads(at):
            if first:
                load.replaces, first = self._replaces, False
            yield load
        if first and self._replaces:
            then = self._feed.upstream.state
            loads = import_module("anchovies.engine.loads")
            yield loads.CommitLoad(self._feed.target, at, Position(then.slot, then.cid), replaces=self._replaces)


def replaying(wanted: Wanted) -> Any:
    """What a session makes its work with."""

    def make(services: Services, config: Config, env: Mapping[str, str]) -> Work:
        return ReplayWork(services, config, env, wanted)

    return make
