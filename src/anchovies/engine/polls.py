"""Which upstreams an uploader has to look at: not those that have committed nothing since all they had was loaded.

What was seen lies in the lease object, which every run rewrites anyway. An upstream that has nothing after the slot that was seen
costs one request; several of one user cost one listing of their heads, which is a hint, so every tenth time each is asked itself.
Every fiftieth time the targets are asked where they stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from anchovies import __version__
from anchovies.core.config import Config
from anchovies.core.env import schemas_from
from anchovies.core.errors import NotFound
from anchovies.core.retry import Retry
from anchovies.engine.services import Services
from anchovies.store import heads
from anchovies.store.keys import Home
from anchovies.store.lease import Polled, PolledLog

FULL_EVERY = 10
LOOK_EVERY = 50


def looks_anyway(turn: int) -> bool:
    """Whether targets are asked although nothing is new: a database that went back to an older backup says so itself."""
    return turn > 0 and turn % LOOK_EVERY == 0


class Quiet(msgspec.Struct, frozen=True):
    """An upstream that has nothing new, and the tables that it has."""

    user: str
    id: str
    tables: list[str]
    slot: int

    @property
    def source(self) -> str:
        return f"{self.user}/{self.id}"


class Polls:
    """One batch's look at what moved: `quiet()` before the upstreams are read, `note()` after all went well."""

    def __init__(self, services: Services, config: Config, env: Mapping[str, str], fingerprint: Callable[[], str]) -> None:
        self._s, self._config, self._env, self._fingerprint = services, config, env, fingerprint
        self._tags: dict[str, str] = {}
        self._quiet: dict[str, PolledLog] = {}

    def quiet(self, sources: Iterable[Home]) -> dict[str, Quiet]:
        """Those of `sources` that have committed nothing since the run that noted them, by `user/id`."""
        seen = self._s.remembered.polled
        if not self._may_rely_on(seen):
            return {}
        known = {f"{h.user}/{h.id}": h for h in sources if f"{h.user}/{h.id}" in seen.logs}
        resting = set() if seen.turn % FULL_EVERY == 0 else self._unmoved_heads(known, seen) - self._s.woken_by
        for source, home in known.items():
            if source in resting or not self._moved(home, seen.logs[source].slot):
                self._quiet[source] = seen.logs[source]
        return {x: Quiet(known[x].user, known[x].id, log.tables, log.slot) for x, log in self._quiet.items()}

    def _may_rely_on(self, seen: Polled) -> bool:
        """Whether the same was looked for, our own log stands where it stood, and the operator wants nothing done when idle."""
        s = self._s
        if not seen.logs or looks_anyway(seen.turn) or seen.own != s.log.state.cid or s.routes.has_hooks:
            return False
        return not (s.settings.full_refresh and s.batch.id == 1) and seen.of == self._digest()

    def _digest(self) -> str:
        """Of everything that decides which tables go where."""
        s = self._s
        cls = type(s.operator)
        asked = [s.settings.upstream, s.settings.enabled, s.settings.disabled, s.worker.num, s.worker.of]
        where = [dict(self._config.schemas), schemas_from(self._env), self._fingerprint()]
        parts = [__version__, cls.__module__, cls.__qualname__, s.session.user, asked, where, self._config.tbls]
        return hashlib.sha256(msgspec.json.encode(parts, enc_hook=_plain, order="sorted")).hexdigest()[:32]

    def _unmoved_heads(self, known: Mapping[str, Home], seen: Polled) -> set[str]:
        """The sources whose heads are as they were: one listing for all of a user's. Where that is one, its log is as cheap."""
        by_user: dict[str, list[str]] = {}
        for source, home in known.items():
            by_user.setdefault(home.user, []).append(source)
        for mine in by_user.values():
            if len(mine) > 1:
                found = self._retry(lambda mine=mine: heads.tags(self._s.store, [known[x] for x in mine]))  # type: ignore[misc]
                self._tags |= {x: found[known[x].root] for x in mine if known[x].root in found}
        return {x for x, tag in self._tags.items() if tag == seen.logs[x].tag}

    def _moved(self, home: Home, slot: int) -> bool:
        """Whether the log has a record after `slot`. Slots are never deleted, and none is left out."""
        try:
            self._retry(lambda: self._s.store.get(home.slot(slot + 1)))
        except NotFound:
            return False
        return True

    def note(self, logs: Mapping[str, PolledLog]) -> None:
        """Remember the upstreams (`user/id`) of which everything up to their slot was loaded, and those that were quiet."""
        both = {**self._quiet, **logs}
        every = {x: msgspec.structs.replace(log, tag=self._tags.get(x, log.tag)) for x, log in both.items()}
        s = self._s
        polled = Polled(of=self._digest(), own=s.log.state.cid, turn=s.remembered.polled.turn + 1, logs=every)
        s.remembered = msgspec.structs.replace(s.remembered, polled=polled)

    def _retry(self, do: Callable[[], Any]) -> Any:
        return Retry(self._s.clock, self._s.ids, self._s.batch.time_left).call(do)


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)
