"""What an uploader follows: its upstreams, their tables, and where each table goes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from anchovies.core.config import Config
from anchovies.core.errors import ConfigError
from anchovies.core.retry import Retry
from anchovies.core.suggest import did_you_mean
from anchovies.core.tbl import Tbl
from anchovies.core.tblconfig import match_tables, merge_tbl, tbl_from_json
from anchovies.engine.polls import Quiet
from anchovies.engine.registered import Place
from anchovies.engine.services import Services
from anchovies.sdk.operator import Uploader
from anchovies.sdk.stream import Position, Target
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.state import State

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
        """The last slot that brought rows or a completion of the table; of one that is loaded task by task, a completion."""
        totals = self.upstream.state.totals.get(self.name)
        if totals is None:
            return 0
        return totals.complete if self.target.tbl.by_task else max(totals.slot, totals.complete)

    @property
    def retired(self) -> int:
        """The last slot whose data files of the table were given up."""
        return self.upstream.state.retired.get(self.name, 0)

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
    return Feed(upstream, target, known_position(services, target))


def _pair(services: Services, upstream: Upstream | Quiet, tbl: str) -> tuple[str, str]:
    """What `-e upstream.tbl` matches: the upstream as `-U` names it, and the table."""
    own = upstream.user == services.session.user
    return upstream.id if own else f"{upstream.user}/{upstream.id}", tbl


def known_position(services: Services, target: Target) -> Position:
    loaded = services.log.state.loaded.get((target.source, target.tbl.name, target_name(services, target)))
    if loaded is None or loaded.store != target.store:
        return Position()
    return Position(loaded.end, loaded.cid)


def lag_of(feeds: Iterable[Feed]) -> dict[str, int]:
    """Of each upstream (`user/id`), how many commits the table that is farthest behind has not loaded."""
    behind: dict[str, int] = {}
    for f in feeds:
        behind[f.upstream.source] = max(behind.get(f.upstream.source, 0), f.head - f.known.slot)
    return behind


def place_of(services: Services, feed: Feed) -> Place:
    """How far a feed's target is, as far as our own log says: what the target has committed, or less."""
    return Place(feed.name, target_name(services, feed.target), feed.known)


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


def check_sinks(services: Services, tbl: Tbl) -> None:
    """An uploader without its own load() must have a sink for every table."""
    if not transactional(services.operator) and not services.routes.sinks(tbl.name):
        raise ConfigError(
            f"no sink takes table {tbl.name!r}", hint="mark a method with @sink(), or leave the table out: --disable"
        )
