"""A service between two batches: a pause, longer and longer while batches fail, and cut short when an upstream has moved."""

from __future__ import annotations

from collections.abc import Callable

from anchovies.core.config import Config
from anchovies.core.errors import AnchovyError, ConfigError
from anchovies.core.settingkinds import show_duration
from anchovies.core.settings import Settings
from anchovies.engine.feeds import named_upstreams
from anchovies.engine.outcome import ENDS_SERVICE, gave_up
from anchovies.engine.reload import Reload, Reread
from anchovies.engine.services import Services, phrase
from anchovies.engine.wake import Waker
from anchovies.sdk.cached import Cache, cache_of, keep_cache
from anchovies.sdk.operator import Uploader

LONGEST = 10  # times the interval
LEAST = 1.0  # seconds: the interval that a backoff reckons with at least


Adopt = Callable[[Settings, Config], None]
Batch = Callable[[int], tuple[BaseException | None, BaseException | None]]
"""Runs one, by its number: what ended the whole of it, if anything did; and what failed in it: that, or tables."""


class Loop:
    """What one service knows of its batches. `adopt` is called with other settings and another configuration."""

    def __init__(self, services: Services, config: Config, reread: Reread | None, adopt: Adopt) -> None:
        self._s = services
        self.failures = 0
        self.gave_up: AnchovyError | None = None  # what ends the service after `max_failures` batches
        self._told: set[str] = set()
        self._waker = self._make_waker()
        self._config, self._adopt = config, adopt
        self._reload = Reload(services, config, reread)
        self._former: tuple[Settings, Config] | None = None  # what a batch has to be well under the new one for, to be forgotten
        self._goes_back = False

    def _make_waker(self) -> Waker:
        named = named_upstreams(self._s) if self._s.settings.upstream else []
        return Waker(self._s, {f"{home.user}/{home.id}": home for _, home in named})

    def close(self) -> None:
        self._waker.close()

    def run(self, batch: Batch, between: Callable[[], None]) -> BaseException | None:
        """Until something ends it: what did. `between()` is called after each batch that does not."""
        number = 0
        try:
            while True:
                number += 1
                self.begin()
                error, failed = batch(number)
                if self.is_over(error):
                    return error
                between()
                self.ended(number, failed)
                if self.gave_up is not None:
                    return self.gave_up
                if self._s.stop.is_set() or self.pause():
                    return self._s.stop.reason
        finally:
            self.close()

    def begin(self) -> None:
        """Before each batch: with the configuration that lies there now."""
        if (new := self._reload.look(self._s.settings, self._config)) is not None:
            self._former = (self._s.settings, self._config)
            self._use(new.settings, new.config)
            self._reload.told(new)
        self._s.seen = {}
        if not isinstance(self._s.operator, Uploader):  # an uploader says itself what it has read
            self._waker.begin()

    def _use(self, settings: Settings, config: Config) -> None:
        self._config = config
        self._adopt(settings, config)
        keep_cache(self._s.operator, Cache(float(settings.cache_ttl), self._s.clock.monotonic))
        self._waker.close()
        self._waker = self._make_waker()

    def is_over(self, error: BaseException | None) -> bool:
        """Whether what ended a batch ends the service. A new configuration with which nothing works does not: the old one is
        taken back."""
        former, self._former = self._former, None
        if isinstance(error, ConfigError) and former is not None:
            self._use(*former)
            self._reload.refused(error)
            self._goes_back = True
            return False
        return isinstance(error, ENDS_SERVICE) or not isinstance(error, Exception | None)

    def ended(self, number: int, failed: BaseException | None) -> None:
        """After each batch. What went wrong is told once, however often it goes wrong in a row; so is that it does no more."""
        self._waker.note(self._s.seen)
        self._s.woken_by = set()
        if self._goes_back:
            return
        if failed is None:
            if self.failures:
                count = f"{self.failures} batch{'es' if self.failures > 1 else ''}"
                self._s.tell("warning", message=f"batch {number} went well, after {count} that failed")
            self.failures, self._told = 0, set()
            return
        self.failures += 1
        self._forget()
        limit = self._s.settings.max_failures
        if limit is not None and self.failures >= limit:
            self.gave_up = gave_up(self.failures, failed)
            return
        if (what := phrase(failed)) not in self._told and len(self._told) < LONGEST:
            self._told.add(what)
            longest = show_duration(self._ceiling(LONGEST))
            self._s.tell("warning", message=f"batch {number} failed: {what}. It is tried again, with pauses of up to {longest}")

    def _forget(self) -> None:
        """What was found out may be the reason of the failure."""
        if (cache := cache_of(self._s.operator)) is not None:
            cache.clear()

    def pause(self) -> bool:
        """Sleep until the next batch is due; True if the service is to stop. After a failure no upstream shortens it."""
        s = self._s
        if self._goes_back:
            self._goes_back = False
            return s.stop.is_set()
        if self.failures:
            return s.stop.is_set() or s.stop.wait(self.backoff())
        s.woken_by = self._waker.wait(float(s.settings.interval))
        if s.woken_by:
            s.tell("woken", upstreams=sorted(s.woken_by))
        return s.stop.is_set()

    def backoff(self) -> float:
        """Seconds, anything up to a ceiling (full jitter) that doubles with each failure: on average the interval, then twice it,
        up to five times. Those that failed together do not come back together."""
        return self._s.ids.jitter() * self._ceiling(self.failures)

    def _ceiling(self, failures: int) -> float:
        times: int = min(LONGEST, 1 << min(4, failures))
        return max(LEAST, float(self._s.settings.interval)) * times
