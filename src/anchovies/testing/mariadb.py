"""A throw-away MariaDB (Debian's) for tests: `with mariadb() as port: …`, on 127.0.0.1, user `root`, no password."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection, socket
from threading import Event

from anchovies.core.errors import ConfigError

_PATH = "/usr/sbin:/usr/bin"


def missing() -> str | None:
    """Why there is no MariaDB here, and how to get one; None: there is. A test skips with it."""
    tools = [shutil.which(tool, path=_PATH) for tool in ("mariadbd", "mariadb-install-db")]
    return None if all(tools) else "no MariaDB: apt-get install mariadb-server"


class Server:
    """A server that can crash: `restart()` ends it at once, and starts it again; `ready()` waits until it is back."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, _free_port()
        user = pwd.getpwuid(os.getuid()).pw_name
        self._common = ["--no-defaults", f"--user={user}", f"--datadir={folder}/data", f"--tmpdir={folder}"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/mysql"

    def install(self) -> None:
        words = ["mariadb-install-db", *self._common, "--auth-root-authentication-method=normal", "--skip-test-db"]
        with (self.folder / "log").open("ab") as log:
            subprocess.run(words, check=True, stdout=log, stderr=log, env={"PATH": f"{_PATH}:/bin"})  # noqa: S603

    def start(self) -> None:
        # a commit is written to the system at once: it outlives a crash of the server, though not one of the machine
        serve = [
            "/usr/sbin/mariadbd", *self._common, f"--port={self.port}", "--bind-address=127.0.0.1",
            f"--socket={self.folder}/socket", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=2",
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(serve, stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # noqa: S603

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # its data are thrown away anyhow, or this is the crash that is wanted
            self._process.wait(20)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def is_ready(self) -> bool:
        """Whether it listens. Raises RuntimeError where it has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"MariaDB ended: {(self.folder / 'log').read_text(errors='replace')[-800:]}")
        try:
            create_connection(("127.0.0.1", self.port), 0.5).close()
        except OSError:
            return False
        return True

    def ready(self) -> None:
        for _ in range(1500):
            if self.is_ready():
                return
            Event().wait(0.02)
        raise RuntimeError("MariaDB does not listen")


@contextmanager
def server() -> Iterator[Server]:
    """A server that ends with the block. Raises ConfigError that says what to install where there is none."""
    if reason := missing():
        raise ConfigError(reason)
    with tempfile.TemporaryDirectory(prefix="achvy-maria-") as name:
        made = Server(Path(name))
        made.install()
        made.start()
        try:
            made.ready()
            yield made
        finally:
            made.stop()


@contextmanager
def mariadb() -> Iterator[int]:
    """The port of such a server."""
    with server() as made:
        yield made.port


def _free_port() -> int:
    with socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
