"""New and changed files only; whole files only; names that no file should have are never opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from anchovies.plugins.files import collect
from anchovies.plugins.files.place import FileInfo, find, hostile
from anchovies.sdk import ConfigError, SourceError, Stopped
from anchovies.sdk.context import entered


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "PAUSE", 0.0)


def test_second_run_reads_nothing(folder: Any) -> None:
    folder.write("b.csv", "x\n2\n")
    folder.write("a.csv", "x\n1\n")
    assert folder.read() == [{"x": "1"}, {"x": "2"}] and len(folder.ctx.units) == 2
    read = folder.ctx.bytes_read
    assert folder.read() == [] and folder.ctx.units == [] and folder.ctx.bytes_read == read
    folder.write("c.csv", "x\n3\n")
    assert folder.read() == [{"x": "3"}]


def test_changed_is_read_touched_is_not_kept(folder: Any) -> None:
    path = folder.write("a.csv", "x\n1\n")
    folder.read()
    os.utime(path, ns=(1, 1))
    assert folder.read() == [] and folder.ctx.discards == 1
    assert folder.ctx.ledgers["t"]["a.csv"]["mtime"] == 1
    folder.write("a.csv", "x\n9\n")
    assert folder.read() == [{"x": "9"}]


def test_a_file_that_grows_while_it_is_read(folder: Any, small_blocks: Any) -> None:
    small_blocks(4)
    path = folder.write("a.csv", "x\n1\n")
    folder.write("b.csv", "x\nb\n")
    progress, grown = folder.ctx.progress, []

    def grow(**data: Any) -> None:
        progress(**data)
        if "bytes_read" in data and len(grown) < 2:
            grown.append(1)
            with path.open("a") as f:
                f.write(f"{len(grown) + 1}\n")

    folder.ctx.progress = grow
    assert folder.read() == [{"x": "1"}, {"x": "2"}, {"x": "3"}, {"x": "b"}]
    assert folder.ctx.discards == 2


def test_a_file_that_never_stands_still(folder: Any) -> None:
    path = folder.write("a.csv", "x\n1\n")
    folder.write("b.csv", "x\nb\n")
    progress = folder.ctx.progress

    def grow(**data: Any) -> None:
        progress(**data)
        if "bytes_read" in data:
            with path.open("a") as f:
                f.write("2\n")

    folder.ctx.progress = grow
    with pytest.raises(SourceError, match=r"a\.csv changed while it was read"):
        folder.read("a.csv, b.csv")
    assert "a.csv" not in folder.ctx.ledgers["t"]


def test_stopped(folder: Any) -> None:
    folder.write("a.csv", "x\n1\n")
    folder.ctx.batch.stop = Stopped("now")
    with pytest.raises(Stopped):
        folder.read()
    assert folder.ctx.rows == [] and not folder.ctx.ledgers["t"]


def test_globs(folder: Any) -> None:
    for name in ("a.csv", "b/a.csv", "b/c/a.csv", "b/c/z.txt", "d/a.csv", ".hidden.csv", "[x].csv"):
        folder.write(name, "x\n1\n")
    place = folder.operator.place()

    def names(*patterns: str) -> list[str]:
        return [i.path for i in find(place, patterns, pytest.fail)]

    assert names("*.csv") == ["[x].csv", "a.csv"]
    assert names("/*.csv") == ["/[x].csv", "/a.csv"]
    assert names("**/*.csv", "a.csv") == ["[x].csv", "a.csv", "b/a.csv", "b/c/a.csv", "d/a.csv"]
    assert names("?/a.csv") == ["b/a.csv", "d/a.csv"] and names("b/*/a.csv") == ["b/c/a.csv"]
    assert names("[!b]/*.csv") == ["d/a.csv"] and names("b/**") == ["b/a.csv", "b/c/a.csv", "b/c/z.txt"]


def test_nothing_matches(folder: Any) -> None:
    folder.write("x/a.csv", "x\n1\n")
    assert folder.read("x/*.tsv, y/*.csv") == []
    assert folder.ctx.warnings == ["no file matches x/*.tsv", "no file matches y/*.csv (there is no folder y)"]
    with pytest.raises(SourceError, match=r"there is no file x/b\.csv"):
        folder.read("x/b.csv")
    with pytest.raises(ConfigError, match="x is a folder"):
        folder.read("x")


def test_links_and_devices_are_not_followed(folder: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "s.csv").write_text("x\nsecret\n")
    folder.root.joinpath("l.csv").symlink_to(outside / "s.csv")
    folder.root.joinpath("dir").symlink_to(outside)
    os.mkfifo(folder.root / "p.csv")
    assert folder.read("*.csv, l.csv, **/*.csv, p.csv") == []
    assert any("it is a link: 'l.csv'" in w for w in folder.ctx.warnings)
    assert any("no regular file: 'p.csv'" in w for w in folder.ctx.warnings)
    with pytest.raises(SourceError, match="leaves the folder"):
        folder.read("dir/s.csv")
    beside = folder.root.with_name(f"{folder.root.name}2")  # its path begins as the folder's does
    beside.mkdir()
    (beside / "s.csv").write_text("x\nsecret\n")
    folder.root.joinpath("neighbour").symlink_to(beside)
    with pytest.raises(SourceError, match="leaves the folder"):
        folder.read("neighbour/s.csv")
    with pytest.raises(SourceError, match="a link"):
        folder.operator.place().open(FileInfo("l.csv", 1, 1))


def test_hostile_names() -> None:
    class Place:
        def entries(self, folder: str) -> list[FileInfo]:
            names = [
                "..",
                ".",
                "../../x.csv",
                "a/b.csv",
                "n\0.csv",
                "n\n.csv",
                "\udce9.csv",
                "",
                "x" * 300 + ".csv",
                "ok.csv",
                "...csv",
            ]
            return [FileInfo(f"d/{n}", 1, 1) for n in names]

    warnings: list[str] = []
    assert [i.path for i in find(Place(), ["d/*.csv"], warnings.append)] == ["d/ok.csv"]  # type: ignore[arg-type]
    assert len(warnings) == 3 and "'../../x.csv'" in warnings[0] and all(w.isascii() and w.isprintable() for w in warnings)
    assert hostile("CON") is None and hostile("a..b.csv") is None


def test_plan(folder: Any) -> None:
    folder.write("a.csv", "x\n1\n")
    folder.write("b.csv", "x\n1\n")
    folder.read("a.csv")
    with entered(folder.ctx):
        assert list(folder.operator.plan(folder.tbl())) == [
            "2 files match: 1 new, 0 changed, 1 known",
            "would read b.csv (4 bytes)",
        ]
    folder.write("a.csv", "x\n22\n")
    with entered(folder.ctx):
        assert "1 new, 1 changed, 0 known" in next(iter(folder.operator.plan(folder.tbl())))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    from anchovies.plugins.files import FolderConnection

    with pytest.raises(ConfigError, match="there is no folder"):
        FolderConnection(path=str(tmp_path / "no")).check()
