"""From what a person writes to a datastore."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import import_module
from urllib.parse import unquote, urlsplit

from anchovies.core.env import connections_from, read_environment
from anchovies.core.errors import ConfigError
from anchovies.core.faultpoint import armed
from anchovies.core.registry import add_current_folder, datastore_opener
from anchovies.store.base import Address, Store
from anchovies.store.local import LocalStore
from anchovies.store.memory import MemoryStore, check_key
from anchovies.store.proven import Proven

#: the connection whose attributes open the datastore: `ACHVY_CNXN__DATASTORE__…`
CONNECTION = "datastore"
_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def open_store(url: str, env: Mapping[str, str] | None = None, patience: float | None = None) -> Store:
    """The datastore at a path (`~` is the home folder), `file://…`, `memory://name`, or of a plugin's scheme, `s3://bucket/prefix`.

    Nothing is touched. `env`: where its login is looked for, by default this process's environment; `patience`: how long what
    runs may take, in seconds. Raises ConfigError.
    """
    store = _opened(url, env, patience)
    if armed():  # a fault point beside each request
        pointed: Store = import_module("anchovies.store.faultpoints").FaultPoints(store)
        return pointed
    return store


def _opened(url: str, env: Mapping[str, str] | None, patience: float | None) -> Store:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    if scheme is None:
        return _local(url, url)
    kind = scheme[1].lower()
    rest = url[scheme.end() :]
    if kind == "file":
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise ConfigError(f"the datastore {url!r} names a host", hint="write file:///path (three slashes), or the path alone")
        return _local(unquote(parts.path), url)
    if kind == "memory":
        return MemoryStore.named(rest.strip("/"))
    return _from_plugin(kind, rest, read_environment() if env is None else env, patience)


def _from_plugin(kind: str, rest: str, env: Mapping[str, str], patience: float | None) -> Store:
    add_current_folder()
    opener = datastore_opener(kind)
    place, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if not _PLACE.fullmatch(place):  # it is not repeated: people write logins there
        raise ConfigError(
            f"the datastore {kind}://… names no bucket",
            hint=f"write {kind}://bucket/prefix; logins and hosts are set by ACHVY_CNXN__DATASTORE__…, see `anchovy plugin`",
        )
    if prefix:
        check_key(prefix)
    attributes = connections_from(env).get(CONNECTION, {})
    opened = opener(Address(kind, place, prefix, attributes, patience))
    if not isinstance(opened, Store):
        raise ConfigError(f"what opens {kind}:// returned no datastore, but a {type(opened).__name__}")
    return Proven(opened)


def _local(path: str, url: str) -> LocalStore:
    if not path.strip() or "\0" in path:
        raise ConfigError(f"the datastore {url!r} is not a path", hint="name a folder: --datastore /path")
    folder = os.path.expanduser(path)
    above = folder
    while not os.path.lexists(above) and os.path.dirname(above) != above:
        above = os.path.dirname(above)
    if os.path.lexists(above) and not os.path.isdir(above):
        raise ConfigError(f"the datastore {url}: {above} is no folder", hint="name a folder: --datastore /path", path=above)
    return LocalStore(folder)
