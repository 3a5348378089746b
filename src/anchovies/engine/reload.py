"""A configuration file that changes while a service runs: read again between two batches, by its content, never by a time.

What cannot change while the process lives is named in a warning. A file that cannot be used changes nothing, and is told of once.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from anchovies.core.config import Config, digest_of
from anchovies.core.declared import BY_NAME
from anchovies.core.errors import AnchovyError
from anchovies.core.settings import Settings
from anchovies.engine.services import Services, phrase

Reread = Callable[[], tuple[Settings, Config]]
#: settings that each batch looks at anew. All others were used up at the start: identity, operator, process, screen
CHANGEABLE = frozenset(
    (
        "interval",
        "upstream",
        "upstream_may_be_missing",
        "enabled",
        "disabled",
        "batch_policy",
        "max_failures",
        "commit_bytes",
        "commit_seconds",
        "batch_bytes",
        "batch_rows",
        "threads",
        "retain",
        "cache_ttl",
        "execution_timeout",
    )
)
SETTLES = 0.2  # seconds in which the content of a file that somebody is writing changes again
TRIES = 25


class Reloaded(msgspec.Struct, frozen=True):
    """What a new file came to: `changed` names its settings and parts that are others now, `fixed` those that have to wait."""

    settings: Settings
    config: Config
    changed: tuple[str, ...]
    fixed: tuple[str, ...]


class Reload:
    """Looks at the file of `config`; `reread` reads it again, as the start of the process did (None: there is no way to)."""

    def __init__(self, services: Services, config: Config, reread: Reread | None) -> None:
        self._s = services
        self._path = config.path if reread is not None else None
        self._reread = reread
        self._seen: str | None = config.digest

    def look(self, settings: Settings, config: Config) -> Reloaded | None:
        """The settings and the configuration of the next batch, if they are not `settings` and `config` any more."""
        if self._path is None or (digest := digest_of(self._path)) == self._seen:
            return None
        self._seen = digest = self._settled(digest)
        try:
            assert self._reread is not None
            new, found = self._reread()
        except AnchovyError as e:
            self._tell(f"{self._path} changed and cannot be used: {phrase(e)}. The old configuration stays")
            return None
        return self._compared(settings, config, new, found)

    def _settled(self, digest: str | None) -> str | None:
        """The digest, once it stays the same for a moment: whoever writes the file may not be done."""
        assert self._path is not None
        for _ in range(TRIES):
            if self._s.stop.wait(SETTLES) or (again := digest_of(self._path)) == digest:
                break
            digest = again
        return digest

    def _compared(self, settings: Settings, config: Config, new: Settings, found: Config) -> Reloaded | None:
        differing = [n for n in BY_NAME if getattr(new, n) != getattr(settings, n)]
        fixed = tuple(n for n in differing if not _may_change(n, settings, new))
        if fixed:
            plural = "they wait" if len(fixed) > 1 else "it waits"
            self._tell(f"{self._path}: {', '.join(fixed)} cannot change while the service runs; {plural} for the next start")
        changed = [n for n in differing if n not in fixed]
        parts = [part for part in ("tbls", "schemas") if getattr(found, part) != getattr(config, part)]
        if not changed and not parts:
            return None
        mixed = settings.with_(**{n: getattr(new, n) for n in changed})
        return Reloaded(mixed, found, (*changed, *parts), fixed)

    def refused(self, error: BaseException) -> None:
        """A batch found that the new configuration cannot work."""
        self._tell(f"{self._path} changed and cannot be used: {phrase(error)}. The old configuration is back")

    def told(self, what: Reloaded) -> None:
        self._s.tell("reloaded", file=str(self._path), changed=list(what.changed))

    def _tell(self, message: str) -> None:
        self._s.tell("warning", message=message)


def _may_change(name: str, old: Settings, new: Settings) -> bool:
    """A process that began without a deadline has no supervisor that would keep one."""
    if name == "execution_timeout":
        return old.execution_timeout is not None
    return name in CHANGEABLE
