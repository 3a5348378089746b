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


@contextmanager
def mariadb() -> Iterator[int]:
    """The port of a server that ends with the block. Raises ConfigError that says what to install where there is none."""
    if reason := missing():
        raise ConfigError(reason)
    with tempfile.TemporaryDirectory(prefix="achvy-maria-") as name:
        folder, port, user = Path(name), _free_port(), pwd.getpwuid(os.getuid()).pw_name
        common = ["--no-defaults", f"--user={user}", f"--datadir={folder}/data"]
        install = ["mariadb-install-db", *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
        with (folder / "log").open("ab") as log:
            subprocess.run(install, check=True, stdout=log, stderr=log, env={"PATH": f"{_PATH}:/bin"})  # noqa: S603
            serve = [
                "/usr/sbin/mariadbd", *common, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/socket",
                "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0",
            ]  # fmt: skip
            process = subprocess.Popen(serve, stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # noqa: S603
            try:
                _wait_for(port, process, folder / "log")
                yield port
            finally:
                process.kill()  # its data are thrown away anyhow
                process.wait(20)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1500):
        if process.poll() is not None:
            raise RuntimeError(f"MariaDB ended: {log.read_text(errors='replace')[-800:]}")
        try:
            create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            Event().wait(0.02)
    raise RuntimeError("MariaDB does not listen")


def _free_port() -> int:
    with socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
