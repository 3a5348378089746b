"""The connection to an SFTP server."""

from __future__ import annotations

import asyncio
import getpass
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from anchovies.plugins.sftp.address import Address, check_key_file, parse_uri
from anchovies.plugins.sftp.hostkeys import CIPHERS, KEY_ALGS, HostKeys
from anchovies.plugins.sftp.loop import LoopThread
from anchovies.sdk import AnchovyError, ConfigError, Connection, RetryableError, Secret, attr

if TYPE_CHECKING:
    import asyncssh


class SftpConnection(Connection):
    """An SFTP server. Its host key must be in known_hosts, or pinned."""

    uri: Secret = attr("sftp://user:password@host:port/folder; user, password and folder may be left out", aliases=("url",))
    password: Secret | None = attr("the password, if it is not in the URI", default=None)
    ppk_path: str | None = attr("the private key file, in OpenSSH's format", default=None, aliases=("key_path",))
    passphrase: Secret | None = attr("of the private key", default=None)
    known_hosts: str = attr("the file of trusted host keys", default="~/.ssh/known_hosts")
    host_key: str | None = attr("the server's fingerprint, SHA256:…; then known_hosts is not looked at", default=None)
    timeout: float = attr("seconds to wait for an answer", default=30.0)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._turn = threading.RLock()  # tables that are read at once share it
        self._loop: LoopThread | None = None
        self._ssh: asyncssh.SSHClientConnection | None = None
        self._sftp: asyncssh.SFTPClient | None = None

    @property
    def address(self) -> Address:
        return parse_uri(self.uri)

    @property
    def loop(self) -> LoopThread:
        if self._loop is None:
            self._loop = LoopThread()
        return self._loop

    def open(self) -> None:
        """Raises ConfigError for what has to be mended (address, host key, password), RetryableError for what may pass."""
        self.client()

    def close(self) -> None:
        if self._loop:
            self.drop()
            self._loop.stop()
            self._loop = None

    def client(self) -> asyncssh.SFTPClient:
        """The SFTP client, connected anew if the connection was lost."""
        with self._turn:
            if self._sftp is None or self._ssh is None or self._ssh.is_closed():
                self.drop()
                self._connect()
            assert self._sftp is not None
            return self._sftp

    def drop(self) -> None:
        """Forget the connection, which may be dead."""
        ssh, self._ssh, self._sftp = self._ssh, None, None
        if ssh and self._loop:
            with suppress(TimeoutError):
                self._loop.submit(_abort(ssh)).result(5)

    def _connect(self) -> None:
        where = self.address
        keys = HostKeys(where, self.known_hosts, self.host_key, self.variable("host_key"))
        options = self._login(where)
        try:
            found = self.loop.call(self._dial(where, keys, options), self.timeout, f"sftp server {where.shown}")
        except AnchovyError:
            raise
        except Exception as e:
            raise connect_error(e, where, keys, self.variable) from None
        self._ssh, self._sftp = found

    def _login(self, where: Address) -> dict[str, Any]:
        """Only what was configured is offered to the server; nothing configured: the user's own keys and agent, as ssh does."""
        password = self.password or where.password
        options: dict[str, Any] = {"username": where.user or getpass.getuser()}
        if password:
            options["password"] = password.reveal()
        if self.ppk_path:
            key = check_key_file(self.ppk_path)
            options |= {"client_keys": [self._key(str(key))], "agent_path": None}
        elif password:
            options |= {"client_keys": None, "agent_path": None}
        return options

    def _key(self, path: str) -> asyncssh.SSHKey:
        import asyncssh

        try:
            return asyncssh.read_private_key(path, self.passphrase.reveal() if self.passphrase else None)
        except asyncssh.KeyEncryptionError:
            raise ConfigError(f"PASSPHRASE does not open the key file {path}") from None
        except asyncssh.KeyImportError as e:
            hint = "set PASSPHRASE" if "assphrase" in str(e) else "it must be a private key in OpenSSH's or PEM format"
            raise ConfigError(f"the key file {path} cannot be used: {e}", hint=hint) from None

    async def _dial(self, where: Address, keys: HostKeys, login: dict[str, Any]) -> tuple[Any, Any]:
        import asyncssh

        class Client(asyncssh.SSHClient):
            def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
                return keys.accept(key)

        options: dict[str, Any] = dict(login)
        if keys.pinned:
            options["server_host_key_algs"] = list(KEY_ALGS)
        ssh, _ = await asyncssh.create_connection(
            Client,
            where.host,
            where.port,
            known_hosts=keys.lookup,
            config=None,
            encryption_algs=CIPHERS,
            compression_algs=["none"],
            connect_timeout=self.timeout,
            login_timeout=self.timeout,
            keepalive_interval=max(1.0, self.timeout / 3),
            **options,
        )
        try:
            return ssh, await ssh.start_sftp_client(path_errors="surrogateescape")
        except BaseException:
            ssh.abort()
            raise


async def _abort(ssh: asyncssh.SSHClientConnection) -> None:
    ssh.abort()
    with suppress(Exception):  # whatever was wrong with it was said where it was used
        await ssh.wait_closed()


def connect_error(e: Exception, where: Address, keys: HostKeys, variable: Callable[[str], str]) -> AnchovyError:
    """What went wrong, in our words: nothing of it shows the URI."""
    import asyncssh

    if isinstance(e, asyncssh.HostKeyNotVerifiable):
        return keys.refusal()
    if isinstance(e, asyncssh.PermissionDenied):
        user = f" {where.user!r}" if where.user else ""
        return ConfigError(
            f"{where.shown} did not let user{user} in: wrong user, password or key",
            hint=f"look at {variable('uri')} (write special characters as %XX), {variable('password')}, {variable('ppk_path')}",
        )
    if isinstance(e, asyncssh.KeyExchangeFailed):
        return ConfigError(f"{where.shown}: no common way to encrypt: {e.reason}")
    if isinstance(e, TimeoutError | asyncio.TimeoutError):
        return RetryableError(
            f"{where.shown}: no answer while connecting",
            hint=f"look at host, port and firewall; {variable('timeout')} sets how long to wait",
        )
    if isinstance(e, OSError):
        why = os.strerror(e.errno) if e.errno and e.errno > 0 else (e.strerror or "the name is not known")
        return RetryableError(f"{where.shown} cannot be reached: {why}", hint=f"look at host and port in {variable('uri')}")
    if isinstance(e, asyncssh.ChannelOpenError):
        return ConfigError(f"{where.shown} lets us in, but offers no SFTP")
    if isinstance(e, asyncssh.Error):
        return RetryableError(f"{where.shown}: the connection broke off: {e.reason}")
    return RetryableError(f"{where.shown}: cannot connect ({type(e).__name__})")
