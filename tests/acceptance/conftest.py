"""`anchovy …` as a person types it: a process of its own in an empty folder. Whatever it prints or stores is searched for secrets."""

from __future__ import annotations

import base64
import gzip
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from anchovies.store.open import open_store
from anchovies.testing.buckets import Bucket

#: the password of every test: what must be quoted in a URL is in it, and nobody else writes it
SECRET = "kanarie/9Q%w@rd"
Done = subprocess.CompletedProcess[str]


def spellings(secret: str) -> set[bytes]:
    """The secret as it is, percent-encoded, escaped for JSON, and in base64 whatever stands before it."""
    raw = secret.encode()
    plain = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), secret.replace("/", "\\/")}
    coded = set()
    for before in range(3):
        text = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        coded.add(text[4 if before else 0 : -1 if (before + len(raw)) % 3 else None])
    return {s.encode() for s in plain | coded}


def leaks(data: bytes) -> list[bytes]:
    """Which spellings of the secret are in the bytes."""
    return [s for s in spellings(SECRET) if s in data]


@dataclass
class Anchovy:
    """A folder to work in, a datastore of its own (in it, or in `bucket`), and the command. `env` is added to every call."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    bucket: Bucket | None = None

    @property
    def home(self) -> Path:
        return self.folder / ".anchovies"

    def __call__(
        self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 60, stdin: str = ""
    ) -> Done:
        """Run it. Fails at once if a secret is printed."""
        command = [sys.executable, "-m", "anchovies.cli.main", *args]
        done = subprocess.run(
            command, env={**_clean(self.folder), **self._datastore(), **self.env, **(env or {})}, cwd=cwd or self.folder,
            capture_output=True, text=True, timeout=timeout, input=stdin, check=False,
        )  # fmt: skip
        assert not leaks((done.stdout + done.stderr).encode()), f"a secret was printed:\n{done.stdout}\n{done.stderr}"
        return done

    def ok(self, *args: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> Done:
        """The same, and it must end well."""
        done = self(*args, env=env, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def _datastore(self) -> dict[str, str]:
        return {"ACHVY_DATASTORE": self.bucket.url, **self.bucket.env} if self.bucket else {}

    def config(self, text: str) -> None:
        (self.folder / "config.yaml").write_text(text)

    def objects(self) -> dict[str, bytes]:
        """Everything in the datastore but the lease, which counts the runs that found nothing."""
        if self.bucket:
            with closing(open_store(self.bucket.url, self.bucket.env)) as store:
                return {e.key: store.get(e.key) for e in store.list("") if not e.key.endswith("/lease.json")}
        files = (p for p in self.home.rglob("*") if p.is_file() and p.name not in ("lease.json", "lock"))
        return {p.relative_to(self.home).as_posix(): p.read_bytes() for p in sorted(files)}

    def visible(self) -> dict[str, bytes]:
        """What another anchovy can see: the log's records, and the mirrors of tables and checkpoints."""
        seen = ("/$log/log/", "/$tables/", "/$checkpoints/")
        return {k: v for k, v in self.objects().items() if any(s in f"/{k}" for s in seen)}


def _clean(home: Path) -> dict[str, str]:
    """No variable of ours, a home of its own; a driver must not find a server by itself either."""
    ours = ("ACHVY_", "ANCHY_", "ACHY_", "DATASET_", "XDG_", "PG", "SSH_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {**kept, "HOME": str(home), "LOGNAME": "me", "USER": "me", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def secret() -> str:
    """The password that nothing may print or store."""
    return SECRET


@pytest.fixture
def anchovy(tmp_path: Path) -> Iterator[Anchovy]:
    """The command, in a folder of its own. At the end every object of the datastore is searched for the secret."""
    folder = tmp_path / "work"
    folder.mkdir()
    runner = Anchovy(folder)
    yield runner
    for path in folder.rglob("*"):
        if path.is_file():
            no_secret(str(path.relative_to(folder)), path.read_bytes())
    for key, data in runner.objects().items() if runner.bucket else ():
        no_secret(key, data)


def no_secret(name: str, data: bytes) -> None:
    opened = gzip.decompress(data) if name.endswith(".gz") else data
    assert not leaks(data) and not leaks(opened), f"a secret was stored in {name}"
