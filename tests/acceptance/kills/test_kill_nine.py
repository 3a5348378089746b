"""`kill -9` at any moment, again and again: each row arrives, once."""

from __future__ import annotations

from typing import Any

import pytest

from anchovies.testing.storm import Storm


@pytest.mark.server
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(30, id="short"),
        pytest.param(500, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(420)]),
    ],
)
def test_killed_downloaders_and_uploaders(wide_world: Any, hatchery: Any, notes: list[str], kills: int) -> None:
    wide_world.hatchery = hatchery
    storm = Storm(wide_world, kills)
    storm.blow()
    notes.append(f"local, {storm}")
    assert storm.killed >= kills
