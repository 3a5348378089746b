"""From blocks of text to record batches, and from whatever is wrong in them to a message that names the line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from anchovies.plugins.files.blocks import Block, Grammar, lines_in
from anchovies.plugins.files.decode import wrong_encoding
from anchovies.plugins.files.layout import Layout
from anchovies.sdk import ColType, RowError, SourceError, rows

if TYPE_CHECKING:
    import pyarrow as pa

_STR = ColType("str")
_WAY_OUT = "set `delimiter:`, or `quote: none` if quotes are plain characters in this file"


class Parser:
    """Parses the blocks of one file. Safe to use from several threads."""

    def __init__(self, path: str, grammar: Grammar, names: Sequence[str], layout: Layout) -> None:
        import pyarrow as pa
        import pyarrow.csv as pc

        self._path, self._grammar, self._names = path, grammar, list(names)
        self._nulls = layout.nulls
        self._convert = pc.ConvertOptions(
            column_types={n: pa.string() for n in names},
            null_values=list(layout.nulls),
            strings_can_be_null=bool(layout.nulls),
            quoted_strings_can_be_null=False,
        )

    def text(self, block: Block) -> pa.RecordBatch | None:
        """Every field as text, as it is; None if the block has no row. Raises SourceError naming file and line."""
        import pyarrow as pa
        import pyarrow.csv as pc

        if (nul := block.data.find(b"\0")) >= 0:
            raise self._nul(block, nul)
        if not block.data.strip(b"\r\n"):
            return None
        read = pc.ReadOptions(column_names=self._names, use_threads=False, block_size=len(block.data) + 1)
        try:
            table = pc.read_csv(pa.BufferReader(block.data), read, self._parse_options(block), self._convert)
        except pa.ArrowInvalid as e:
            raise self._explain(block, str(e)) from None
        return table.combine_chunks().to_batches()[0] if table.num_rows else None

    def _parse_options(self, block: Block) -> object:
        import pyarrow.csv as pc

        g = self._grammar
        quoted = bool(g.quote and g.quote.encode() in block.data)
        return pc.ParseOptions(
            delimiter=g.delimiter,
            quote_char=g.quote if quoted and g.quote else False,
            escape_char=g.escape or False,
            newlines_in_values=quoted or bool(g.escape),
        )

    def typed(self, block: Block, types: Mapping[str, ColType]) -> pa.RecordBatch | None:
        """`text`, with columns of `types` converted. Raises SourceError naming file, line, column and value."""
        text = self.text(block)
        if text is None:
            return None
        try:
            return convert(text, types)
        except RowError as e:
            raise self.misfit(block, e) from None

    def misfit(self, block: Block, e: RowError) -> SourceError:
        """A value that does not fit its column, with the line it is on."""
        row = int(str(e.where.get("row", 0)))
        line = self._line_of_row(block, row)
        message = e.message.replace(f", row {row + 1}:", ":", 1)
        hint = "mend the value, or give the column another type (`str` keeps any text)"
        return SourceError(f"{self._path}, line {line:,}: {message}", hint=hint, file=self._path, line=line)

    def _line_of_row(self, block: Block, row: int) -> int:
        for i, (line, _) in enumerate(self._grammar.rows(block.data)):
            if i == row:
                return block.line + line
        return block.line

    def _nul(self, block: Block, at: int) -> SourceError:
        line = block.line + lines_in(block.data[:at])
        return SourceError(
            f"{self._path}, line {line:,}: a NUL byte (byte {block.offset + at:,}), which text has not",
            hint="set `encoding: utf-16` if it is that",
            file=self._path,
            line=line,
        )

    def _explain(self, block: Block, message: str) -> SourceError:
        try:
            block.data.decode()
        except UnicodeDecodeError as e:
            return wrong_encoding(self._path, "utf-8", block.offset + e.start, block.line + lines_in(block.data[: e.start]))
        want = len(self._names)
        for line, fields in self._grammar.rows(block.data):
            if len(fields) != want:
                at = block.line + line
                text = f"{self._path}, line {at:,}: {len(fields)} fields where the first row has {want}"
                return SourceError(text, hint=_WAY_OUT, file=self._path, line=at)
        return SourceError(f"{self._path}, at or after line {block.line:,}: {_short(message)}", hint=_WAY_OUT, file=self._path)


def _short(message: str) -> str:
    """pyarrow's words without the row it quotes: rows never appear in messages."""
    return message.partition(": Row")[0].partition("\n")[0][:200]


def convert(text: pa.RecordBatch, types: Mapping[str, ColType]) -> pa.RecordBatch:
    """Text columns → their types; the empty text is null in every column that is not text itself. Raises RowError."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = {n: t for n, t in types.items() if t.kind != "str" and n in text.schema.names}
    if not wanted:
        return text
    columns = [
        pc.if_else(pc.equal(c, ""), pa.scalar(None, pa.string()), c) if n in wanted else c
        for n, c in zip(text.schema.names, text.columns, strict=True)
    ]
    blanked = pa.RecordBatch.from_arrays(columns, names=text.schema.names)
    return rows.parse_text(blanked, {n: wanted.get(n, _STR) for n in text.schema.names})
