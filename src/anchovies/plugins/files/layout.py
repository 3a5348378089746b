"""How the text files of a table are laid out, read from its properties."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any

import msgspec

from anchovies.sdk import ConfigError, Tbl

PROPERTIES: Mapping[str, str] = {
    "path": "path or glob of the files (`*`, `?`, `[…]`, `**`); several with commas, or a list",
    "delimiter": "between fields: one character, `tab` or `\\t`; default: tab for .tsv and .tab files, else a comma",
    "quote": 'around fields; default `"`; `none`: quotes are like any other character',
    "escape": "before a character that is meant literally; default none",
    "header": "true (default): the first row names the columns; false: `columns` names them, else they are c1, c2, …",
    "encoding": "of the text; default utf-8. A byte order mark is always dropped",
    "nulls": "unquoted texts that mean null, in every column; default none. Where a column has a type, empty is always null",
    "gzip_max_ratio": "a .gz file that unpacks to more than so many times its size is refused; default 300",
    "gzip_max_bytes": "a .gz file that unpacks to more bytes is refused; default 64 GiB",
}
_TABS = ("\\t", "/t", "tab", "\t")
_NONE = ("none", "off", "")


class Layout(msgspec.Struct, frozen=True):
    """One table's text format. `delimiter` None: by the name of the file."""

    delimiter: str | None = None
    quote: str | None = '"'
    escape: str | None = None
    header: bool = True
    encoding: str = "utf-8"
    nulls: tuple[str, ...] = ()
    gzip_max_ratio: int = 300
    gzip_max_bytes: int = 64 << 30

    def delimiter_of(self, path: str) -> str:
        if self.delimiter:
            return self.delimiter
        return "\t" if path.lower().removesuffix(".gz").endswith((".tsv", ".tab")) else ","


def parse_layout(tbl: Tbl) -> Layout:
    """The layout of a table. Raises ConfigError naming table and property."""
    read = _Reader(tbl)
    layout = Layout(
        delimiter=read.delimiter(),
        quote=read.char("quote", '"'),
        escape=read.char("escape", None),
        header=read.bool("header", True),
        encoding=read.encoding(),
        nulls=read.texts("nulls"),
        gzip_max_ratio=read.positive("gzip_max_ratio", 300),
        gzip_max_bytes=read.positive("gzip_max_bytes", 64 << 30),
    )
    chars = [c for c in (layout.delimiter, layout.quote, layout.escape) if c]
    if len(set(chars)) < len(chars):
        raise ConfigError(f"tbls.{tbl.name}: delimiter, quote and escape must differ", tbl=tbl.name)
    return layout


class _Reader:
    """Reads one table's properties and names the wrong one."""

    def __init__(self, tbl: Tbl) -> None:
        self._tbl = tbl

    def _get(self, name: str) -> Any:
        return self._tbl.properties.get(name)

    def _wrong(self, name: str, want: str) -> ConfigError:
        return ConfigError(f"tbls.{self._tbl.name}.{name}: expected {want}, got {self._get(name)!r}", tbl=self._tbl.name)

    def delimiter(self) -> str | None:
        value = self._get("delimiter")
        if value is None:
            return None
        if isinstance(value, str) and (value.lower() in _TABS):
            return "\t"
        return self._one(value, "delimiter")

    def char(self, name: str, default: str | None) -> str | None:
        value = self._get(name)
        if value is None:
            return default
        if value is False or (isinstance(value, str) and value.lower() in _NONE):
            return None
        return self._one(value, name)

    def _one(self, value: Any, name: str) -> str:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or len(text) != 1 or not text.isascii() or text in "\r\n\0":
            raise self._wrong(name, "one ASCII character, or `tab`" if name == "delimiter" else "one ASCII character, or `none`")
        return text

    def bool(self, name: str, default: bool) -> bool:
        value = self._get(name)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "none": False, "0": False}
        if str(value).lower() not in known:
            raise self._wrong(name, "true or false")
        return known[str(value).lower()]

    def encoding(self) -> str:
        value = self._get("encoding")
        if value is None:
            return "utf-8"
        try:
            found = codecs.lookup(value)
            if not found._is_text_encoding:
                raise LookupError
        except (LookupError, TypeError, ValueError):
            raise self._wrong("encoding", "an encoding such as utf-8, utf-16, cp1252 or latin-1") from None
        return found.name

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._get(name)
        parts = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
            raise self._wrong(name, "a text or a list of texts")
        return tuple(parts)

    def positive(self, name: str, default: int) -> int:
        value = self._get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._wrong(name, "a whole number above 0")
        return value
