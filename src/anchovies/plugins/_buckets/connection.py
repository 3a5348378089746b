"""What is set for every bucket: where the server is, how long it may take, and whether to log in at all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from anchovies.plugins._buckets.store import BucketStore
from anchovies.sdk import Connection, attr
from anchovies.sdk.datastore import Address, ConfigError, Store

_HERE = ("127.0.0.1", "localhost", "::1")
#: obstore tries for three minutes if it is let; we try ourselves, and know the deadline
_TRIES, _TRYING = 2, 20.0


class BucketConnection(Connection):
    """The base of the three. Its variables are `ACHVY_CNXN__DATASTORE__…`."""

    endpoint: str | None = attr(
        "URL of the server, where it is not the cloud's own", default=None, aliases=("endpoint_url", "url")
    )
    allow_http: bool = attr("talk to a server without TLS; one on this machine needs no such leave", default=False)
    anonymous: bool = attr("do not log in: for public buckets", default=False)
    timeout: float = attr("seconds that one request may take; an execution timeout shortens it", default=60.0)
    connect_timeout: float = attr("seconds until a connection must stand", default=5.0)

    def config(self) -> dict[str, Any]:
        """obstore's settings but for those that follow; what is not set here it reads from the cloud's usual variables."""
        return {}

    def client(self, place: str, **options: Any) -> Any:
        """The store of obstore's."""
        raise ConfigError(f"{type(self).__name__} opens nothing", hint="a plugin's own class does")

    def options(self, patience: float | None) -> dict[str, Any]:
        """How the client behaves: three attempts must end well inside `patience`."""
        timeout = self.timeout if patience is None else min(self.timeout, max(1.0, patience / 4))
        return {
            "client_options": {
                "allow_http": self._http(),
                "connect_timeout": timedelta(seconds=min(self.connect_timeout, timeout)),
                "timeout": timedelta(seconds=timeout),
                "user_agent": "anchovies",
            },
            "retry_config": {
                "max_retries": _TRIES,
                "retry_timeout": timedelta(seconds=min(_TRYING, timeout)),
                "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
            },
        }

    def _http(self) -> bool:
        parts = urlsplit(self.endpoint or "")
        if parts.username or parts.password or parts.query:
            raise ConfigError(f"{self.variable('endpoint')} holds a login", hint=f"set it apart; {self.takes()}")
        if parts.scheme not in ("", "http", "https") or (self.endpoint and not parts.netloc):
            raise ConfigError(f"{self.variable('endpoint')} is no http(s):// URL", hint="such as https://host:9000")
        if parts.scheme == "http" and not self.allow_http and parts.hostname not in _HERE:
            raise ConfigError(
                f"{self.variable('endpoint')} has no TLS: everybody between here and there can read and change the data",
                hint=f"use https://, or allow it: {self.variable('allow_http')}=true",
            )
        return parts.scheme == "http" or self.allow_http

    def takes_variables(self) -> str:
        """One sentence: where a login is looked for."""
        names = ", ".join(self.variable(n) for n, (k, _) in self.attributes().items() if n not in BucketConnection.attributes())
        return f"a login comes from {names}, or the cloud's usual variables"


def open_bucket(cls: type[BucketConnection], address: Address) -> Store:
    """The datastore at `address`; nothing is asked of the server yet. Raises ConfigError for settings that cannot be."""
    connection = cls(id="datastore", **address.attributes)
    options = connection.options(address.patience)
    try:
        client = connection.client(address.place, config=connection.config(), **options)
    except ConfigError:
        raise
    except Exception as e:  # its text may hold a key
        raise ConfigError(
            f"{address.url}: these settings cannot be used ({type(e).__name__})", hint=connection.takes_variables()
        ) from None
    return BucketStore(address.url, address.prefix, client, connection.takes_variables())
