"""Tables between the configuration, plain JSON and `Tbl`; and which of them a run takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from anchovies.core.document import place
from anchovies.core.errors import ConfigError
from anchovies.core.names import check_name
from anchovies.core.reshape import RESHAPES, check_reshape, parse_exclude, parse_mask, parse_rename, reshaped, same_shape
from anchovies.core.settingkinds import BOOL, BYTES, COUNT, TEXT, choice
from anchovies.core.suggest import did_you_mean, nearest
from anchovies.core.tbl import Tbl, parse_columns, parse_names, parse_sort

NOT_BUILT = "is not built yet (see CHANGELOG)"
LATER_KEYS = ("expect",)
_READERS: dict[str, Callable[[Any, str], Any]] = {
    "columns": parse_columns,
    "unique_by": parse_names,
    "set_by": parse_names,
    "sort_by": parse_sort,
    "autodiscover": BOOL.parse,
    "write": choice("scd", "merge", "append", "replace").parse,
    "schema": choice("evolve", "freeze", "reject").parse,
    "on_bad_row": choice("fail", "reject").parse,
    "allow_failure": BOOL.parse,
    "snapshot": BOOL.parse,
    "deleted_by": TEXT.parse,
    "current_view": BOOL.parse,
    "exclude": parse_exclude,
    "rename": parse_rename,
    "mask": parse_mask,
    "batch_rows": COUNT.parse,
    "batch_bytes": BYTES.parse,
}
_PLAIN = ("autodiscover", "write", "schema", "on_bad_row", "allow_failure", "snapshot", "deleted_by", "current_view")
TABLE_KEYS: tuple[str, ...] = tuple(_READERS)
T = TypeVar("T", str, tuple[str, str])


def tbl_from_config(name: str, raw: Mapping[str, Any], properties: Mapping[str, str] | None = None) -> Tbl:
    """The table `name` as `tbls.<name>` of the configuration says.

    `properties`: those that the operator declares (name → meaning); None where they are others' business, as for uploaders.
    Raises ConfigError for a name that is no name, unknown keys (with the nearest), wrong values, and what is not built yet.
    """
    return merge_tbl(Tbl(check_name(name, "table")), raw, properties)


def merge_tbl(upstream: Tbl, raw: Mapping[str, Any], properties: Mapping[str, str] | None = None) -> Tbl:
    """`upstream` (discovered, or published by an upstream anchovy) with what `tbls.<name>` says; the configuration wins.

    Columns are merged by name; those that the configuration renames, leaves out or masks are so before. What was published is in
    its shape already, so an uploader's configuration may only say the same. Raises ConfigError as `tbl_from_config`.
    """
    changes: dict[str, Any] = {}
    own = dict(upstream.properties)
    for key, value in raw.items():
        path = f"tbls.{upstream.name}.{key}"
        where = place(raw, key, path)
        if key in _READERS:
            if value is not None:
                changes[key] = _read(key, value, where)
        else:
            if not key.startswith("x-"):
                _check_property(key, where, properties)
            own[key] = plain(value)
    return _merged(upstream, changes, properties is None).with_(properties=own)


def _merged(upstream: Tbl, changes: dict[str, Any], published: bool) -> Tbl:
    where = f"tbls.{upstream.name}"
    shape = {k: changes.pop(k) for k in RESHAPES if k in changes}
    if published:
        same_shape(upstream, shape, where)
    elif shape:
        upstream = reshaped(upstream, shape)
    declared = changes.get("columns", ())
    if declared:
        changes["columns"] = tuple({c.name: c for c in (*upstream.columns, *declared)}.values())
        changes["declared"] = upstream.declared | {c.name for c in declared}
    merged = upstream.with_(**changes)
    if merged.reshapes:
        check_reshape(merged, where, declared)
    return merged


def _read(key: str, value: Any, where: str) -> Any:
    return _READERS[key](value, where)


def _check_property(key: str, where: str, properties: Mapping[str, str] | None) -> None:
    if key in LATER_KEYS:
        raise ConfigError(f"{where}: {key} {NOT_BUILT}")
    if properties is None:
        meant = nearest(key, TABLE_KEYS, 0.8)
        if meant:
            raise ConfigError(f"{where}: unknown key", hint=f"did you mean {meant!r}?")
    elif key not in properties:
        raise ConfigError(f"{where}: unknown key", hint=did_you_mean(key, (*TABLE_KEYS, *properties), else_list="keys"))


def plain(value: Any) -> Any:
    """Maps and lists as plain dicts and lists."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def tbl_to_json(tbl: Tbl) -> dict[str, Any]:
    """`tbl` as plain JSON, as downstream anchovies see it: everything but the plugin's properties, defaults left out.

    `free` has the properties that are nobody's (`x-…`): a plugin's own may say where a source lies and how to get in.
    """
    every: dict[str, Any] = {
        "columns": [[c.name, str(c.type)] for c in tbl.columns],
        "unique_by": list(tbl.unique_by),
        "set_by": list(tbl.set_by),
        "sort_by": [str(k) for k in tbl.sort_by],
        "exclude": list(tbl.exclude),
        "rename": dict(tbl.rename),
        "mask": dict(tbl.mask),
        "free": {k: v for k, v in tbl.properties.items() if k.startswith("x-")},
        **{key: getattr(tbl, key) for key in _PLAIN},
    }
    default = {"schema": "evolve", "on_bad_row": "fail"}
    return {"name": tbl.name, **{k: v for k, v in every.items() if v and v != default.get(k)}}


def tbl_from_json(data: Mapping[str, Any]) -> Tbl:
    """What `tbl_to_json` gave; keys of later versions are passed over. Raises ConfigError for what is no table."""
    name = check_name(TEXT.parse(data.get("name"), "name"), "table")
    try:
        columns = [(n, t) for n, t in data.get("columns", ())]
    except (TypeError, ValueError):
        raise ConfigError(f"{name}.columns: expected pairs of name and type") from None
    where = f"table {name}"
    found: dict[str, Any] = {k: read(data[k], f"{where}.{k}") for k, read in _READERS.items() if k != "columns" and k in data}
    parsed = tuple(parse_columns({n: t}, where)[0] for n, t in columns)
    return Tbl(name, parsed, **found, properties=dict(data.get("free") or {}))


def match_tables(tables: Iterable[T], enabled: Iterable[str], disabled: Iterable[str]) -> list[T]:
    """The tables that a run takes: names, or pairs (upstream id, name), which `upstream.tbl` matches too. Patterns are globs;
    disabled wins; without `enabled` all are taken. Raises ConfigError for a pattern that matches nothing.
    """
    every = list(tables)
    taken = every if not (patterns := tuple(enabled)) else [t for p in patterns for t in _matching(p, every, "-e/--enable")]
    dropped = {t for p in disabled for t in _matching(p, every, "-d/--disable")}
    return [t for t in every if t in taken and t not in dropped]


def _matching(pattern: str, tables: list[T], option: str) -> list[T]:
    found = [t for t in tables if any(fnmatchcase(n, pattern) for n in _names(t))]
    if not found:
        hint = did_you_mean(pattern, {n for t in tables for n in _names(t)}, else_list="tables")
        raise ConfigError(f"{option} {pattern!r} matches no table", hint=hint, pattern=pattern)
    return found


def _names(table: str | tuple[str, str]) -> tuple[str, ...]:
    return (table,) if isinstance(table, str) else (table[1], ".".join(table))
