"""Data files in the datastore: written whole under a unique key, verified byte for byte when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from anchovies.core.errors import CorruptDatastore, NotFound
from anchovies.core.types import ColType, parse_type
from anchovies.store.base import Store
from anchovies.store.buffers import Buffer, buffer_for_ext
from anchovies.store.record import DataFile

if TYPE_CHECKING:
    import pyarrow as pa

_LOST = "restore that file from a backup of the datastore, or read the source again with --full-refresh"


def write_file(
    store: Store, key: str, table: str, data: bytes, *, rows: int, types: Mapping[str, ColType], cuts: Sequence[int]
) -> DataFile:
    """Put a finished file, durable when this returns; what a log record says of it. `cuts`: row offsets where a unit begins."""
    store.put(key, data)
    schema = [(name, str(t)) for name, t in types.items()]
    return DataFile(table, key, len(data), rows, hashlib.sha256(data).hexdigest(), schema, list(cuts))


def types_of_file(file: DataFile) -> dict[str, ColType]:
    """The columns of a file, in order."""
    return {name: parse_type(text) for name, text in file.schema}


def verify(file: DataFile, data: bytes) -> bytes:
    """`data`, if it is what the log says. Raises CorruptDatastore naming the path."""
    if len(data) != file.size:
        raise _corrupt(file, f"it has {len(data)} bytes, the log says {file.size}")
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise _corrupt(file, "its checksum is not the one in the log")
    return data


def _corrupt(file: DataFile, what: str) -> CorruptDatastore:
    return CorruptDatastore(f"data file {file.path} is damaged: {what}", hint=_LOST, tbl=file.table, path=file.path)


def read_file(store: Store, file: DataFile) -> bytes:
    """The verified bytes of a data file. Raises CorruptDatastore naming the path: gone, cut short, or changed."""
    try:
        data = store.get(file.path)
    except NotFound:
        raise CorruptDatastore(f"data file {file.path} is gone", hint=_LOST, tbl=file.table, path=file.path) from None
    return verify(file, data)


def read_batches(store: Store, file: DataFile, buffer: Buffer | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a data file, all of its bytes verified before the first. `buffer`: by the file's extension if not given."""
    data = read_file(store, file)
    name = file.path.rpartition("/")[2]
    reader = buffer or buffer_for_ext(name.partition(".")[2])
    rows = 0
    try:
        for batch in reader.read(data):
            rows += batch.num_rows
            yield batch
    except ValueError as e:
        raise _corrupt(file, str(e)) from e
    if rows != file.rows:
        raise _corrupt(file, f"it has {rows} rows, the log says {file.rows}")
