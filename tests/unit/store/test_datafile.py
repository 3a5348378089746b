"""Data files are what the log says they are, or are refused by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pytest

from anchovies.core.arrow import types_of
from anchovies.core.errors import CorruptDatastore
from anchovies.core.schema import rows_to_batch
from anchovies.store.buffers import buffer_named
from anchovies.store.datafile import read_batches, read_file, types_of_file, write_file
from anchovies.store.memory import MemoryStore
from anchovies.store.record import DataFile

KEY = "u/a/data/t/0-00000001/00.{}"


@dataclass
class Kept:
    store: MemoryStore
    file: DataFile
    data: bytes
    batch: pa.RecordBatch


@pytest.fixture(params=["parquet", "jsonl"])
def kept(request: pytest.FixtureRequest) -> Kept:
    buffer = buffer_named(request.param)
    batch = rows_to_batch([{"a": 1, "b": {"x": 1}}, {"a": 2}])
    writer = buffer.writer(batch.schema)
    writer.write(batch)
    data = writer.finish()
    store = MemoryStore()
    file = write_file(store, KEY.format(buffer.ext), "t", data, rows=2, types=types_of(batch), cuts=[0, 1])
    return Kept(store, file, data, batch)


def test_what_was_written_is_read(kept: Kept) -> None:
    assert kept.file == DataFile(
        table="t",
        path=kept.file.path,
        size=len(kept.data),
        rows=2,
        sha256=hashlib.sha256(kept.data).hexdigest(),
        schema=[("a", "int"), ("b", "json")],
        cuts=[0, 1],
    )
    assert read_file(kept.store, kept.file) == kept.data
    (back,) = read_batches(kept.store, kept.file)
    assert back.equals(kept.batch, check_metadata=True)
    assert types_of_file(kept.file) == types_of(kept.batch)


def test_every_damage_is_seen_and_named(kept: Kept) -> None:
    middle = len(kept.data) // 2
    changed = kept.data[:middle] + bytes([kept.data[middle] ^ 1]) + kept.data[middle + 1 :]
    for damaged in (kept.data[:-1], kept.data + b"\0", b"", changed):
        kept.store.put(kept.file.path, damaged)
        with pytest.raises(CorruptDatastore, match="is damaged") as e:
            next(read_batches(kept.store, kept.file))
        assert kept.file.path in e.value.message and e.value.hint


def test_a_file_that_is_gone_is_named(kept: Kept) -> None:
    kept.store.delete(kept.file.path)
    with pytest.raises(CorruptDatastore, match="is gone") as e:
        read_file(kept.store, kept.file)
    assert kept.file.path in e.value.message


def test_the_log_and_the_file_agree_on_rows(kept: Kept) -> None:
    with pytest.raises(CorruptDatastore, match="2 rows, the log says 3"):
        list(read_batches(kept.store, msgspec.structs.replace(kept.file, rows=3)))


def test_bytes_that_are_no_file_of_that_format(kept: Kept) -> None:
    file = write_file(kept.store, kept.file.path, "t", b"junk", rows=0, types={}, cuts=[])
    with pytest.raises(CorruptDatastore, match="not a"):
        list(read_batches(kept.store, file))
