"""`kill -9` at any moment, again and again: each row arrives, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anchovies.testing.storms import killing


@pytest.mark.server
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(30, id="short"),
        pytest.param(500, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(420)]),
    ],
)
def test_killed_downloaders_and_uploaders(
    tmp_path: Path, seed: int, hatchery: Any, database: str, notes: list[str], kills: int
) -> None:
    with killing(tmp_path, seed, hatchery, kills, database) as storm:
        storm.blow()
    notes.append(f"local, {storm}")
    assert storm.killed >= kills
