"""Our own downloaders pass the suite that everybody's must pass."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

from anchovies.testing.downloader import DownloaderSuite
from anchovies.testing.trial import Subject


def write(path: Path, first: int, rows: int = 4) -> None:
    text = "id,name,price\n" + "".join(f"{n},name {n},{n}.50\n" for n in range(first, first + rows))
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def spoiled(path: Path) -> Callable[[], object]:
    whole = path.read_bytes()
    path.write_bytes(whole + b'99,"never closed')
    return lambda: path.write_bytes(whole)


class TestFiles(DownloaderSuite):
    def make(self, folder: Path) -> Subject:
        for n, name in enumerate(("a.csv", "b.csv", "c.csv.gz", "other.txt")):
            write(folder / name, 10 * n)
        return Subject(
            "files.CsvDownloader",
            cnxns={"default": {"path": str(folder)}},
            tbls={"sales": {"path": "*.csv*", "autodiscover": True}, "others": {"path": "*.txt", "columns": {"id": "int"}}},
            grow=lambda: write(folder / "d.csv", 90),
            spoil=lambda: spoiled(folder / "b.csv"),
        )
