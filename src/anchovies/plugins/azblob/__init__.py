"""Datastores in Azure Blob Storage: `--datastore az://container/prefix`."""

from __future__ import annotations

from typing import Any

from anchovies.plugins._buckets.connection import BucketConnection, open_bucket
from anchovies.sdk import Secret, attr
from anchovies.sdk.datastore import Address, Store

PLUGIN = {
    "name": "azblob",
    "summary": "Datastores in Azure Blob Storage: --datastore az://container/prefix",
    "extra": "azblob",
    "requires": ["obstore"],
    "operators": {},
    "connections": {
        "AzureConnection": "the container of the datastore: ACHVY_CNXN__DATASTORE__ACCOUNT, …; else AZURE_STORAGE_ACCOUNT_NAME, …"
    },
    "datastores": {"az": "anchovies.plugins.azblob:open_datastore"},
    "commands": {},
}


class AzureConnection(BucketConnection):
    """A container of a storage account. Without a key: Azure's usual variables, or the machine's managed identity."""

    account: str | None = attr("storage account, else AZURE_STORAGE_ACCOUNT_NAME", default=None, aliases=("account_name",))
    key: Secret | None = attr("access key of the account", default=None, aliases=("account_key", "access_key"))
    sas: Secret | None = attr("shared access signature", default=None, aliases=("sas_token", "sas_key"))
    token: Secret | None = attr("bearer token", default=None, aliases=("bearer_token",))
    tenant: str | None = attr("tenant of a service principal", default=None, aliases=("tenant_id",))
    client_id: str | None = attr("id of a service principal", default=None)
    client_secret: Secret | None = attr("secret of a service principal", default=None, aliases=("secret",))

    def config(self) -> dict[str, Any]:
        secrets = {"account_key": self.key, "sas_key": self.sas, "token": self.token, "client_secret": self.client_secret}
        said: dict[str, Any] = {k: v.reveal() for k, v in secrets.items() if v is not None}
        plain = {"account_name": self.account, "tenant_id": self.tenant, "client_id": self.client_id, "endpoint": self.endpoint}
        said.update({k: v for k, v in plain.items() if v})
        for name, kind in _KINDS.items():  # which of them counts, whatever else the environment holds
            if name in said:
                said["credential_type"] = kind
                break
        if self.anonymous:
            said["skip_signature"] = True
        return said

    def client(self, place: str, **options: Any) -> Any:
        from obstore.store import AzureStore

        return AzureStore(place, **options)


_KINDS = {"account_key": "access_key", "sas_key": "sas_token", "token": "bearer_token", "client_secret": "client_secret"}


def open_datastore(address: Address) -> Store:
    return open_bucket(AzureConnection, address)


__all__ = ["PLUGIN", "AzureConnection", "open_datastore"]
