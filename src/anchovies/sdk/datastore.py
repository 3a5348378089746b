"""What a plugin needs that brings a datastore: `from anchovies.sdk.datastore import Store`.

A plugin names its datastores in `PLUGIN["datastores"]`, scheme → `module:callable`. The callable gets an `Address` and returns a
`Store`. `anchovies.testing.datastore.DatastoreSuite` says whether it is one.
"""

from anchovies.core.errors import (
    AlreadyExists,
    AnchovyError,
    ConfigError,
    CorruptDatastore,
    FatalError,
    NotFound,
    RetryableError,
    StoreUnavailable,
)
from anchovies.store.base import Address, Entry, OsLock, Store
from anchovies.store.memory import check_key

__all__ = [
    "Address",
    "AlreadyExists",
    "AnchovyError",
    "ConfigError",
    "CorruptDatastore",
    "Entry",
    "FatalError",
    "NotFound",
    "OsLock",
    "RetryableError",
    "Store",
    "StoreUnavailable",
    "check_key",
]
