"""From what a person writes to a datastore."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from urllib.parse import unquote, urlsplit

from anchovies.core.errors import ConfigError
from anchovies.core.faultpoint import armed
from anchovies.store.base import Store
from anchovies.store.local import LocalStore
from anchovies.store.memory import MemoryStore

_LATER = {"s3": "s3", "az": "azblob", "gs": "gcs"}


def _with_fault_points(open_: Callable[[str], Store]) -> Callable[[str], Store]:
    """What `open_` opens, with a fault point beside each request where ACHVY_FAULT armed this process."""

    @wraps(open_)
    def opened(url: str) -> Store:
        store = open_(url)
        if armed():
            pointed: Store = import_module("anchovies.store.faultpoints").FaultPoints(store)
            return pointed
        return store

    return opened


@_with_fault_points
def open_store(url: str) -> Store:
    """The datastore at a path (`~` is the home folder), `file://…` or `memory://name`. Nothing is touched. Raises ConfigError."""
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
    if kind in _LATER:
        raise ConfigError(
            f"{kind}:// datastores come with the plugin {_LATER[kind]!r}, which is not built yet",
            hint="use a folder: --datastore /path",
        )
    raise ConfigError(f"no datastore is called {kind}://", hint="a path, file://, memory:// (later s3://, az://, gs://)")


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
