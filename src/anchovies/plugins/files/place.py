"""Where files lie: a place lists folders, looks at paths and opens files. Globs are expanded here, for every place alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import translate
from typing import Any, Literal, Protocol

import msgspec

from anchovies.sdk import ConfigError, SourceError
from anchovies.sdk.faults import fault

Kind = Literal["file", "folder", "link", "other"]
_WILD = re.compile(r"[*?\[]")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff/]")


class FileInfo(msgspec.Struct, frozen=True):
    """What a place says of one entry. `size` in bytes, `mtime_ns` since 1970 UTC (whole seconds where a place knows no finer)."""

    path: str
    size: int
    mtime_ns: int
    kind: Kind = "file"
    inode: int = 0  # 0 where a place has none to show

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def version(self) -> tuple[int, int, int]:
        """Changes when the file does, as far as a look from outside can tell."""
        return (self.size, self.mtime_ns, self.inode)


class Chunks(Protocol):
    """The bytes of one open file, in order. Iterate it once; `close` may be called at any time, more than once."""

    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class FilePlace(Protocol):
    """A file system, near or far. Paths are `/`-separated texts as written in `path:`.

    Raises RetryableError where trying again may help, SourceError or ConfigError elsewhere, and FileNotFoundError.
    """

    def entries(self, folder: str) -> Iterable[FileInfo]:
        """The entries of a folder, links not followed. Names are hostile until `find` has checked them."""
        ...

    def stat(self, path: str) -> FileInfo:
        """One entry as it is now, links not followed."""
        ...

    def open(self, info: FileInfo) -> Chunks:
        """Begin to read a regular file; reading ahead is bounded. Never follows a link at the last step."""
        ...


Warn = Callable[[str], None]


def parse_patterns(value: Any, where: str) -> list[str]:
    """`"/a/*.csv, /b/*.csv"` or a list of them → patterns. Raises ConfigError naming `where`."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not parts or not all(isinstance(p, str) and p.strip() for p in parts):
        raise ConfigError(
            f"{where}: expected a path or glob, or a list of them, got {value!r}", hint="for example: path: /sales/*.tsv"
        )
    return [_checked(p.strip(), where) for p in parts]


def _checked(pattern: str, where: str) -> str:
    if ".." in pattern.split("/") or re.search(r"[\x00-\x1f]", pattern):
        raise ConfigError(f"{where}: {pattern!r} leaves its folder or has control characters", hint="write the path without '..'")
    return pattern


def find(place: FilePlace, patterns: Iterable[str], warn: Warn) -> list[FileInfo]:
    """The regular files that match, each once, sorted by path. Only the folders that can hold a match are listed.

    Tells `warn` of a glob without a match, and of entries that are not read (links, devices, names that no file should have).
    Raises SourceError for a path without wildcards that is not there, and where a folder may not be listed.
    """
    found: dict[str, FileInfo] = {}
    for pattern in patterns:
        notes = _Notes()
        hits = list(_expand(place, pattern, notes))
        found.update({h.path: h for h in hits})
        notes.tell(warn)
        if not hits and not notes.skipped:
            missing = f" (there is no folder {notes.missing})" if notes.missing else ""
            warn(f"no file matches {pattern}{missing}")
    return [found[p] for p in sorted(found)]


class _Notes:
    """What was passed over while a pattern was expanded."""

    def __init__(self) -> None:
        self.skipped: dict[str, list[str]] = {}
        self.missing: str | None = None

    def skip(self, why: str, path: str) -> None:
        self.skipped.setdefault(why, []).append(path)

    def tell(self, warn: Warn) -> None:
        for why, paths in self.skipped.items():
            first = ", ".join(ascii(p[:100]) for p in paths[:3])
            warn(f"not read, {why}: {first}" + (f" and {len(paths) - 3} more" if len(paths) > 3 else ""))


def _expand(place: FilePlace, pattern: str, notes: _Notes) -> Iterator[FileInfo]:
    steps = pattern.split("/")
    wild = next((i for i, s in enumerate(steps) if _WILD.search(s)), None)
    if wild is None:
        yield from _literal(place, pattern, notes)
    else:
        yield from _walk(place, "/".join(steps[:wild]) or ("/" if wild else ""), [s for s in steps[wild:] if s], notes)


def _literal(place: FilePlace, path: str, notes: _Notes) -> Iterator[FileInfo]:
    try:
        info = place.stat(path)
    except FileNotFoundError:
        raise SourceError(f"there is no file {path}", hint="look at `path:` of the table", file=path) from None
    if info.kind == "folder":
        raise ConfigError(
            f"{path} is a folder", hint=f"write {path.rstrip('/')}/*.csv, or whatever its files are called", file=path
        )
    if _is_regular(info, notes):
        yield info


def _is_regular(info: FileInfo, notes: _Notes) -> bool:
    if info.kind != "file":
        notes.skip("it is a link" if info.kind == "link" else "it is no regular file", info.path)
    return info.kind == "file"


def _walk(place: FilePlace, folder: str, steps: list[str], notes: _Notes) -> Iterator[FileInfo]:
    step, rest = steps[0], steps[1:]
    if step == "**":
        rest = rest or ["*"]
        yield from _walk(place, folder, rest, notes)
        for entry in _entries(place, folder, "*", notes):
            if entry.kind == "folder":
                yield from _walk(place, entry.path, steps, notes)
        return
    if not _WILD.search(step) and rest:
        yield from _walk(place, join(folder, step), rest, notes)
        return
    for entry in _entries(place, folder, step, notes):
        if rest and entry.kind == "folder":
            yield from _walk(place, entry.path, rest, notes)
        elif not rest and entry.kind != "folder" and _is_regular(entry, notes):
            yield entry


def _entries(place: FilePlace, folder: str, step: str, notes: _Notes) -> Iterator[FileInfo]:
    match = re.compile(translate(step)).match
    hidden = step.startswith(".")
    try:
        fault("files.list.before", SourceError)
        for entry in place.entries(folder):
            name = entry.path[len(join(folder, "")) :]
            if name in (".", ".."):
                continue
            if why := hostile(name):
                notes.skip(why, name)
            elif match(name) and (hidden or not name.startswith(".")):
                yield entry
    except FileNotFoundError:
        notes.missing = notes.missing or folder


def hostile(name: str) -> str | None:
    """Why a name that came over the wire is never opened; None for a good one."""
    if not name or (name.startswith("..") and not name.strip(".")):
        return "a name that leaves its folder"
    if _UNSAFE.search(name):
        return "a name with a slash, a control character or bytes that are not UTF-8"
    return "a name over 255 bytes" if len(name.encode()) > 255 else None


def join(folder: str, name: str) -> str:
    """`folder/name`; the empty folder is where the connection begins."""
    return name if not folder else f"{folder.rstrip('/')}/{name}"
