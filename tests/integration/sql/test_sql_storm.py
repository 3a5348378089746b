"""Two uploaders that compete for one database while a downloader goes on producing; all of them killed, stopped and cut off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from anchovies.testing.mariadb import Server, server
from anchovies.testing.mariadb import missing as no_mariadb
from anchovies.testing.postgres import Cluster, cluster, missing
from anchovies.testing.storm import Storm
from anchovies.testing.storms import competing
from anchovies.testing.testbed import ENTRY

MARKED: list[tuple[str, Any]] = [
    ("duckdb", ()),
    ("sqlite", ()),
    ("postgres", pytest.mark.server),
    ("mariadb", pytest.mark.server),
]
KINDS = [pytest.param(kind, marks=marks) for kind, marks in MARKED]
#: seconds of a long storm; `make chaos` blows for hours
SECONDS = float(os.environ.get("ANCHOVIES_STORM_SECONDS") or 60)


@pytest.fixture(scope="module")
def maria() -> Iterator[Server]:
    if reason := no_mariadb():
        pytest.skip(reason)
    with server() as made:
        yield made


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    if reason := missing("tcp"):
        pytest.skip(reason)
    with cluster() as made:
        yield made


@pytest.fixture
def storm(request: pytest.FixtureRequest, tmp_path: Path, seed: int, hatchery: Any) -> Iterator[Any]:
    """`storm(kind, seconds, **more)`."""
    with ExitStack() as stack:

        def make(kind: str, seconds: float, **more: Any) -> Storm:
            names = {"postgres": "postgres", "mariadb": "maria"}
            made = request.getfixturevalue(names[kind]) if kind in names else None
            return stack.enter_context(competing(kind, tmp_path, seed, hatchery, seconds, made, **more))

        yield make


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_storm(storm: Any, notes: list[str], kind: str) -> None:
    blown = storm(kind, 4)
    blown.blow()
    notes.append(f"{kind}: {blown}")
    assert blown.killed > 0


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.parametrize("kind", KINDS)
def test_a_long_storm(storm: Any, notes: list[str], kind: str) -> None:
    blown = storm(kind, SECONDS)
    blown.blow()
    notes.append(f"{kind}: {blown}")
    assert blown.killed >= SECONDS
    if kind in ("postgres", "mariadb"):
        assert blown.counts["backend kills"] >= SECONDS
        assert blown.counts["immediate restarts"] >= SECONDS // 15


UNLOOKED = "nobody looks where the position is"
#: Each takes one rule out, and waits a moment where that hurts.
BROKEN = {
    "the position moves in a second transaction": """
import time
from anchovies.plugins.sql import position
whole = position.advance
def advance(db, *args):
    db.commit()
    time.sleep(0.4)
    db.begin()
    whole(db, *args)
position.advance = advance
""",
    UNLOOKED: """
import time
from anchovies.plugins.sql import position
whole = position.claim
def claim(*args):
    time.sleep(0.05)
    return whole(*args)
position.claim, position.check = claim, lambda *args: None
""",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "broken"),
    # a DuckDB file has one process at a time, from the look at the position to the commit: there the second rule cannot be missed
    [
        pytest.param(kind, broken, marks=marks)
        for kind, marks in MARKED
        for broken in BROKEN
        if (kind, broken) != ("duckdb", UNLOOKED)
    ],
)
def test_a_storm_sees_what_is_broken(storm: Any, kind: str, broken: str) -> None:
    """In tables without a key, which nothing but the position keeps whole."""
    calmer: dict[str, Any] = {"trouble": None, "life": (0.3, 3.0), "looks": 1.0}
    blown = storm(kind, 15, entry=BROKEN[broken] + ENTRY, tables=("ints", "whole"), **calmer)
    with pytest.raises(AssertionError, match=rf"{kind}, (ints|whole)"):
        blown.blow()
