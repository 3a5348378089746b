"""Where an SFTP server is, read from its URI, and the key to it."""

from __future__ import annotations

import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from anchovies.sdk import ConfigError, Secret


class Address(msgspec.Struct, frozen=True):
    """`sftp://user:password@host:port/base`, percent-decoded. `base` is "" where the URI has no path."""

    host: str
    port: int = 22
    user: str | None = None
    password: Secret | None = None
    base: str = ""

    @property
    def shown(self) -> str:
        """Host and port; never the user or the password."""
        return self.host if self.port == 22 else f"{self.host}:{self.port}"

    @property
    def known_as(self) -> str:
        """As known_hosts writes it."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"


def parse_uri(uri: Secret) -> Address:
    """Raises ConfigError that never shows the URI: it may hold a password."""
    try:
        parts = urlsplit(uri.reveal().strip())
        port = parts.port or 22
    except ValueError:
        raise _wrong("its host or port cannot be read; write special characters of a password as %XX") from None
    if parts.scheme != "sftp":
        raise _wrong("it does not begin with sftp://")
    if not parts.hostname:
        raise _wrong("it names no host")
    if parts.query or parts.fragment:
        raise _wrong("it has a '?' or '#'; in a password write them as %3F and %23")
    return Address(
        parts.hostname,
        port,
        unquote(parts.username) if parts.username else None,
        Secret(unquote(parts.password)) if parts.password else None,
        unquote(parts.path).rstrip("/"),
    )


def parse_host(text: str) -> Address:
    """`HOST`, `HOST:PORT`, `[HOST]:PORT` or a whole URI."""
    return parse_uri(Secret(text if "://" in text else f"sftp://{text}"))


def _wrong(why: str) -> ConfigError:
    return ConfigError(
        f"the sftp connection's URI is not right: {why}", hint="it looks like this: sftp://user:password@example.com:22/folder"
    )


def check_key_file(path: str) -> Path:
    """The key file, if it is there, is private and is no PuTTY file. Raises ConfigError with the command that mends it."""
    found = Path(path).expanduser()
    try:
        mode = found.stat().st_mode
        with found.open("rb") as file:
            head = file.read(64)
    except OSError as e:
        raise ConfigError(f"the key file {found} cannot be read: {e.strerror}", hint="look at PPK_PATH") from None
    if head.startswith(b"PuTTY-User-Key-File"):
        out = found.with_suffix(".key")
        raise ConfigError(
            f"{found} is a PuTTY key; OpenSSH's format is needed",
            hint=f"convert it with: puttygen {found} -O private-openssh -o {out}  and set PPK_PATH to {out}",
        )
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"the key file {found} can be read by others", hint=f"chmod 600 {found}")
    return found
