"""`kill -9` at any moment, with the datastore in a bucket: no lock of the system helps there, only the log does."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anchovies.store.open import open_store
from anchovies.testing.buckets import bucket, missing
from anchovies.testing.storms import killing

KILLS = 60


@pytest.mark.server
@pytest.mark.stage("stores")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_downloaders_and_uploaders(tmp_path: Path, seed: int, hatchery: Any, database: str, notes: list[str]) -> None:
    if reason := missing("s3"):
        pytest.skip(reason)
    with bucket("s3") as made, closing(open_store(made.url, made.env)) as store:
        there = {"datastore": made.url, "env": made.env, "opened": lambda: store}
        # the dead one's lease is held until its time is over: nobody waits for that here, so the living are fenced instead
        with killing(tmp_path, seed, hatchery, KILLS, database, lease=False, shaken=True, **there) as storm:
            storm.blow()
            notes.append(f"s3, {storm}")
    assert storm.killed >= KILLS
