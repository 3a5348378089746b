"""`@cached`: what a method found is used again for a while; its place is the operator, its time the session's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar, overload

import msgspec

from anchovies.core.errors import ConfigError
from anchovies.core.settingkinds import DURATION

P = ParamSpec("P")
T = TypeVar("T")
MOST = 1_000
_PLACE = "_anchovies_cache"


class Cache:
    """What the methods of one operator found. Thread-safe; one thread at a time finds something out, others wait for it.

    `ttl`: seconds for what says nothing else. `now()`: monotonic seconds. It holds at most 1,000 results: the oldest go.
    """

    def __init__(self, ttl: float, now: Callable[[], float]) -> None:
        self._ttl, self._now = ttl, now
        self._turn = threading.RLock()
        self._found: dict[Hashable, tuple[float, Any]] = {}

    def get(self, key: Hashable, find: Callable[[], T], ttl: float | None = None) -> T:
        """What `find()` gave for `key` less than `ttl` seconds ago, else what it gives now. What it raises is not kept."""
        with self._turn:
            when, value = self._found.get(key, (0.0, None))
            if key not in self._found or self._now() >= when:
                value = find()
                self._keep(key, value, self._ttl if ttl is None else ttl)
            found: T = value
            return found

    def _keep(self, key: Hashable, value: object, ttl: float) -> None:
        self._found.pop(key, None)  # so that the oldest come first
        self._found[key] = (self._now() + ttl, value)
        while len(self._found) > MOST:
            del self._found[next(iter(self._found))]

    def clear(self) -> None:
        with self._turn:
            self._found.clear()


def keep_cache(owner: object, cache: Cache) -> Cache:
    """Give `owner` the cache that its `@cached` methods use from now on; the engine's, and a test's, way in."""
    owner.__dict__[_PLACE] = cache
    return cache


def cache_of(owner: object) -> Cache | None:
    """The cache of an operator that runs; None outside of a run."""
    found = getattr(owner, "__dict__", {}).get(_PLACE)
    return found if isinstance(found, Cache) else None


@overload
def cached(method: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def cached(*, ttl: float | str | None = None) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def cached(method: Any = None, /, *, ttl: float | str | None = None) -> Any:
    """`@cached` above a method of an operator: what it returns is used again for `cache_ttl`, or `@cached(ttl="5m")`.

    It is remembered for each operator and each list of arguments, and forgotten when a batch failed or the configuration was
    read again. A generator's items are kept as a tuple. Called outside of a run (by a test), it is the plain method. Everybody
    gets the same object: do not change it. Raises ConfigError for arguments that cannot be told apart.
    """
    seconds = None if ttl is None else DURATION.parse(ttl, "@cached(ttl=…)")
    if method is not None and not callable(method):
        raise ConfigError("@cached takes its lifetime by name", hint='@cached(ttl="5m")')
    return _mark(method, seconds) if method is not None else lambda fn: _mark(fn, seconds)


def _mark(method: Callable[..., Any], ttl: float | None) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, /, *args: Any, **kwds: Any) -> Any:
        cache = cache_of(self)
        if cache is None:
            return method(self, *args, **kwds)
        try:
            key = (method, _told_apart(args), _told_apart(kwds))
            hash(key)
        except TypeError as e:
            raise ConfigError(
                f"@cached {method.__qualname__}: {e}", hint="hand in texts, numbers, dates, or lists and maps of them"
            ) from None
        return cache.get(key, lambda: _whole(method(self, *args, **kwds)), ttl)

    return call


def _told_apart(value: Any) -> Any:
    """The same for what is equal, with its types: 1, 1.0 and True are three."""
    if isinstance(value, Mapping):
        return "map", frozenset((k, _told_apart(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(_told_apart(v) for v in value)
    if isinstance(value, set | frozenset):
        return "set", frozenset(_told_apart(v) for v in value)
    if isinstance(value, msgspec.Struct):  # a Tbl, say
        return type(value), _told_apart(msgspec.structs.asdict(value))
    return type(value), value


def _whole(value: Any) -> Any:
    return tuple(value) if isinstance(value, Iterator) else value
