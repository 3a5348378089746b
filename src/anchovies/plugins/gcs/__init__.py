"""Datastores in Google Cloud Storage: `--datastore gs://bucket/prefix`."""

from __future__ import annotations

from typing import Any

from anchovies.plugins._buckets.connection import BucketConnection, open_bucket
from anchovies.sdk import Secret, attr
from anchovies.sdk.datastore import Address, Store

PLUGIN = {
    "name": "gcs",
    "summary": "Datastores in Google Cloud Storage: --datastore gs://bucket/prefix",
    "extra": "gcs",
    "requires": ["obstore"],
    "operators": {},
    "connections": {
        "GcsConnection": "the bucket of the datastore: ACHVY_CNXN__DATASTORE__KEY_FILE, …; else GOOGLE_APPLICATION_CREDENTIALS"
    },
    "datastores": {"gs": "anchovies.plugins.gcs:open_datastore"},
    "commands": {},
}


class GcsConnection(BucketConnection):
    """A bucket. Without a key: Google's usual variables, its application default login, or the machine's service account."""

    key: Secret | None = attr(
        "JSON key of a service account (KEY_FILE: its file)", default=None, aliases=("service_account_key",)
    )
    token: Secret | None = attr("bearer token", default=None, aliases=("bearer_token",))

    def config(self) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if self.key is not None:
            said["service_account_key"] = self.key.reveal()
        if self.token is not None:
            said["bearer_token"] = self.token.reveal()
        if self.endpoint:
            said["base_url"] = self.endpoint
        if self.anonymous:
            said["skip_signature"] = True
        return said

    def client(self, place: str, **options: Any) -> Any:
        from obstore.store import GCSStore

        return GCSStore(place, **options)


def open_datastore(address: Address) -> Store:
    return open_bucket(GcsConnection, address)


__all__ = ["PLUGIN", "GcsConnection", "open_datastore"]
