"""What a batch does between XOPEN and XCLOSE: a downloader's flows, or an uploader's feeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from anchovies.core.config import Config
from anchovies.core.reshape import KEY_VARIABLE, mask_key
from anchovies.core.tbl import Tbl
from anchovies.engine import splits
from anchovies.engine.batch import BatchRun
from anchovies.engine.context import RunTask
from anchovies.engine.feeds import (
    Feed,
    Upstream,
    check_sinks,
    feed_of,
    find_upstreams,
    fingerprint,
    lag_of,
    named_upstreams,
    pick_tables,
    place_of,
)
from anchovies.engine.flow import Flow
from anchovies.engine.graph import Graph, Part
from anchovies.engine.groups import differing, parts_of
from anchovies.engine.outcome import add_up
from anchovies.engine.polls import Polls, Quiet
from anchovies.engine.registered import Registration
from anchovies.engine.services import Services
from anchovies.engine.tables import plan_tables, vanished
from anchovies.engine.together import TableJob
from anchovies.engine.upload import FeedRun
from anchovies.sdk.operator import Uploader
from anchovies.sdk.result import TableResult
from anchovies.store.keys import Home
from anchovies.store.lease import PolledLog


class Work(Protocol):
    """One of the two."""

    role: str

    def batch(self, run: BatchRun) -> None:
        """All tables of one batch. Raises only what ends the whole batch."""
        ...


class DownloadWork:
    role = "downloader"

    def __init__(self, services: Services, config: Config, env: Mapping[str, str]) -> None:
        self._s = services
        self._config = config
        self._env = env
        self._told: set[str] = set()  # tables that are not discovered any more, and that was said

    def batch(self, run: BatchRun) -> None:
        s = self._s
        with s.stop.nudges:
            plan = plan_tables(s.operator, s.routes, self._config, s.settings)
        s.mask_key = mask_key((t.tbl for part in plan.parts for t in part.tables), self._env.get(KEY_VARIABLE))
        s.batch.tbls = {n: plan.tbls[n] for n in plan.active}
        s.operator.applied = plan.methods
        self._warn_of_vanished(plan.tbls)
        mine = [part for part in plan.parts if splits.falls_to(s, part)]
        for part in mine:
            splits.check(s, part)
            for root in part.roots:
                self._warn(root.tbl)
        if mine:
            splits.begin(s)
        run.tables([self._job(part, plan) for part in mine])

    def _job(self, part: Part, plan: Graph) -> TableJob:
        may_fail = all(root.tbl.allow_failure for root in part.roots)
        also = tuple(t.name for t in part.tables if t.picked and t.name != part.name)
        return TableJob(part.name, lambda task: self._flows(task, part, plan), may_fail, also)

    def _flows(self, task: RunTask, part: Part, plan: Graph) -> list[TableResult]:
        """One flow, or, where tables of the part stand at different checkpoint values, one for each of these."""
        state, results = self._s.log.state, list[TableResult]()
        parts = parts_of(part, self._s.routes, plan, state)
        if len(parts) > 1:
            which = "; ".join(", ".join(p.fed) for p in parts)
            keys = ", ".join(differing(part, state))
            message = (
                f"{part.name} is read {len(parts)} times, because its tables stand at different values of {keys}: {which}. "
                "`anchovy checkpoint delete` forgets a key that is out of use"
            )
            self._s.tell("warning", part.name, message=message)
        for one in parts:
            flow = Flow(self._s, task, one)
            try:
                flow.run()
            except BaseException as e:
                e.anchovies_results = add_up(results, flow.results())  # type: ignore[attr-defined]
                raise
            results = add_up(results, flow.results())
        return results

    def _warn_of_vanished(self, there: Mapping[str, Tbl]) -> None:
        for name in vanished(self._s.operator, there, self._s.log.state.tables):
            if name not in self._told:
                self._told.add(name)
                said = "was kept before and is not discovered any more: what was kept stays, and nothing new comes"
                self._s.tell("warning", name, message=f"{name} {said}")

    def _warn(self, tbl: Tbl) -> None:
        """A table that has been kept before, and will be kept again in full."""
        s = self._s
        state = s.log.state
        done = state.totals.get(tbl.name)
        marked = any(tbl.name in v.tbls for k in state.checkpoints for v in state.values(k)) or tbl.name in state.ledgers
        if done is not None and done.rows and not marked and not (tbl.unique_by or tbl.set_by or tbl.write):
            s.tell(
                "warning",
                tbl.name,
                message=f"{tbl.name} has no checkpoint, no key and no `write`: it is read in full and appended at every run",
            )


class UploadWork:
    role = "uploader"

    def __init__(self, services: Services, config: Config, env: Mapping[str, str]) -> None:
        self._s = services
        self._config = config
        self._env = env

    def batch(self, run: BatchRun) -> None:
        s = self._s
        polls = Polls(s, self._config, self._env, lambda: fingerprint(s.operator))
        quiet = polls.quiet(home for _, home in named_upstreams(s))
        every: dict[str, Upstream | Quiet] = {**quiet, **{u.source: u for u in find_upstreams(s, self._config, quiet)}}
        ordered = [every[x] for x in (f"{h.user}/{h.id}" for _, h in named_upstreams(s)) if x in every]
        s.seen = {u.source: u.state.slot if isinstance(u, Upstream) else u.slot for u in ordered}
        picked = pick_tables(s, self._config, ordered)
        feeds = {(u.source, n): feed_of(s, self._config, self._env, u, n) for u, n in picked if isinstance(u, Upstream)}
        s.lag = lambda: {**dict.fromkeys(s.seen, 0), **lag_of(feeds.values())}
        s.batch.tbls = {f.name: f.target.tbl for f in feeds.values()}
        for feed in feeds.values():
            check_sinks(s, feed.target.tbl)
        registered = self._registered(list(feeds.values()))
        for registration, mine in registered:
            registration.register(place_of(s, f) for f in mine)
        picked = [(upstream, name) for upstream, name in picked if s.worker.owns(name)]
        run.tables([self._job(name, feeds.get((upstream.source, name))) for upstream, name in picked])
        for registration, mine in registered:
            registration.advance(place_of(s, f) for f in mine if s.worker.owns(f.name))
        self._note(polls, [u for u in ordered if isinstance(u, Upstream)], [f for f in feeds.values() if s.worker.owns(f.name)])

    def _registered(self, feeds: list[Feed]) -> list[tuple[Registration, list[Feed]]]:
        """The cursor in each upstream's home, and the feeds that it is of."""
        of = {f.upstream.source: f.upstream for f in feeds}
        return [
            (Registration(self._s, Home(u.user, u.id), u.state.store), [f for f in feeds if f.upstream is u]) for u in of.values()
        ]

    def _note(self, polls: Polls, upstreams: list[Upstream], feeds: list[Feed]) -> None:
        """What there is nothing more to do with, until it moves."""
        behind = {f.upstream.source for f in feeds if not f.is_current}
        polls.note({u.source: PolledLog(u.state.slot, u.tables) for u in upstreams if u.source not in behind})

    def _job(self, name: str, feed: Feed | None) -> TableJob:
        """`feed` is None where the upstream has moved nothing."""
        if feed is None:
            return TableJob(name, lambda task: [TableResult(tbl=name)])
        return TableJob(name, lambda task: FeedRun(self._s, feed, task).run(), feed.target.tbl.allow_failure)


def work_of(services: Services, config: Config, env: Mapping[str, str]) -> Work:
    """An uploader follows; everything else downloads."""
    if isinstance(services.operator, Uploader):
        return UploadWork(services, config, env)
    return DownloadWork(services, config, env)
