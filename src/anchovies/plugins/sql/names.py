"""What tables and columns are called in a database. Deterministic: the same source names always give the same target names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from anchovies.sdk import ConfigError

HISTORY = ("_seq", "_del")
"""Columns that an `scd` table has beside those of the source."""


def fit(name: str, limit: int) -> str:
    """`name`, or, where it has more than `limit` bytes of UTF-8, its beginning and a hash of all of it. Raises ConfigError."""
    if not name or "\x00" in name:
        raise ConfigError(f"{name!r} cannot be the name of a table or a column")
    raw = name.encode()
    if len(raw) <= limit:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:10]
    return raw[: limit - 11].decode(errors="ignore") + "_" + digest


def column_names(source: Iterable[str], reserved: frozenset[str], short: Callable[[str], str], tbl: str) -> dict[str, str]:
    """Source name → target name, made to fit by `short`. `_seq`, `_del` and what the database reserves get a `_` at the end.

    Raises ConfigError where two columns would be one in a database that ignores case; it names both.
    """
    taken: dict[str, str] = {}
    out: dict[str, str] = {}
    for name in source:
        target = short(name)
        if target.casefold() in reserved or target in HISTORY:
            target += "_"
        if (other := taken.setdefault(target.casefold(), name)) != name:
            raise ConfigError(
                f"tbl {tbl}: the columns {other!r} and {name!r} would both be called {target!r}, as SQL names ignore case",
                hint="rename one of them at the source, or leave it out of `columns`",
                tbl=tbl,
            )
        out[name] = target
    return out


def quote(name: str) -> str:
    """`name` as a delimited identifier of standard SQL, which all three databases take as it is. Raises ConfigError."""
    if not name or "\x00" in name:
        raise ConfigError(f"{name!r} cannot be a name in SQL")
    return '"' + name.replace('"', '""') + '"'
