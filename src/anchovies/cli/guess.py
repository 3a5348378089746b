"""`anchovy init --from URI`: a look at a source, and what its tables seem to be. Nothing is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from anchovies.cli import say
from anchovies.core import registry
from anchovies.core.config import config_from
from anchovies.core.env import read_environment
from anchovies.core.errors import ConfigError
from anchovies.core.settings import resolve
from anchovies.core.tbl import Tbl
from anchovies.engine import look
from anchovies.sdk.operator import Operator
from anchovies.store.memory import MemoryStore

ROWS = 1_000  # read of each table
VARIABLE = "ACHVY_CNXN__URI"
_KEY = re.compile(r"(^|_)(id|key|code|number|num|no|uuid)$")


@dataclass(frozen=True)
class Guessed:
    """One table: what stands in `config.yaml` of it, its columns as they look, and the columns that may be its key."""

    name: str
    properties: Mapping[str, Any]
    columns: Mapping[str, str]
    keys: Sequence[str]


def operator_of(uri: str) -> str:
    """What reads an address, or a path. Raises ConfigError."""
    return registry.operator_for(urlsplit(uri).scheme.lower() if "://" in uri else "file")


def shown(uri: str) -> str:
    """The address without the password in it."""
    return re.sub(r"(://[^:/@]*):.*@", r"\1:…@", uri)


def guess(operator: str, uri: str) -> list[Guessed]:
    """The tables of the source at `uri`. Raises what a run would, and ConfigError where nothing is found."""
    cls = registry.resolve_operator(operator)
    assert issubclass(cls, Operator)
    env = {**read_environment(), VARIABLE: uri}
    say.mask(env)
    settings, nothing = resolve({"id": "guess", "user": "guess", "datastore": "memory://"}, env, config_from({})), config_from({})
    with look.looking(cls, settings, nothing, env, MemoryStore()) as (services, _):
        found = {t.name: _properties(t) for t in services.operator.guess_tbls()}
    if not found:
        hint = f"`anchovy plugin {operator.partition('.')[0]}` says what it reads"
        raise ConfigError(f"nothing at {shown(uri)} looks like a table", hint=hint)
    kept = {tbl.name: (tbl, rows) for tbl, rows in look.preview(cls, settings, config_from({"tbls": found}), env, ROWS)}
    return [
        Guessed(n, p, {c: str(t) for c, t in kept[n][0].types.items()}, _keys(kept[n][1])) for n, p in found.items() if n in kept
    ]


def _properties(tbl: Tbl) -> dict[str, Any]:
    return {**tbl.properties, **({"autodiscover": True} if tbl.autodiscover else {})}


def _keys(rows: Any) -> list[str]:
    """Columns that are called like a key, and have another value in every row that was read."""
    names = [name for name in rows.schema.names if _KEY.search(name.lower())]
    return [n for n in names if rows.num_rows > 1 and _is_key(rows.column(n), rows.num_rows)]


def _is_key(column: Any, rows: int) -> bool:
    return column.null_count == 0 and len(column.unique()) == rows
