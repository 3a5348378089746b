"""Cutting UTF-8 text into blocks of whole rows, quotes and escapes respected, so that blocks can be parsed side by side."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from anchovies.plugins.files.layout import Layout
from anchovies.sdk import SourceError

BLOCK = 4 << 20
MAX_ROW = 32 << 20  # a longer row is a quote that was never closed


@dataclass(frozen=True, slots=True)
class Grammar:
    """What separates and surrounds the fields of one file."""

    delimiter: str
    quote: str | None
    escape: str | None

    @classmethod
    def of(cls, layout: Layout, path: str) -> Grammar:
        return cls(layout.delimiter_of(path), layout.quote, layout.escape)

    def rows(self, data: bytes) -> Iterator[tuple[int, list[str]]]:
        """(line in `data` from 0, fields) of every row that is not blank; slow, for headers and for error messages."""
        text = io.StringIO(data.decode("utf-8", "replace"), newline="")
        reader = csv.reader(
            text,
            delimiter=self.delimiter,
            quotechar=self.quote,
            escapechar=self.escape,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
        )
        line = 0
        with contextlib.suppress(csv.Error):  # a field that csv finds too long: the rows before it are enough for a message
            for row in reader:
                if row:
                    yield line, row
                line = reader.line_num

    def plain(self, data: bytes) -> bool:
        """Whether every line of `data` is a row: no quote and no escape in it."""
        return not any(c and c.encode() in data for c in (self.quote, self.escape))


@dataclass(frozen=True, slots=True)
class Block:
    """Whole rows. `line`: of its first one, from 1. `offset`: of its first byte in the unpacked file."""

    data: bytes
    line: int
    offset: int


def lines_in(data: bytes) -> int:
    """Line ends in `data`: \\n, or lone \\r in files that know nothing else."""
    return data.count(b"\n") or data.count(b"\r")


class Cutter:
    """Finds where rows end."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        row = _row_pattern(grammar)
        self._rows = re.compile(b"(?:" + row + b")*+", re.DOTALL)
        self._row = re.compile(row, re.DOTALL)

    def end(self, data: bytes) -> int:
        """Where the last whole row of `data` ends; 0 if none does."""
        if not self._grammar.plain(data):
            found = self._rows.match(data)
            return found.end() if found else 0
        if (last := data.rfind(b"\n")) >= 0:
            return last + 1
        return data.rfind(b"\r", 0, max(len(data) - 1, 0)) + 1

    def first(self, data: bytes) -> int:
        """Where the first row of `data` that is not blank ends; 0 if it does not."""
        blank = len(data) - len(data.lstrip(b"\r\n"))
        found = self._row.match(data, blank)
        return found.end() if found else 0

    def whole(self, rest: bytes) -> bool:
        """Whether `rest`, the end of a file without a line end, is a whole row."""
        return self.end(rest + b"\n") == len(rest) + 1


def _row_pattern(g: Grammar) -> bytes:
    """A regular expression for one row with its line end; possessive, so that its time is linear."""
    d = re.escape(g.delimiter.encode())
    e = re.escape(g.escape.encode()) if g.escape else b""
    escaped = b"|" + e + b"." if e else b""
    tail = b"(?:[^" + d + b"\r\n" + e + b"]++" + escaped + b")*+"
    field = tail
    if g.quote:
        q = re.escape(g.quote.encode())
        inside = b"(?:[^" + q + e + b"]++|" + q + q + escaped + b")*+"
        field = b"(?:" + q + inside + q + tail + b"|(?!" + q + b")" + tail + b")"
    return b"(?:" + field + d + b")*+" + field + b"(?:\r?\n|\r(?=.))"


def blocks(chunks: Iterable[bytes], cutter: Cutter, path: str, size: int = 0) -> Iterator[Block]:
    """Blocks of about `size` bytes (default BLOCK), the first one starting with the file.

    Raises SourceError for a quote that is never closed, naming file and line.
    """
    size = size or BLOCK
    line, offset, held, parts = 1, 0, 0, []
    for chunk in chunks:
        parts.append(chunk)
        held += len(chunk)
        if held < size:
            continue
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if end := cutter.end(data):
            block = Block(data[:end], line, offset)
            yield block
            line, offset, data = line + lines_in(block.data), offset + end, data[end:]
        elif held > MAX_ROW:
            raise unclosed(path, line + _blank_lines(data), f"is longer than {MAX_ROW >> 20} MiB")
        held, parts = len(data), [data]
    yield from _rest(b"".join(parts), cutter, path, line, offset)


def _rest(data: bytes, cutter: Cutter, path: str, line: int, offset: int) -> Iterator[Block]:
    end = cutter.end(data)
    rest = data[end:]
    if rest and not cutter.whole(rest):
        raise unclosed(path, line + lines_in(data[:end]), "has a quote that is never closed")
    if data:
        yield Block(data, line, offset)


def _blank_lines(data: bytes) -> int:
    return lines_in(data[: len(data) - len(data.lstrip(b"\r\n"))])


def unclosed(path: str, line: int, what: str) -> SourceError:
    return SourceError(
        f"{path}, line {line:,}: the row that begins here {what}",
        hint="set `quote: none` if quotes are plain characters in this file, or `quote:`/`escape:` to what it uses",
        file=path,
        line=line,
    )
