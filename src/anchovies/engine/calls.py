"""Calling marked methods with the arguments they name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from anchovies.core.errors import ConfigError, FatalError


def call(method: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call `method` with those of `given` that it names, or with all for `**kwds`. Raises ConfigError for unknown names."""
    params = inspect.signature(method).parameters.values()
    wanted = [p for p in params if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if unknown := [p.name for p in wanted if p.name not in given and p.default is p.empty]:
        name = getattr(method, "__qualname__", method)
        raise ConfigError(f"{name} wants {unknown[0]!r}, which nobody hands in", hint=f"it can have: {', '.join(sorted(given))}")
    if any(p.kind is p.VAR_KEYWORD for p in params):
        return method(**given)
    return method(**{p.name: given[p.name] for p in wanted if p.name in given})


def rows_of(items: object, source: str) -> Iterator[object]:
    """What a source returned, to be iterated. Raises FatalError for what holds no rows."""
    if items is None:
        return iter(())
    if not isinstance(items, Iterable) or isinstance(items, str | bytes | Mapping):
        raise FatalError(f"source {source} returned a {type(items).__name__}", hint="a source yields rows: dicts or Arrow")
    return iter(items)


def close(items: object) -> None:
    """End a generator now, so that its `finally` blocks run in this thread."""
    end = getattr(items, "close", None)
    if end is not None and isinstance(items, Iterator):
        end()
