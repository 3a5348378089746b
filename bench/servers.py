"""Throw-away servers on 127.0.0.1: Debian's OpenSSH and PostgreSQL, ended by their process ids."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import BenchError

SSHD = """ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/id.pub
PidFile {folder}/pid
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True, slots=True)
class Sftp:
    port: int
    user: str
    key: Path
    fingerprint: str

    @property
    def env(self) -> dict[str, str]:
        """What an anchovy's default connection needs."""
        uri = f"sftp://{self.user}@127.0.0.1:{self.port}"
        return {"ACHVY_CNXN__URI": uri, "ACHVY_CNXN__PPK_PATH": str(self.key), "ACHVY_CNXN__HOST_KEY": self.fingerprint}


@dataclass(frozen=True, slots=True)
class Postgres:
    port: int
    bin: Path

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def fresh(self, database: str) -> None:
        """Drop and create it."""
        for command in (f"drop database if exists {database} with (force)", f"create database {database}"):
            subprocess.run([self.bin / "psql", "-qX", self.url("postgres"), "-c", command], check=True)

    def answer(self, database: str, query: str) -> str:
        done = subprocess.run(
            [self.bin / "psql", "-qXAt", self.url(database), "-c", query], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _wait_for(port: int, child: subprocess.Popen[bytes], what: str) -> None:
    for _ in range(600):
        if child.poll() is not None:
            raise BenchError(f"{what} ended with {child.returncode}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        time.sleep(0.05)
    raise BenchError(f"{what} did not come up within 30 s")


@contextlib.contextmanager
def _running(command: list[str], port: int, what: str, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            _wait_for(port, child, f"{what} (see {log})")
            yield
        finally:
            child.terminate()
            child.wait()


@contextlib.contextmanager
def sftp(folder: Path) -> Iterator[Sftp]:
    """OpenSSH's own server with a key, files and all in `folder`."""
    if not Path("/usr/sbin/sshd").exists():
        raise BenchError("this job wants OpenSSH's server: apt-get install openssh-server")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    told = subprocess.run(["ssh-keygen", "-lf", str(folder / "host.pub")], check=True, capture_output=True, text=True).stdout
    port = free_port()
    (folder / "conf").write_text(SSHD.format(port=port, folder=folder))
    with _running(["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "conf")], port, "sshd", folder / "log"):
        yield Sftp(port, getpass.getuser(), folder / "id", told.split()[1])


def _as_postgres(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["runuser", "-u", "postgres", "--", *command] if os.getuid() == 0 else command


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A cluster with PostgreSQL's default settings (durable), in a temporary folder that its user can reach."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise BenchError("this job wants PostgreSQL: apt-get install postgresql")
    programs, port = found[-1].parent, free_port()
    made = subprocess.run(
        _as_postgres(["mktemp", "-d", "/tmp/anchovies-bench-pg.XXXXXX"]), check=True, capture_output=True, text=True
    )
    folder = Path(made.stdout.strip())
    try:
        init = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "--auth=trust"]
        subprocess.run(_as_postgres(init), check=True, stdout=subprocess.DEVNULL)
        serve = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"]
        with _postmaster(_as_postgres(serve), port, folder):
            yield Postgres(port, programs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _postmaster(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """`runuser` stands between us and the server, so the server is ended by the pid it wrote."""
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            _wait_for(port, child, f"PostgreSQL (see {log})")
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.kill(int((folder / "data/postmaster.pid").read_text().splitlines()[0]), 2)
            child.wait()
    log.unlink()
