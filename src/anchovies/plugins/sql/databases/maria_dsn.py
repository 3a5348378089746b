"""What a MariaDB URL means to the driver, and what it means when the server does not let us in."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from anchovies.sdk import ConfigError, RetryableError

LOCAL = ("", "localhost", "127.0.0.1", "::1")


def options(url: str, connection: str) -> dict[str, Any]:
    """What the driver is told. TLS is checked wherever the server is not this machine."""
    parts = urlsplit(url)
    query = {k: v[-1] for k, v in parse_qs(parts.query).items()}
    if unknown := sorted(query.keys() - {"ssl_ca", "ssl_mode", "unix_socket"}):
        raise ConfigError(
            f"connection {connection!r}: nobody knows {unknown[0]!r} in its URL",
            hint="there are ssl_ca, ssl_mode and unix_socket",
        )
    try:
        port = parts.port or 3306
    except ValueError:
        raise ConfigError(f"connection {connection!r}: the port of its URL is no number") from None
    database = unquote(parts.path.lstrip("/"))
    if not database:
        raise ConfigError(
            f"connection {connection!r}: its URL names no database", hint="mysql://user:password@host:3306/database; any will do"
        )
    told: dict[str, Any] = {
        "host": parts.hostname or "localhost", "port": port, "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""), "database": database, "charset": "utf8mb4", "autocommit": True,
        "connect_timeout": 10, "read_timeout": 3600, "write_timeout": 900, "local_infile": True, "program_name": "anchovies",
        "client_flag": 2,  # FOUND_ROWS: a row that is set to what it was counts
    }  # fmt: skip
    if "unix_socket" in query:
        return told | {"unix_socket": query["unix_socket"]}
    if query.get("ssl_mode", "").lower() != "disabled" and ("ssl_ca" in query or parts.hostname not in LOCAL):
        told["ssl"] = ssl.create_default_context(cafile=query.get("ssl_ca"))
    return told


def refused(e: Exception, where: str, connection: str) -> Exception:
    code, text = (e.args[0], str(e.args[1])) if len(e.args) > 1 else (0, str(e))
    if code in (1044, 1045, 1049, 1698):
        return ConfigError(
            f"connection {connection!r}: {where} refuses us: {text}", hint="look at user, password and database in its URL"
        )
    return RetryableError(
        f"connection {connection!r}: {where} does not answer: {text}", hint="is it running? Look at host and port in its URL"
    )
