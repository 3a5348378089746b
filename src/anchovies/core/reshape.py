"""What a table leaves out, renames and masks: read from the configuration, checked, and applied to what is known of the table.

`exclude` and `rename` speak of columns as the source names them; every other setting speaks of them as they are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec.structs import replace

from anchovies.core.errors import ConfigError
from anchovies.core.suggest import did_you_mean
from anchovies.core.tbl import Column, SortKey, Tbl, parse_names
from anchovies.core.types import STR, ColType

Mask = Literal["sha256", "redact"]
MASKS = ("sha256", "redact")
KEY_VARIABLE = "ACHVY_MASK_KEY"
SHORTEST_KEY = 16  # characters: a shorter one is guessed, and the redactor would not know it
RESHAPES = ("exclude", "rename", "mask")


def parse_rename(value: Any, where: str) -> dict[str, str]:
    """`{old: new}`. Raises ConfigError: no map of names, or two columns under one name."""
    if not isinstance(value, Mapping) or not all(isinstance(x, str) and x for pair in value.items() for x in pair):
        raise ConfigError(f"{where}: expected a map of the source's column name to the new one", hint=f"{where}: {{old: new}}")
    seen: dict[str, str] = {}
    for old, new in value.items():
        other = seen.setdefault(new.casefold(), old)
        if other != old:
            raise ConfigError(f"{where}: both {other!r} and {old!r} would be named {new!r}", hint="give each a name of its own")
    return dict(value)


def parse_mask(value: Any, where: str) -> dict[str, str]:
    """`{column: sha256 | redact}`. Raises ConfigError with the nearest mask."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a map of column name to mask", hint=f"{where}: {{email: sha256, phone: redact}}")
    for column, mask in value.items():
        if mask not in MASKS:
            hint = did_you_mean(str(mask), MASKS, else_list="masks")
            raise ConfigError(f"{where}.{column}: unknown mask {str(mask)!r}", hint=hint)
    return dict(value)


def parse_exclude(value: Any, where: str) -> tuple[str, ...]:
    return parse_names(value, where)


def reshaped(tbl: Tbl, changes: Mapping[str, Any]) -> Tbl:
    """What a source knows of a table (`tbl`), as it is kept once `changes` (some of `RESHAPES`) are applied to it.

    Its columns and keys have new names, what is left out is gone, and what is masked is text.
    """
    made = tbl.with_(**{k: changes[k] for k in RESHAPES if k in changes})
    new = {} if "rename" not in changes else made.rename
    gone = frozenset(made.exclude if "exclude" in changes else ())

    def name(n: str) -> str:
        return new.get(n, n)

    columns = tuple(Column(name(c.name), c.type) for c in tbl.columns if c.name not in gone)
    return made.with_(
        columns=masked_columns(made, columns),
        unique_by=tuple(map(name, tbl.unique_by)),
        set_by=tuple(map(name, tbl.set_by)),
        sort_by=tuple(SortKey(name(k.column), k.descending) for k in tbl.sort_by),
        deleted_by=tbl.deleted_by and name(tbl.deleted_by),
    )


def masked_columns(tbl: Tbl, columns: Iterable[Column]) -> tuple[Column, ...]:
    """`columns`, those that are masked as text."""
    return tuple(replace(c, type=STR) if c.name in tbl.mask else c for c in columns)


def kept_types(tbl: Tbl, known: Mapping[str, ColType]) -> dict[str, ColType]:
    """Columns of earlier commits, as the table is shaped now: without what is left out, masked ones as text. Columns that are
    renamed now stay beside the new ones: earlier rows have them."""
    gone = set(tbl.exclude) - set(tbl.rename.values())
    return {n: STR if n in tbl.mask else t for n, t in known.items() if n not in gone}


