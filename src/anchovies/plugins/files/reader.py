"""One text file, from bytes to record batches in the order of its rows."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from anchovies.plugins.files.bad import Bad, Rules
from anchovies.plugins.files.blocks import Block, Cutter, Grammar, blocks, lines_in
from anchovies.plugins.files.decode import utf8, wrong_encoding
from anchovies.plugins.files.layout import Layout
from anchovies.plugins.files.parse import Parser, convert
from anchovies.sdk import ColType, SourceError, Tbl, rows

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
WINDOW = 3  # blocks that are being parsed at once
IN_MEMORY = 48 << 20  # text that is kept in memory while the types of a file are found out; more goes to a temporary file


def read_text(chunks: Iterable[bytes], path: str, tbl: Tbl, layout: Layout) -> Iterator[pa.RecordBatch | Bad]:
    """The rows of one file, and those that cannot be kept where the table lets them be set aside. Columns that `tbl` declares
    have its types; the others are text, or found out with `autodiscover`.

    Holds a few blocks in memory, however large the file is. Raises SourceError naming file and line.
    """
    grammar = Grammar.of(layout, path)
    found = blocks(utf8(chunks, path, layout), Cutter(grammar), path)
    first = next((b for b in found if b.data.strip(b"\r\n")), None)  # blank lines may come before the header
    if first is None:
        return
    names, body = _header(first, path, tbl, layout, grammar)
    parser = Parser(path, grammar, names, layout, Rules.of(tbl))
    rest = _chain(body, found)
    with ThreadPoolExecutor(workers(), thread_name_prefix="parse") as pool:
        if tbl.autodiscover:
            yield from _discovered(rest, parser, tbl, pool)
        else:
            for parsed in _side_by_side(rest, lambda block: parser.typed(block, tbl.types), pool):
                yield from parsed.bad
                if parsed.batch is not None:
                    yield parsed.batch


def _chain(first: Block, rest: Iterator[Block]) -> Iterator[Block]:
    yield first
    yield from rest


def _side_by_side(found: Iterable[Block], parse: Callable[[Block], T], pool: ThreadPoolExecutor) -> Iterator[T]:
    """`parse` of every block, in order, a few of them at work at once."""
    window: deque[Future[T]] = deque()
    try:
        for block in found:
            window.append(pool.submit(parse, block))
            if len(window) >= WINDOW:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        for future in window:
            future.cancel()


def _header(first: Block, path: str, tbl: Tbl, layout: Layout, grammar: Grammar) -> tuple[list[str], Block]:
    """The names of the columns, and the first block without its header."""
    end = Cutter(grammar).first(first.data) or len(first.data)
    head = first.data[:end]
    try:
        head.decode()
    except UnicodeDecodeError as e:
        raise wrong_encoding(path, "utf-8", e.start, first.line + lines_in(head[: e.start])) from None
    line, fields = next(grammar.rows(head), (0, []))
    if not layout.header:
        declared = list(tbl.types)
        if declared and len(declared) != len(fields) and fields:
            raise SourceError(
                f"{path}, line {line + 1}: {len(fields)} fields where `columns` has {len(declared)}",
                hint="set `delimiter:`, or mend `columns:`",
                file=path,
                line=line + 1,
            )
        return declared or [f"c{i + 1}" for i in range(len(fields))], first
    _check_names(fields, path, line + 1)
    return fields, Block(first.data[end:], first.line + lines_in(head), first.offset + end)


def _check_names(fields: list[str], path: str, line: int) -> None:
    hint = "mend the header, or set `header: false` and name the `columns:`"
    for i, name in enumerate(fields):
        if not name.strip() or "\0" in name:
            raise SourceError(f"{path}, line {line}: column {i + 1} has no name", hint=hint, file=path, line=line)
        if name in fields[:i]:
            raise SourceError(f"{path}, line {line}: the header has the name {name!r} twice", hint=hint, file=path, line=line)


def _discovered(found: Iterable[Block], parser: Parser, tbl: Tbl, pool: ThreadPoolExecutor) -> Iterator[pa.RecordBatch | Bad]:
    """Types from all rows of the file: its text is kept (in memory, or in a temporary file) until the last one was seen."""
    with _Spool(on_disk=not tbl.mask) as spool:
        for parsed in _side_by_side(found, lambda block: parser.typed(block, tbl.types), pool):
            yield from parsed.bad
            if parsed.batch is not None:
                spool.add(parsed.batch)
        text = spool.table()
        if text is None:
            return
        types = _infer(text.drop_columns([n for n in text.column_names if n in tbl.types]))
        for batch in text.to_batches():
            yield convert(batch, types)


def _infer(text: pa.Table) -> dict[str, ColType]:
    """Types of text columns, empty texts left out of the question; a column of nothing but empty texts stays text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[str, ColType] = {}
    for name, column in zip(text.column_names, text.columns, strict=True):  # one at a time: each is copied here
        filled = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
        found.update(rows.infer_text(pa.table([filled], names=[name])))
    return {n: t for n, t in found.items() if t.kind != "null"}


class _Spool:
    """Keeps text batches: small amounts in memory, larger ones in an unlinked temporary file that is mapped to be read.

    `on_disk` False: all of them in memory, because what is not masked yet must not get onto a disk."""

    def __init__(self, on_disk: bool) -> None:
        self._most = IN_MEMORY if on_disk else sys.maxsize
        self._batches: list[pa.RecordBatch] = []
        self._size = 0
        self._file: tempfile._TemporaryFileWrapper[bytes] | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *exc: object) -> None:
        self._batches = []
        if self._file:
            self._file.close()

    def add(self, batch: pa.RecordBatch) -> None:
        import pyarrow as pa

        self._size += batch.nbytes
        if self._writer is None and self._size <= self._most:
            self._batches.append(batch)
            return
        if self._writer is None:
            self._file = tempfile.NamedTemporaryFile(prefix="anchovy-", suffix=".arrow")  # noqa: SIM115
            self._writer = pa.ipc.new_stream(self._file, batch.schema)
        for kept in [*self._batches, batch]:
            self._writer.write_batch(kept)
        self._batches = []

    def table(self) -> pa.Table | None:
        import pyarrow as pa

        if self._writer is not None and self._file is not None:
            self._writer.close()
            self._file.flush()
            with pa.memory_map(self._file.name) as mapped:
                return pa.ipc.open_stream(mapped).read_all()
        return pa.Table.from_batches(self._batches) if self._batches else None


def workers() -> int:
    """Threads that parse: the machine's, but no more than the window can feed."""
    return min(WINDOW, os.cpu_count() or 1)
