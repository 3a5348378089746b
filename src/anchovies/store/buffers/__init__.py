"""How rows lie in a data file. A buffer is found by name, import path or file extension; pyarrow is loaded only then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from anchovies.core.errors import ConfigError, FatalError
from anchovies.core.registry import resolve_class

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


_expected: dict[object, None] = {}


def expect_buffer(name: str | type) -> None:
    """From now on this process also reads files of that buffer. It is looked up when there is one that no other reads."""
    _expected.setdefault(name)


def buffer_named(name: str | type = "parquet") -> Buffer:
    """The buffer of `parquet`, `jsonl`, or a class: itself, or as `myplugin.Cls`, `package.module:Cls`, `./file.py:Cls` name it.

    Raises ConfigError.
    """
    known = {n: path for n, (_, path) in _OURS.items()}
    text = name.lower() if isinstance(name, str) and name.lower() in known else name
    found = resolve_class(text, "data buffer", known)
    shown = name if isinstance(name, str) else name.__qualname__
    try:
        made = found()
    except Exception as e:
        raise ConfigError(f"--data-buffer-cls {shown} could not be made: {type(e).__name__}: {e}") from e
    if missing := [m for m in ("name", "ext", "writer", "read") if not hasattr(made, m)]:
        hint = "a data buffer has name, ext, writer(schema) and read(data)"
        raise ConfigError(f"--data-buffer-cls {shown} is no data buffer: it has no {missing[0]}", hint=hint)
    return cast(Buffer, made)


def buffer_for_ext(ext: str) -> Buffer:
    """The buffer that reads files of this extension (`parquet`, `jsonl.gz`). Raises FatalError for others."""
    for name, (known, _) in _OURS.items():
        if ext == known:
            return buffer_named(name)
    for other in _expected:
        if (found := buffer_named(cast(str | type, other))).ext == ext:
            return found
    raise FatalError(
        f"no data buffer reads .{ext} files", hint="they were written by another buffer: name its class with --data-buffer-cls"
    )
