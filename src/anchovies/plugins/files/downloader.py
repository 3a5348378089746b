"""Downloaders of text files: what is to be read, in which order, and what has become of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from anchovies.plugins.files.bad import Bad
from anchovies.plugins.files.collect import Collector, Read, state_of
from anchovies.plugins.files.folder import FolderConnection, FolderPlace
from anchovies.plugins.files.layout import PROPERTIES, parse_layout
from anchovies.plugins.files.place import FileInfo, FilePlace, Warn, find, parse_patterns
from anchovies.sdk import ConfigError, Connection, Downloader, Tbl, context, source

if TYPE_CHECKING:
    import pyarrow as pa


class CsvDownloader(Downloader):
    """CSV and TSV files of a folder. Each file is one unit: it is kept whole, or not at all.

    Files that were read are remembered by path, size, modification time and content. One whose size and time are as they were
    is not read again; of anything else the content decides. Files are read in the order of their paths.
    """

    connection_cls: ClassVar[type[Connection] | None] = FolderConnection
    tbl_properties: ClassVar[Mapping[str, str]] = PROPERTIES

    def place(self) -> FilePlace:
        """Where the files lie. Other file plugins override this, and nothing else."""
        return FolderPlace(self.cnxn.root)

    @source()
    def files(self, tbl: Tbl, **kwds: Any) -> Iterator[pa.RecordBatch]:
        """The rows of every new and changed file of a table."""
        reader = _late_reader(tbl)
        place = self.place()
        found = self._find(place, tbl, lambda text: context().progress(warning=text))
        yield from Collector(place, tbl.name, reader).collect(found)

    def guess_tbls(self) -> Iterator[Tbl]:
        """A table for each kind of text file there is."""
        return iter(import_module("anchovies.plugins.files.guess").guess_tbls(self.place()))

    def plan(self, tbl: Tbl) -> Iterator[str]:
        """How many files are new, changed and known, and the names of the first."""
        warnings: list[str] = []
        found = self._find(self.place(), tbl, warnings.append)
        ledger = context().ledger(tbl.name)
        states: dict[str, list[FileInfo]] = {"new": [], "changed": [], "known": []}
        for info in found:
            states[state_of(ledger, info)].append(info)
        yield f"{len(found):,} files match: " + ", ".join(f"{len(v):,} {k}" for k, v in states.items())
        for info in [*states["new"], *states["changed"]][:5]:
            yield f"would read {info.path} ({info.size:,} bytes)"
        yield from warnings

    def _find(self, place: FilePlace, tbl: Tbl, warn: Warn) -> list[FileInfo]:
        if "path" not in tbl.properties:
            raise ConfigError(f"tbls.{tbl.name}: `path` is missing", hint="for example: path: /sales/*.tsv", tbl=tbl.name)
        return find(place, parse_patterns(tbl.properties["path"], f"tbls.{tbl.name}.path"), warn)


def _late_reader(tbl: Tbl) -> Read:
    """The reader of a table's files; its module, and pyarrow with it, is loaded with the first file."""
    layout = parse_layout(tbl)

    def read(chunks: Any, path: str) -> Iterator[pa.RecordBatch | Bad]:
        reader = import_module("anchovies.plugins.files.reader")
        found: Iterator[pa.RecordBatch | Bad] = reader.read_text(chunks, path, tbl, layout)
        return found

    return read
