"""Datastores in S3 and in what speaks like it: `--datastore s3://bucket/prefix`."""

from __future__ import annotations

from typing import Any

from anchovies.plugins._buckets.connection import BucketConnection, open_bucket
from anchovies.sdk import Secret, attr
from anchovies.sdk.datastore import Address, ConfigError, Store

PLUGIN = {
    "name": "s3",
    "summary": "Datastores in S3 buckets: --datastore s3://bucket/prefix",
    "extra": "s3",
    "requires": ["obstore"],
    "operators": {},
    "connections": {"S3Connection": "the bucket of the datastore: ACHVY_CNXN__DATASTORE__KEY, …; else AWS_ACCESS_KEY_ID, …"},
    "datastores": {"s3": "anchovies.plugins.s3:open_datastore"},
    "commands": {},
}


class S3Connection(BucketConnection):
    """An S3 bucket. Without a key: AWS's usual variables, a web identity, or the machine's own role."""

    key: Secret | None = attr("access key id", default=None, aliases=("access_key_id", "access_key"))
    secret: Secret | None = attr("secret access key", default=None, aliases=("secret_access_key", "secret_key"))
    token: Secret | None = attr("session token, with temporary keys", default=None, aliases=("session_token",))
    region: str | None = attr("region, else AWS_REGION, else us-east-1", default=None)

    def config(self) -> dict[str, Any]:
        said: dict[str, Any] = {"disable_bulk_delete": True}  # not every server has it
        if self.endpoint:
            said["endpoint"] = self.endpoint
        if self.region:
            said["region"] = self.region
        if self.anonymous:
            said["skip_signature"] = True
        return said

    def client(self, place: str, **options: Any) -> Any:
        from obstore.store import S3Store

        if (self.key is None) != (self.secret is None):
            missing = "secret" if self.secret is None else "key"
            raise ConfigError(f"a key and a secret go together: set {self.variable(missing)}", hint=self.takes())
        if self.key is None or self.secret is None:
            return S3Store(place, **options)
        login: Any = {
            "access_key_id": self.key.reveal(),
            "secret_access_key": self.secret.reveal(),
            "token": self.token.reveal() if self.token else None,
            "expires_at": None,
        }
        # not as settings: obstore would mix them with a session token of the environment, which belongs to another key
        return S3Store(place, credential_provider=lambda: login, **options)


def open_datastore(address: Address) -> Store:
    return open_bucket(S3Connection, address)


__all__ = ["PLUGIN", "S3Connection", "open_datastore"]
