"""A folder, and what `files.CsvDownloader` makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.tbl import parse_columns
from anchovies.plugins.files import CsvDownloader, FolderConnection
from anchovies.sdk import Tbl
from anchovies.testing.context import FakeContext


class Folder:
    """A folder of files, its downloader and the context that remembers what was read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ctx = FakeContext()
        self.operator = CsvDownloader()
        self.operator.connections = {"default": FolderConnection(path=str(root))}

    def write(self, name: str, data: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def tbl(self, path: Any = "*.csv", **given: Any) -> Tbl:
        columns = parse_columns(given.pop("columns", {}), "columns")
        return Tbl("t", columns=columns, autodiscover=given.pop("autodiscover", False), properties={"path": path, **given})

    def read(self, path: Any = "*.csv", **given: Any) -> list[dict[str, Any]]:
        return self.ctx.run(self.operator.files(self.tbl(path, **given)))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes blocks and chunks so small that every border is met."""

    def shrink(size: int) -> None:
        monkeypatch.setattr("anchovies.plugins.files.blocks.BLOCK", size)
        monkeypatch.setattr("anchovies.plugins.files.folder.CHUNK", size)

    return shrink
