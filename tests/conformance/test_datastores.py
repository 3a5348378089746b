"""Every datastore of our own does what a datastore must do."""

from __future__ import annotations

from pathlib import Path

import pytest

from anchovies.store.base import Store
from anchovies.store.local import LocalStore
from anchovies.store.memory import MemoryStore
from anchovies.store.open import open_store
from anchovies.testing.datastore import DatastoreSuite


class TestMemoryStore(DatastoreSuite):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestLocalStore(DatastoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore(str(tmp_path / "root"))


class TestFileUrl(DatastoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(f"file://{tmp_path}/deep/er/root")
