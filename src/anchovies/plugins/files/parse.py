"""From blocks of text to record batches, and from whatever is wrong in them to a message that names the line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anchovies.plugins.files.bad import Bad, Rules
from anchovies.plugins.files.blocks import Block, Grammar, lines_in
from anchovies.plugins.files.decode import wrong_encoding
from anchovies.plugins.files.layout import Layout
from anchovies.sdk import ColType, RowError, SourceError, rows

if TYPE_CHECKING:
    import pyarrow as pa

_STR = ColType("str")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a block came to."""

    batch: pa.RecordBatch | None
    bad: Sequence[Bad] = ()


_WAY_OUT = "set `delimiter:`, or `quote: none` if quotes are plain characters in this file"


class Parser:
    """Parses the blocks of one file. Safe to use from several threads."""

    def __init__(self, path: str, grammar: Grammar, names: Sequence[str], layout: Layout, rules: Rules | None = None) -> None:
        import pyarrow as pa
        import pyarrow.csv as pc

        self._path, self._grammar, self._names = path, grammar, list(names)
        self._rules = rules or Rules()
        new = self._rules.columns
        self._new = [] if new is None else [n for n in names if n not in new]
        self._convert = pc.ConvertOptions(
            column_types={n: pa.string() for n in names},
            null_values=list(layout.nulls),
            strings_can_be_null=bool(layout.nulls),
            quoted_strings_can_be_null=False,
        )

    def _text(self, block: Block, skipped: list[str]) -> pa.RecordBatch | None:
        """Every field as text, as it is; None if the block has no row. Lines with another number of fields go to `skipped` where
        that is the rule. Raises SourceError naming file and line."""
        import pyarrow as pa
        import pyarrow.csv as pc

        if (nul := block.data.find(b"\0")) >= 0:
            raise self._nul(block, nul)
        if not block.data.strip(b"\r\n"):
            return None
        read = pc.ReadOptions(column_names=self._names, use_threads=False, block_size=len(block.data) + 1)
        try:
            table = pc.read_csv(pa.BufferReader(block.data), read, self._parse_options(block, skipped), self._convert)
        except pa.ArrowInvalid as e:
            raise self._explain(block, str(e)) from None
        return table.combine_chunks().to_batches()[0] if table.num_rows else None

    def _parse_options(self, block: Block, skipped: list[str]) -> object:
        import pyarrow.csv as pc

        def skip(row: Any) -> str:
            skipped.append(row.text)
            return "skip"

        g = self._grammar
        quoted = bool(g.quote and g.quote.encode() in block.data)
        return pc.ParseOptions(
            delimiter=g.delimiter,
            quote_char=g.quote if quoted and g.quote else False,
            escape_char=g.escape or False,
            newlines_in_values=quoted or bool(g.escape),
            invalid_row_handler=skip if self._rules.lines else None,
        )

    def typed(self, block: Block, types: Mapping[str, ColType]) -> Parsed:
        """The block with columns of `types` converted. Raises SourceError naming file, line, column and value."""
        skipped: list[str] = []
        text = self._text(block, skipped)
        bad = self._skipped(block, skipped) if skipped else []
        if text is None:
            return Parsed(None, bad)
        try:
            return Parsed(self._converted(text, types), bad)
        except RowError as e:
            if not self._rules.values:
                raise self._misfit(block, e) from None
            import pyarrow as pa

            batch, errors = rows.sift(len(text), lambda some: self._converted(text.take(pa.array(some, pa.int64())), types))
        lines = self._lines(block)
        for i, error in errors.items():
            at = lines[i] if i < len(lines) else block.line
            bad.append(Bad(text.slice(i, 1).to_pylist()[0], rows.reason_of(error), at, str(error.where.get("column"))))
        return Parsed(batch, sorted(bad, key=lambda b: b.line))

    def _converted(self, text: pa.RecordBatch, types: Mapping[str, ColType]) -> pa.RecordBatch:
        """Raises RowError, also for a value in a column that may have none."""
        import pyarrow.compute as pc

        for name in self._new:
            empty = pc.fill_null(pc.equal(text.column(name), ""), True)
            if (row := pc.index(empty, False).as_py()) >= 0:
                raise RowError(f"column {name!r} is new (schema: reject)", column=name, row=row)
        return convert(text.drop_columns(self._new) if self._new else text, types)

    def _misfit(self, block: Block, e: RowError) -> SourceError:
        """A value that does not fit its column, with the line it is on."""
        line = [*self._lines(block), block.line][int(str(e.where.get("row", 0)))]
        hint = "mend the value, give the column another type (`str` keeps any text), or keep such rows apart: on_bad_row: reject"
        return SourceError(f"{self._path}, line {line:,}: {rows.reason_of(e)}", hint=hint, file=self._path, line=line)

    def _lines(self, block: Block) -> list[int]:
        """On which line each row begins that has as many fields as there are columns."""
        want = len(self._names)
        return [block.line + line for line, fields in self._grammar.rows(block.data) if len(fields) == want]

    def _skipped(self, block: Block, texts: list[str]) -> list[Bad]:
        want = len(self._names)
        found = [(block.line + at, len(fields)) for at, fields in self._grammar.rows(block.data) if len(fields) != want]
        if len(found) != len(texts):
            return [Bad(t, f"not {want} fields, as the first row has", block.line) for t in texts]
        return [Bad(t, _count(n, want), at) for t, (at, n) in zip(texts, found, strict=True)]

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
                text = f"{self._path}, line {at:,}: {_count(len(fields), want)}"
                return SourceError(
                    text, hint=f"{_WAY_OUT}; or keep such lines apart: on_bad_row: reject", file=self._path, line=at
                )
        return SourceError(f"{self._path}, at or after line {block.line:,}: {_short(message)}", hint=_WAY_OUT, file=self._path)


def _count(fields: int, want: int) -> str:
    return f"{fields} fields where the first row has {want}"


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
