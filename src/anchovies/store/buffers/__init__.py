"""How rows lie in a data file. A buffer is found by name, import path or file extension; pyarrow is loaded only then."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from anchovies.core.errors import ConfigError, FatalError

if TYPE_CHECKING:
    import pyarrow as pa


class BufferWriter(Protocol):
    """Makes one data file in memory. Not for use by two threads at once."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows; the batch has exactly the schema the writer was made with."""
        ...

    @property
    def rows(self) -> int: ...

    @property
    def size_estimate(self) -> int:
        """About how many bytes `finish()` would return now."""
        ...

    def finish(self) -> bytes:
        """The whole file. The writer cannot be used afterwards."""
        ...


@runtime_checkable
class Buffer(Protocol):
    """A file format. Every type of the spec comes back from `read` as `writer` got it: values, order, types, field metadata."""

    name: str
    ext: str

    def writer(self, schema: pa.Schema) -> BufferWriter:
        """A new file of rows of `schema` (made by `core.arrow.schema_of`)."""
        ...

    def read(self, data: bytes) -> Iterator[pa.RecordBatch]:
        """The rows of a file, in order, in batches of bounded size. Raises ValueError when the bytes are no such file."""
        ...


_OURS = {  # name: (extension, class); strings, so that a run with nothing to do loads neither
    "parquet": ("parquet", "anchovies.store.buffers.parquet:ParquetBuffer"),
    "jsonl": ("jsonl.gz", "anchovies.store.buffers.jsonl:JsonLinesBuffer"),
}


def buffer_named(name: str = "parquet") -> Buffer:
    """The buffer of `parquet`, `jsonl`, or an import path `package.module:Class`. Raises ConfigError."""
    path = _OURS[name.lower()][1] if name.lower() in _OURS else name
    module, _, cls = path.partition(":")
    if not module or not cls:
        raise ConfigError(f"unknown data buffer {name!r}", hint="take parquet, jsonl, or an import path package.module:Class")
    try:
        made = getattr(import_module(module), cls)()
    except (ImportError, AttributeError, TypeError) as e:
        raise ConfigError(f"the data buffer {name!r} cannot be loaded: {e}", hint="check --data-buffer-cls") from e
    if not isinstance(made, Buffer):
        raise ConfigError(f"{name!r} is not a data buffer", hint="a buffer has name, ext, writer(schema) and read(data)")
    return made


def buffer_for_ext(ext: str) -> Buffer:
    """The buffer that reads files of this extension (`parquet`, `jsonl.gz`). Raises FatalError for others."""
    for name, (known, _) in _OURS.items():
        if ext == known:
            return buffer_named(name)
    raise FatalError(f"no data buffer reads .{ext} files", hint="they were written by a buffer that is not configured here")
