"""Which tables there are, and which of them a batch makes."""

from __future__ import annotations

from collections.abc import Iterable

from anchovies.core.config import Config
from anchovies.core.errors import ConfigError
from anchovies.core.names import check_name
from anchovies.core.reshape import check_shape
from anchovies.core.settings import Settings
from anchovies.core.tbl import Tbl
from anchovies.core.tblconfig import match_tables, merge_tbl, tbl_from_config
from anchovies.engine.graph import Graph, build, check_names, with_graph
from anchovies.engine.routes import Routes
from anchovies.sdk.cached import cache_of
from anchovies.sdk.operator import Operator

MOST_ROUNDS = 20  # of chains that make tables of the tables that others have made


def plan_tables(operator: Operator, routes: Routes, config: Config, settings: Settings) -> Graph:
    """What a downloader's batch runs. Raises ConfigError where something that was asked for cannot be."""
    tbls = known_tables(operator, routes, config)
    if not tbls:
        raise ConfigError(
            f"{type(operator).__name__} has no tables to run",
            hint="name them under `tbls:` in config.yaml, in @source('name'), or yield them from discover_tbls()",
        )
    check_names(routes, tbls)
    try:
        return build(routes, tbls, match_tables(list(tbls), settings.enabled, settings.disabled))
    except ConfigError as e:
        if not {"pattern", "unserved"} & set(e.where):
            raise
        raise with_graph(e, routes, tbls) from None


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
    for _ in range(MOST_ROUNDS):
        if not (made := routes.derived(found)):
            return found
        found |= {name: Tbl(check_name(name, "table")) for name in made}
    raise ConfigError(
        f"the chains of {type(operator).__name__} make tables of tables without an end, {made[0]!r} for one",
        hint="let the globs of their @sink marks match less",
    )


def _discovered(operator: Operator) -> Iterable[Tbl]:
    """What `discover_tbls()` gives, or gave a moment ago."""
    cache = cache_of(operator)
    if cache is None:
        return _checked(operator.discover_tbls(), operator)
    return cache.get("discover_tbls", lambda: tuple(_checked(operator.discover_tbls(), operator)))


def _checked(tbls: Iterable[Tbl], operator: Operator) -> Iterable[Tbl]:
    seen: set[str] = set()
    for tbl in tbls or ():
        if not isinstance(tbl, Tbl):
            raise ConfigError(
                f"{type(operator).__name__}.discover_tbls() yielded a {type(tbl).__name__}", hint="yield Tbl('name', …)"
            )
        if check_name(tbl.name, "table") in seen:
            raise ConfigError(f"{type(operator).__name__}.discover_tbls() yielded table {tbl.name!r} twice", hint="yield it once")
        seen.add(tbl.name)
        yield check_shape(tbl, f"discover_tbls(): {tbl.name}") if tbl.reshapes else tbl


def vanished(operator: Operator, there: Iterable[str], kept: Iterable[str]) -> list[str]:
    """Tables that were kept before and that the operator does not discover any more."""
    if type(operator).discover_tbls is Operator.discover_tbls:
        return []
    return sorted(set(kept) - set(there))
