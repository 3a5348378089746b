"""Which tables a batch has, and which root flows make them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from anchovies.core.config import Config
from anchovies.core.errors import ConfigError
from anchovies.core.settings import Settings
from anchovies.core.tbl import Tbl
from anchovies.core.tblconfig import match_tables, merge_tbl, tbl_from_config
from anchovies.engine.routes import Routes
from anchovies.sdk.cached import cache_of
from anchovies.sdk.operator import Operator


class TablePlan(msgspec.Struct, frozen=True):
    """`tbls`: every table that runs, kept or not; `active`: those that were asked for; `roots`: where a flow begins, in order."""

    tbls: Mapping[str, Tbl]
    active: tuple[str, ...]
    roots: tuple[str, ...]


def plan_tables(operator: Operator, routes: Routes, config: Config, settings: Settings) -> TablePlan:
    """The tables of a downloader's batch. Raises ConfigError where something that was asked for cannot be."""
    tbls = known_tables(operator, routes, config)
    if not tbls:
        raise ConfigError(
            f"{type(operator).__name__} has no tables to run",
            hint="name them under `tbls:` in config.yaml, in @source('name'), or yield them from discover_tbls()",
        )
    active = match_tables(list(tbls), settings.enabled, settings.disabled)
    needed: dict[str, None] = {}
    roots: dict[str, None] = {}
    for name in active:
        _trace(name, routes, needed, roots, ())
    return TablePlan({n: tbls.get(n) or Tbl(n) for n in needed}, tuple(active), tuple(roots))


def known_tables(operator: Operator, routes: Routes, config: Config) -> dict[str, Tbl]:
    """Configured, discovered and marked tables; the configuration wins where it says something."""
    properties = type(operator).tbl_properties
    found: dict[str, Tbl] = {}
    for tbl in _discovered(operator):
        raw = config.tbls.get(tbl.name)
        found[tbl.name] = merge_tbl(tbl, raw, properties) if raw is not None else tbl
    for name, raw in config.tbls.items():
        if name not in found:
            found[name] = tbl_from_config(name, raw, properties)
    for name in routes.exact_tables():
        found.setdefault(name, Tbl(name))
    return found


def _discovered(operator: Operator) -> Iterable[Tbl]:
    """What `discover_tbls()` gives, or gave a moment ago."""
    cache = cache_of(operator)
    if cache is None:
        return _checked(operator.discover_tbls(), operator)
    return cache.get("discover_tbls", lambda: tuple(_checked(operator.discover_tbls(), operator)))


def _checked(tbls: Iterable[Tbl], operator: Operator) -> Iterable[Tbl]:
    for tbl in tbls or ():
        if not isinstance(tbl, Tbl):
            raise ConfigError(
                f"{type(operator).__name__}.discover_tbls() yielded a {type(tbl).__name__}", hint="yield Tbl('name', …)"
            )
        yield tbl


def _trace(name: str, routes: Routes, needed: dict[str, None], roots: dict[str, None], path: tuple[str, ...]) -> None:
    """Walk from a table to the flows that make it."""
    if name in path:
        raise ConfigError(f"the chain {' → '.join([*path, name])} goes in a circle", hint="look at its @source and @sink marks")
    needed[name] = None
    own = bool(routes.sources(name))
    if own:
        roots[name] = None
    above = routes.chains_into(name)
    if not own and not above:
        raise ConfigError(
            f"table {name!r} is configured, but no source serves it",
            hint=f"sources serve: {', '.join(routes.exact_tables()) or 'nothing by name'}",
        )
    for upstream in above:
        _trace(upstream, routes, needed, roots, (*path, name))
