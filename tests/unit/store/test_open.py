"""From what a person writes to a datastore."""

from __future__ import annotations

from pathlib import Path

import pytest

from anchovies.core.errors import ConfigError
from anchovies.store.local import LocalStore
from anchovies.store.memory import MemoryStore
from anchovies.store.open import open_store
from anchovies.store.proven import Proven


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for url, path in {
        "~/x": tmp_path / "x",
        "./rel/y": tmp_path / "rel/y",
        str(tmp_path / "a b"): tmp_path / "a b",
        f"file://{tmp_path}/a%20b": tmp_path / "a b",
        f"file://localhost{tmp_path}": tmp_path,
    }.items():
        store = open_store(url)
        assert isinstance(store, LocalStore) and store.root == str(path.resolve())
    assert list(tmp_path.iterdir()) == [], "nothing is touched"


def test_memory_is_shared_by_its_name() -> None:
    one = open_store("memory://tests-open")
    assert isinstance(one, MemoryStore) and one is open_store("memory://tests-open")
    assert open_store("memory://") is not open_store("memory://")


@pytest.mark.parametrize(
    ("url", "is_called"),
    [("s3://bucket/x/y/", "s3://bucket/x/y"), ("az://bucket", "az://bucket"), ("GS://bucket", "gs://bucket")],
)
def test_buckets(url: str, is_called: str) -> None:
    env = {"ACHVY_CNXN__DATASTORE__ENDPOINT": "http://127.0.0.1:9", "ACHVY_CNXN__DATASTORE__ANONYMOUS": "true"}
    store = open_store(url, env | ({"ACHVY_CNXN__DATASTORE__ACCOUNT": "me"} if url.startswith("az") else {}))
    assert isinstance(store, Proven) and store.url == is_called, "nothing is asked of the server yet"


@pytest.mark.parametrize(
    ("url", "env", "says"),
    [
        ("s3://", {}, "names no bucket"),
        ("s3://user:hunter2@bucket/x", {}, "names no bucket"),
        ("s3://bucket/../x", {}, ""),
        ("s3://bucket", {"ENDPOINT": "http://example.org"}, "has no TLS"),
        ("s3://bucket", {"ENDPOINT": "https://u:hunter2@example.org"}, "holds a login"),
        ("s3://bucket", {"ENDPOINT": "example.org"}, "is no http"),
        ("s3://bucket", {"KEY": "hunter2"}, "SECRET"),
        ("az://bucket", {"ACCOUNT": "me", "KEY": "hunter2"}, "cannot be used"),
        ("gs://bucket", {"KEY": "hunter2"}, "cannot be used"),
        ("s4://bucket", {}, "no datastore is called s4://"),
    ],
)
def test_buckets_refused(url: str, env: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as e:
        open_store(url, {f"ACHVY_CNXN__DATASTORE__{k}": v for k, v in env.items()})
    assert says in str(e.value) and "hunter2" not in f"{e.value} {e.value.hint}"


@pytest.mark.parametrize("url", ["", "  ", "a\0b", "ftp://x", "file://host/path", "postgresql://u:p@h/db"])
def test_refused(url: str) -> None:
    with pytest.raises(ConfigError) as e:
        open_store(url)
    assert "u:p" not in str(e.value)
