"""From what a person writes to a datastore."""

from __future__ import annotations

from pathlib import Path

import pytest

from anchovies.core.errors import ConfigError
from anchovies.store.local import LocalStore
from anchovies.store.memory import MemoryStore
from anchovies.store.open import open_store


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


@pytest.mark.parametrize(("url", "plugin"), [("s3://b/x", "s3"), ("az://c", "azblob"), ("GS://b", "gcs")])
def test_later(url: str, plugin: str) -> None:
    with pytest.raises(ConfigError, match=f"'{plugin}', which is not built yet"):
        open_store(url)


@pytest.mark.parametrize("url", ["", "  ", "a\0b", "ftp://x", "file://host/path", "postgresql://u:p@h/db"])
def test_refused(url: str) -> None:
    with pytest.raises(ConfigError) as e:
        open_store(url)
    assert "u:p" not in str(e.value)
