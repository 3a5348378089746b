"""Reading what is new by a column that rises: nothing lost, nothing kept twice, whoever commits late or in ties.

`after` is the place up to which rows were kept: cursor, then key, as the database orders them. `settled` is the cursor below
which nothing can come any more: the highest one that a run has seen, less the lag. Below it, going on behind `after` is exact.
From it on, rows may come late: each run reads that stretch again, and knows what was kept of it by its hash (see `seen`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from anchovies.plugins.sql.increment import Increment
from anchovies.plugins.sql.reading import MARK, Pick, Reader, Relation, SourceColumn
from anchovies.plugins.sql.seen import Seen, hash_of
from anchovies.sdk import ColType, Context

if TYPE_CHECKING:
    import pyarrow as pa

INT = ColType("int")


class NewRows:
    """One run over one table."""

    def __init__(self, reader: Reader, relation: Relation, increment: Increment, where: str, ctx: Context) -> None:
        self._reader, self._relation, self._where, self._ctx = reader, relation, where, ctx
        self._column, self._lag = increment.column, increment.lag
        self._key: list[SourceColumn] = [c for c in relation.columns if c.name in relation.key]
        self._key.sort(key=lambda c: relation.key.index(c.name))
        self._cursor = reader.ranked(self._column.quoted, self._column)
        self._checkpoint = ctx.checkpoint(increment.key)
        self._state: dict[str, Any] = dict(self._checkpoint.get() or {})
        self._ledger = ctx.ledger(increment.tbl)
        self._late = self._kept = 0

    def read(self, picks: Sequence[Pick]) -> Iterator[pa.RecordBatch]:
        """The rows that were not kept yet; the checkpoint moves with them."""
        top = self._top()
        if not self._state:
            self._tell_nulls()
        if top is None:
            return
        was, self._to = self._state.get("settled"), self._settled(top)
        again = was is not None and not self._is_below(self._state["after"][0], was)
        self._seen = Seen(self._ledger, self._state.get("chunks", ()))
        tied: list[str | None] | None = None  # without a key: the cursor whose rows were kept in part
        for batch in self._reader.stream([*picks, *self._places(again)], self._rest(again)):
            for part, after, is_late in self._parts(batch, len(picks)):
                if tied is not None and part.column(len(picks) + 2)[0].as_py() != tied[0]:
                    self._mark(tied, False)
                kept = self._new(part, len(picks))
                if kept.num_rows:
                    yield kept
                tied = after if is_late is None else None
                if is_late is not None:
                    self._mark(after, is_late)
        if tied is not None:
            self._mark(tied, False)
        self._finish()

    # ---- where it stands

    def _top(self) -> str | None:
        found = self._reader.first(
            [Pick("top", self._reader.mark(self._column.quoted, self._column), MARK)],
            f"FROM {self._relation.sql} WHERE {self._all(f'{self._column.quoted} IS NOT NULL')}"
            f" ORDER BY {self._cursor} DESC LIMIT 1",
        )
        return None if found is None else str(found["top"])

    def _settled(self, top: str) -> str:
        """The highest cursor, or now, less the lag; never lower than before, because of what lies below nothing is known."""
        literal = self._reader.literal
        new = self._reader.settled(literal(top, self._column), self._column, self._lag)
        found = self._reader.first([Pick("settled", self._reader.mark(new, self._column), MARK)], "")
        text = str((found or {})["settled"])
        was = self._state.get("settled")
        return was if was is not None and self._is_below(text, was) else text

    def _is_below(self, one: str, other: str) -> bool:
        a, b = (self._ordered_literal(m) for m in (one, other))
        found = self._reader.first([Pick("below", f"CASE WHEN {a} < {b} THEN 1 ELSE 0 END", INT)], "")
        return bool((found or {})["below"])

    def _ordered_literal(self, mark: str) -> str:
        return self._reader.ranked(self._reader.literal(mark, self._column), self._column)

    def _tell_nulls(self) -> None:
        """A row without a cursor is not read until it has one. The first run, which reads all the others, counts them."""
        if not self._column.nullable and not self._relation.view:
            return
        rest = f"FROM {self._relation.sql} WHERE {self._all(f'{self._column.quoted} IS NULL')}"
        found = (self._reader.first([Pick("n", "count(*)", INT)], rest) or {})["n"]
        if found:
            self._ctx.task.with_(without_cursor=found)
            self._ctx.progress(
                warning=f"{found:,} of the rows of {self._relation.sql} have no {self._column.name}: they are not read"
            )

    # ---- the query

    def _places(self, again: bool) -> list[Pick]:
        """What is picked beside the rows: whether one may come again, whether it is late, its cursor, and what it is known by."""
        reader, cursor = self._reader, self._cursor
        live = f"{cursor} >= {reader.literal(self._to, self._column)}"
        late = f"{cursor} <= {reader.literal(self._state['after'][0], self._column)}" if again else "1 = 0"
        marks = [reader.mark(c.quoted, c) for c in self._key or self._relation.columns]
        if not self._key and not again:  # they are needed for rows that may come again only
            marks = [f"CASE WHEN {live} THEN {m} END" for m in marks]
        flags = [Pick(name, f"CASE WHEN {sql} THEN 1 ELSE 0 END", INT) for name, sql in (("live", live), ("late", late))]
        return [
            *flags,
            Pick("cursor", reader.mark(self._column.quoted, self._column), MARK),
            *(Pick(f"mark {i}", m, MARK) for i, m in enumerate(marks)),
        ]

    def _rest(self, again: bool) -> str:
        cursor = self._cursor
        names = [cursor, *(c.quoted for c in self._key)]
        after: list[str] | None = self._state.get("after")
        if after is None:
            wanted = f"{cursor} IS NOT NULL"
        elif again:
            wanted = f"{cursor} >= {self._reader.literal(self._state['settled'], self._column)}"
        elif len(after) == len(names):
            values = [self._reader.literal(m, c) for m, c in zip(after, [self._column, *self._key], strict=True)]
            wanted = f"{cursor} >= {values[0]} AND ({', '.join(names)}) > ({', '.join(values)})"
        else:  # the table has got another key
            wanted = f"{cursor} {'>' if len(after) == 1 else '>='} {self._reader.literal(after[0], self._column)}"
        return f"FROM {self._relation.sql} WHERE {self._all(wanted)} ORDER BY {', '.join(names)}"

    def _all(self, condition: str) -> str:
        return f"{condition} AND {self._where}" if self._where else condition

    # ---- the rows

    def _parts(self, batch: pa.RecordBatch, width: int) -> Iterator[tuple[pa.RecordBatch, list[str | None], bool | None]]:
        """The batch, where its last row lies, and whether that is no further than an earlier run came. Without a key there is no
        place between rows of one cursor: those at its end are a part of their own, with None, unless they are known by hashes."""
        if not batch.num_rows:
            return
        last = batch.num_rows - 1
        live, late, cursors = (batch.column(width + i) for i in range(3))
        after = [batch.column(i)[last].as_py() for i in range(width + 2, width + 3 + len(self._key))]
        if self._key or live[last].as_py() or late[last].as_py():
            yield batch, after, bool(late[last].as_py())
            return
        start = last
        while start > 0 and cursors[start - 1].as_py() == after[0]:
            start -= 1
        if start:
            yield batch.slice(0, start), [cursors[start - 1].as_py()], bool(late[start - 1].as_py())
        yield batch.slice(start), after, None

    def _new(self, batch: pa.RecordBatch, width: int) -> pa.RecordBatch:
        """The rows of a batch that were not kept before, without what was picked beside them."""
        rows = batch.select(range(width))
        live, late = (batch.column(width + i).to_pylist() for i in range(2))
        if not any(live) and not any(late):
            self._kept += batch.num_rows
            return rows
        marks = [batch.column(i).to_pylist() for i in range(width + 2, batch.num_columns)]
        wanted = [self._is_new(*row) for row in zip(live, late, map(hash_of, zip(*marks, strict=True)), strict=True)]
        self._kept += sum(wanted)
        return rows if all(wanted) else _filtered(rows, wanted)

    def _is_new(self, live: int, late: int, hash: bytes) -> bool:
        if late and self._seen.take(hash):
            if live:
                self._seen.stays(hash)
            return False
        if live or late:
            self._seen.add(hash, stays=bool(live))
        self._late += late
        return True

    # ---- the checkpoint

    def _mark(self, after: list[str | None], is_late: bool) -> None:
        """All rows up to `after` were read. In the stretch that earlier runs have read, what is settled stays as it was: a run
        that goes on from here has to read the rest of it."""
        if not self._kept:
            return  # nothing new so far: nothing to remember
        old = self._state if is_late else {"after": after, "settled": self._to}
        self._state = {"after": old["after"], "settled": old["settled"], "chunks": self._seen.flush()}
        self._checkpoint.set(self._state)

    def _finish(self) -> None:
        if self._kept:
            self._state = {**self._state, "settled": self._to, "chunks": self._seen.finish()}
            self._checkpoint.set(self._state)
            self._ctx.task.with_(late=self._late)


def _filtered(rows: pa.RecordBatch, wanted: list[bool]) -> pa.RecordBatch:
    import pyarrow as pa

    return rows.filter(pa.array(wanted))
