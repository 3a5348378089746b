"""Data files as Parquet: zstd, row groups of bounded size, our field metadata inside."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

GROUP_ROWS = 128 * 1024
GROUP_BYTES = 16 << 20
_LIKELY = 0.25  # bytes in the file for each byte in memory, until there is a row group to measure


class ParquetBuffer:
    """The default: any tool reads it."""

    name = "parquet"
    ext = "parquet"

    def writer(self, schema: pa.Schema) -> ParquetFileWriter:
        return ParquetFileWriter(schema)

    def read(self, data: bytes) -> Iterator[pa.RecordBatch]:
        try:
            file = pq.ParquetFile(pa.BufferReader(data))
            schema = file.schema_arrow
            for batch in file.iter_batches(batch_size=64 * 1024):
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        except (pa.ArrowException, OSError) as e:
            raise ValueError(f"not a Parquet file: {e}") from e


class ParquetFileWriter:
    """Batches are gathered to whole row groups, since small ones cost size and speed."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._out = pa.BufferOutputStream()
        self._file = pq.ParquetWriter(self._out, schema, compression="zstd", compression_level=1)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._encoded = 0
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        for at in range(0, batch.num_rows, GROUP_ROWS):
            self._add(batch.slice(at, GROUP_ROWS))

    def _add(self, batch: pa.RecordBatch) -> None:
        if self._waiting and self._waiting_rows + batch.num_rows > GROUP_ROWS:
            self._encode()
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        self.rows += batch.num_rows
        if self._waiting_bytes >= GROUP_BYTES:
            self._encode()

    def _encode(self) -> None:
        if self._waiting:
            self._file.write_table(pa.Table.from_batches(self._waiting, self._schema), row_group_size=GROUP_ROWS)
        self._encoded += self._waiting_bytes
        self._waiting.clear()
        self._waiting_rows = self._waiting_bytes = 0

    @property
    def size_estimate(self) -> int:
        written = int(self._out.tell())
        ratio = written / self._encoded if self._encoded else _LIKELY
        return written + int(self._waiting_bytes * min(ratio, 1))

    def finish(self) -> bytes:
        self._encode()
        self._file.close()
        return bytes(self._out.getvalue().to_pybytes())
