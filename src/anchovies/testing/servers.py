"""SFTP servers on 127.0.0.1 for tests and benches: asyncssh's, in this process, and OpenSSH's own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@dataclass(frozen=True)
class SftpServer:
    """A running server. `root` is the folder whose files it serves, as the client names it: "" where it is the client's `/`."""

    port: int
    known_hosts_line: str
    root: str = ""
    user: str | None = None
    host: str = "127.0.0.1"

    @property
    def uri_host(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` of the host key."""
        digest = hashlib.sha256(base64.b64decode(self.known_hosts_line.split()[2])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def uri(self, password: str | None = None, base: str | None = None) -> str:
        """`sftp://user:password@host:port/base`; `base` defaults to the server's root."""
        login = self.user or ""
        if password is not None:
            login += f":{password}"
        return f"sftp://{login + '@' if login else ''}{self.uri_host}{self.root if base is None else base}"


@contextmanager
def asyncssh_server(
    root: Path | str,
    user: str = "user",
    password: str | None = "password",  # noqa: S107
    authorized_key: str | None = None,
    *,
    sftp_factory: Callable[..., Any] | None = None,
    host_key: Any = None,
    port: int = 0,
) -> Iterator[SftpServer]:
    """asyncssh's server in a thread of this process, `root` as its `/`. `authorized_key`: a line of OpenSSH's public key format.

    `sftp_factory(chan)` makes a scripted SFTPServer; `host_key`: an SSHKey to be known by, else a fresh one.
    """
    import asyncssh

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sftp-server", daemon=True)
    thread.start()
    key = host_key or asyncssh.generate_private_key("ssh-ed25519")
    factory = sftp_factory or (lambda chan: asyncssh.SFTPServer(chan, chroot=os.fsencode(root)))
    open_connections: list[Any] = []
    server = _login_server(user, password, authorized_key, open_connections)

    async def start() -> Any:
        return await asyncssh.create_server(server, "127.0.0.1", port, server_host_keys=[key], sftp_factory=factory)

    running = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    bound = running.get_port()
    try:
        line = f"[127.0.0.1]:{bound} {key.export_public_key().decode().strip()}"
        yield SftpServer(bound, " ".join(line.split()[:3]), "", user)
    finally:
        asyncio.run_coroutine_threadsafe(_stop(running, open_connections), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


async def _stop(running: Any, connections: list[Any]) -> None:
    running.close()
    for connection in connections:
        connection.abort()
    await running.wait_closed()
    rest = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.sleep(0.01)  # transports close their sockets one turn of the loop later


def _login_server(user: str, password: str | None, authorized_key: str | None, connections: list[Any]) -> Any:
    import asyncssh

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: Any) -> None:
            self._conn = conn
            connections.append(conn)

        def begin_auth(self, username: str) -> bool:
            if authorized_key:
                self._conn.set_authorized_keys(asyncssh.import_authorized_keys(authorized_key))
            return True

        def password_auth_supported(self) -> bool:
            return password is not None

        def validate_password(self, username: str, given: str) -> bool:
            return (username, given) == (user, password)

    return Server


def why_no_openssh(*, password: bool = False) -> str | None:
    """Why OpenSSH's server cannot be started here, with the way out; None if it can."""
    if not os.access(SSHD, os.X_OK):
        return "needs OpenSSH's server: apt-get install openssh-server"
    if password and (os.geteuid() != 0 or not shutil.which("useradd")):
        return "password logins need a throw-away system user: run as root (CI does)"
    return None


@contextmanager
def openssh_server(
    root: Path | str, user: str | None = None, password: str | None = None, authorized_key: str | None = None
) -> Iterator[SftpServer]:
    """OpenSSH's sshd, serving `root` by its real path.

    With a `password` (root only) the throw-away system user `user` is made for it, and removed afterwards; else whoever runs this
    logs in with `authorized_key`.
    """
    with tempfile.TemporaryDirectory(prefix="anchovy-sshd-") as folder, _system_user(user, password) as login:
        base = Path(folder)
        base.chmod(0o755)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", base / "host"], check=True)  # noqa: S603, S607
        (base / "authorized").write_text(f"{authorized_key or ''}\n")
        port = _free_port()
        (base / "conf").write_text(_sshd_config(base, port, password is not None))
        with _sshd(base, port):
            public = (base / "host.pub").read_text().split()
            yield SftpServer(port, f"[127.0.0.1]:{port} {public[0]} {public[1]}", os.fspath(root), login)


def _sshd_config(base: Path, port: int, password: bool) -> str:
    return f"""ListenAddress 127.0.0.1
Port {port}
HostKey {base}/host
AuthorizedKeysFile {base}/authorized
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication {"yes" if password else "no"}
MaxStartups 100
UseDNS no
Subsystem sftp internal-sftp
"""


@contextmanager
def _sshd(base: Path, port: int) -> Iterator[None]:
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    with (base / "log").open("w") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", base / "conf"], stderr=log)  # noqa: S603
    try:
        _wait_for(port, process, base / "log")
        yield
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(500):
        if process.poll() is not None:
            raise RuntimeError(f"sshd ended: {log.read_text()[-500:]}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            threading.Event().wait(0.02)
    raise RuntimeError("sshd does not listen")


_users = count()


@contextmanager
def _system_user(user: str | None, password: str | None) -> Iterator[str]:
    """A login with a password, made for this and removed; without a password, whoever we are."""
    if password is None:
        import getpass

        yield user or getpass.getuser()
        return
    name = user or f"anchovy{os.getpid()}x{next(_users)}"
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", name], check=True)  # noqa: S603, S607
    try:
        subprocess.run(["chpasswd"], input=f"{name}:{password}\n".encode(), check=True)  # noqa: S607
        yield name
    finally:
        # by force: a session of theirs may not have ended yet
        subprocess.run(["userdel", "--force", name], check=False, stderr=subprocess.DEVNULL)  # noqa: S603, S607


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
