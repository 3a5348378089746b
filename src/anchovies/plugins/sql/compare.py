"""`compare: true`: a table without a column that rises is read whole, and what differs from the last run is kept.

Of each row the key and a hash of all of it are remembered, in buckets: entries of the table's ledger, of some hundred rows each.
Only those that changed are written again.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from anchovies.plugins.sql.reading import MARK, Pick, Reader, Relation, SourceColumn
from anchovies.plugins.sql.seen import SIZE, hash_of
from anchovies.sdk import ColType, ConfigError, Context, Tbl

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 1_000_000  # rows of a table: what is remembered of them has to fit into memory
FULL = 800  # rows of a bucket on the average, before there are more buckets
START = 200
AT_ONCE = 200  # deleted keys of a query
Key = tuple[str | None, ...]


def comparing(tbl: Tbl, relation: Relation) -> list[SourceColumn] | None:
    """The key of a table that is compared; None for one that is not. Raises ConfigError naming the property."""
    wanted = tbl.properties.get("compare")
    if wanted in (None, False):
        return None
    where = f"tbls.{tbl.name}.compare"
    if wanted is not True:
        raise ConfigError(f"{where}: expected true or false, got {wanted!r}", tbl=tbl.name)
    if "incremental" in tbl.properties or tbl.by_task:
        other = "incremental" if "incremental" in tbl.properties else "snapshot: true" if tbl.snapshot else "write: replace"
        raise ConfigError(f"{where}: does not go with `{other}`", hint="leave out one of the two", tbl=tbl.name)
    key = [relation.column(name) for name in relation.key or tbl.unique_by]
    found = [c for c in key if c is not None]
    if not found or len(found) < len(key):
        raise ConfigError(f"{where}: {relation.sql} has no key to tell its rows by", hint="say `unique_by: …`", tbl=tbl.name)
    return found


class Compared:
    """One run over one table."""

    def __init__(
        self, reader: Reader, relation: Relation, tbl: Tbl, key: Sequence[SourceColumn], where: str, ctx: Context
    ) -> None:
        self._reader, self._relation, self._tbl, self._key, self._ctx = reader, relation, tbl, key, ctx
        self._from = f"FROM {relation.sql}{where and f' WHERE {where}'}"
        self._ledger, self._checkpoint = ctx.ledger(tbl.name), ctx.checkpoint(f"{tbl.name}.compare")
        self._had = int((self._checkpoint.get() or {}).get("buckets", 0))

    def read(self, picks: Sequence[Pick]) -> Iterator[pa.RecordBatch]:
        """New and changed rows, then marks of those that are gone. What is remembered moves at the end, with all of them."""
        buckets = self._buckets()
        was = self._remembered()
        now: dict[Key, bytes] = {}
        columns = [c for c in self._relation.columns if c.name not in self._tbl.exclude]
        marked = [*self._key, *columns]
        marks = [Pick(f"mark {i}", self._reader.mark(c.quoted, c), MARK) for i, c in enumerate(marked)]
        for batch in self._reader.stream([*picks, *marks], self._from):
            new = self._new(batch, len(picks), was, now)
            if new.num_rows:
                yield new
        gone = [key for key in was if key not in now]
        if self._tbl.deleted_by and gone:
            yield from self._deletes(picks, gone)
        self._remember(buckets, was, now)
        self._ctx.task.with_(gone=len(gone), compared=len(now))

    def _buckets(self) -> int:
        """How many there are to be: as many as there were, as long as they are not too full."""
        rows = int(str((self._reader.first([Pick("n", "count(*)", ColType("int"))], self._from) or {})["n"]))
        if rows > MOST:
            raise ConfigError(
                f"tbls.{self._tbl.name}.compare: {self._relation.sql} has {rows:,} rows, and up to {MOST:,} can be compared",
                hint="read it by a column that rises (`incremental`), or whole (`snapshot: true`)",
                tbl=self._tbl.name,
            )
        return self._had if self._had and rows <= self._had * FULL else rows // START + 1

    def _new(self, batch: pa.RecordBatch, width: int, was: dict[Key, bytes], now: dict[Key, bytes]) -> pa.RecordBatch:
        import pyarrow as pa

        end = width + len(self._key)
        keys = zip(*(batch.column(i).to_pylist() for i in range(width, end)), strict=True)
        hashes = map(hash_of, zip(*(batch.column(i).to_pylist() for i in range(end, batch.num_columns)), strict=True))
        wanted = []
        for key, hash in zip(keys, hashes, strict=True):
            if key in now:
                raise ConfigError(
                    f"tbls.{self._tbl.name}.compare: two rows have the key {', '.join(map(str, key))}",
                    hint="take more columns into `unique_by`",
                    tbl=self._tbl.name,
                )
            now[key] = hash
            wanted.append(was.get(key) != hash)
        return batch.select(range(width)).filter(pa.array(wanted, pa.bool_()))

    def _deletes(self, picks: Sequence[Pick], gone: Sequence[Key]) -> Iterator[pa.RecordBatch]:
        """A row for each key that is gone: the key as the database itself reads it again, and the mark."""
        names = {c.name for c in self._key}
        own = [p for p in picks if p.label in names]
        for i in range(0, len(gone), AT_ONCE):
            rows = (", ".join(self._value(m, c) for m, c in zip(k, self._key, strict=True)) for k in gone[i : i + AT_ONCE])
            every = " UNION ALL ".join(f"SELECT {row}" for row in rows)
            for batch in self._reader.stream(own, f"FROM ({every}) gone"):
                yield _with_true(batch, str(self._tbl.deleted_by))

    def _value(self, mark: str | None, column: SourceColumn) -> str:
        return f"{'NULL' if mark is None else self._reader.literal(mark, column)} AS {column.quoted}"

    # ---- what is remembered

    def _remembered(self) -> dict[Key, bytes]:
        found: dict[Key, bytes] = {}
        for number in range(self._had):
            entry = self._ledger.get(_name(number))
            if entry:
                raw = b64decode(entry["rows"])
                found |= {tuple(k): raw[i * SIZE : (i + 1) * SIZE] for i, k in enumerate(json.loads(entry["keys"]))}
        return found

    def _remember(self, buckets: int, was: dict[Key, bytes], now: dict[Key, bytes]) -> None:
        anew = buckets != self._had
        touched = {_bucket(k, buckets) for k in {**was, **now} if anew or was.get(k) != now.get(k)}
        filled: dict[int, list[Key]] = {number: [] for number in touched}
        for key in now:
            if (number := _bucket(key, buckets)) in touched:
                filled[number].append(key)
        for number, keys in filled.items():
            if keys:
                rows = b64encode(b"".join(now[k] for k in keys)).decode()
                self._ledger.put(_name(number), {"keys": json.dumps(keys, ensure_ascii=False), "rows": rows})
            else:
                self._ledger.delete(_name(number))
        if anew:
            for number in range(self._had):
                if number not in filled:
                    self._ledger.delete(_name(number))
            self._checkpoint.set({"buckets": buckets})


def _bucket(key: Key, buckets: int) -> int:
    return int.from_bytes(hash_of(key)[:8], "big") % buckets


def _name(number: int) -> str:
    return f"bucket {number}"


def _with_true(batch: pa.RecordBatch, name: str) -> pa.RecordBatch:
    import pyarrow as pa

    return batch.append_column(name, pa.array([True] * batch.num_rows, pa.bool_()))