def as_yielded(tbl: Tbl) -> Tbl:
    """The table as its source is to yield it: the source's own names. What will be masked is text, whose type nobody guesses."""
    if not (tbl.rename or tbl.mask):
        return tbl
    old = {new: was for was, new in tbl.rename.items()}

    def name(n: str) -> str:
        return old.get(n, n)

    known = {c.name for c in tbl.columns}
    columns = [*tbl.columns, *(Column(n, STR) for n in tbl.mask if n not in known)]
    return tbl.with_(
        columns=tuple(Column(name(c.name), c.type) for c in masked_columns(tbl, columns)),
        unique_by=tuple(map(name, tbl.unique_by)),
        set_by=tuple(map(name, tbl.set_by)),
        sort_by=tuple(SortKey(name(k.column), k.descending) for k in tbl.sort_by),
    )


def check_reshape(tbl: Tbl, where: str, declared: Iterable[Column] = ()) -> None:
    """Whether `exclude`, `rename`, `mask` and the keys make sense together. Raises ConfigError that names the setting."""
    both = sorted(set(tbl.exclude) & set(tbl.rename))
    if both:
        raise ConfigError(f"{where}.rename: {both[0]!r} is left out (exclude)", hint="take it out of one of the two")
    new = set(tbl.rename.values())
    for column in (*tbl.mask, *(c.name for c in declared)):
        if column in tbl.rename and column not in new:
            setting = "mask" if column in tbl.mask else "columns"
            raise ConfigError(
                f"{where}.{setting}: {column!r} is kept as {tbl.rename[column]!r}",
                hint="name it as it is kept: only `exclude` and `rename` take the source's names",
            )
        if column in tbl.exclude and column not in new:
            setting = "mask" if column in tbl.mask else "columns"
            raise ConfigError(f"{where}.{setting}: {column!r} is left out (exclude)", hint="take it out of one of the two")
    for c in declared:
        if c.name in tbl.mask and c.type != STR:
            raise ConfigError(
                f"{where}.columns: {c.name!r} is masked, so it is kept as text, not as {c.type}", hint="leave its type out"
            )
    _check_masked_keys(tbl, where)


def _check_masked_keys(tbl: Tbl, where: str) -> None:
    for setting, names in (("unique_by", tbl.unique_by), ("set_by", tbl.set_by)):
        for n in names:
            if tbl.mask.get(n) == "redact":
                raise ConfigError(
                    f"{where}.{setting}: {n!r} is redacted, so that all rows have the same", hint="mask it with sha256 instead"
                )
    for k in tbl.sort_by:
        if k.column in tbl.mask:
            raise ConfigError(f"{where}.sort_by: {k.column!r} is masked, which leaves no order", hint="sort by another column")


def check_shape(tbl: Tbl, where: str) -> Tbl:
    """A table that code has made: the same checks, and masked columns as text."""
    parse_rename(tbl.rename, f"{where}.rename")
    parse_mask(tbl.mask, f"{where}.mask")
    check_reshape(tbl, where)
    return tbl.with_(columns=masked_columns(tbl, tbl.columns))


def same_shape(published: Tbl, asked: Mapping[str, Any], where: str) -> None:
    """What an uploader is told of a table's shape must be what its downloader did. Raises ConfigError."""
    for key, want in asked.items():
        if getattr(published, key) != want:
            raise ConfigError(
                f"{where}.{key}: rows are shaped before they are kept, and {published.name!r} was kept in another shape",
                hint="set it in the configuration of the downloader, and run that first",
            )


def mask_key(tbls: Iterable[Tbl], key: str | None) -> bytes | None:
    """The key of all hashes; None where no table of these needs one. Raises ConfigError that names the variable."""
    needs = next((t for t in tbls if "sha256" in t.mask.values()), None)
    if needs is None:
        return None
    way = f"{KEY_VARIABLE}=… (`openssl rand -hex 32` makes one); keep it: other keys give other hashes"
    if not key:
        raise ConfigError(f"tbls.{needs.name}.mask: sha256 needs a key, and {KEY_VARIABLE} is not set", hint=way)
    if len(key) < SHORTEST_KEY:
        raise ConfigError(f"{KEY_VARIABLE} is too short: {SHORTEST_KEY} characters at least", hint=way)
    return key.encode("utf-8", "surrogateescape")
