"""What tables the files of a place look like: files of one folder with the same first line are one."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby, islice

import msgspec

from anchovies.plugins.files.place import FileInfo, FilePlace, find
from anchovies.sdk import SourceError, Tbl

MOST = 2_000  # files that are looked at
_TEXT = re.compile(r"\.(csv|tsv|tab|txt)(\.gz)?$", re.IGNORECASE)
_NUMBERS = re.compile(r"[\d]+(?:[-_.T:]?\d+)*")
_NOT_A_NAME = re.compile(r"[^a-z0-9]+")


class _Seen(msgspec.Struct, frozen=True):
    folder: str
    ending: str  # `.csv.gz`
    head: str  # the first line
    shape: str  # the name without its ending, numbers as `*`


def guess_tbls(place: FilePlace) -> Iterator[Tbl]:
    """A table for each kind of file, with its `path`; each name and each path once."""
    files = islice((f for f in find(place, ["**/*"], lambda text: None) if _TEXT.search(f.name)), MOST)
    seen = sorted((_look(place, f) for f in files), key=lambda s: (s.folder, s.ending, s.head, s.shape))
    names: set[str] = set()
    paths: set[str] = set()
    for (folder, ending), of_kind in groupby(seen, key=lambda s: (s.folder, s.ending)):
        heads = {head: sorted({s.shape for s in alike}) for head, alike in groupby(of_kind, key=lambda s: s.head)}
        for shapes in heads.values():
            alone = len(heads) == 1 and len(shapes) > 1
            for shape in ["*"] if alone else shapes:
                path = f"{_escaped(folder)}{shape}{ending}"
                if path in paths:
                    continue
                paths.add(path)
                yield Tbl(_name(shape, folder, names), properties={"path": [path] if "," in path else path}, autodiscover=True)


def _look(place: FilePlace, info: FileInfo) -> _Seen:
    found = _TEXT.search(info.name)
    assert found is not None
    folder = info.path[: len(info.path) - len(info.name)]
    return _Seen(folder, found[0], _first_line(place, info), _NUMBERS.sub("*", _escaped(info.name[: found.start()])))


def _escaped(text: str) -> str:
    """What a glob takes for something else, so that it does not."""
    return re.sub(r"([*?[])", r"[\1]", text)


def _first_line(place: FilePlace, info: FileInfo) -> str:
    """Empty where it cannot be read: whoever reads the table will say why."""
    try:
        with closing(place.open(info)) as chunks:
            data = next(iter(chunks), b"")
        if data.startswith(b"\x1f\x8b"):
            data = zlib.decompressobj(31).decompress(data, 1 << 16)
    except (SourceError, FileNotFoundError, zlib.error):
        return ""
    return data.split(b"\n", 1)[0].strip().decode("utf-8", "replace")


def _name(shape: str, folder: str, taken: set[str]) -> str:
    """What the table may be called: as its files, else as their folder."""
    words = [_plain(shape), _plain(folder.rstrip("/").rpartition("/")[2]), "files"]
    name = wanted = next(w for w in words if w)
    for n in range(2, len(taken) + 3):
        if name not in taken:
            break
        name = f"{wanted}_{n}"
    taken.add(name)
    return name


def _plain(text: str) -> str:
    return _NOT_A_NAME.sub("_", text.lower()).strip("_")
