"""Anchovies as real processes that can be killed, stopped and started twice; a datastore and three databases that know the answer."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anchovies.testing.faultmatrix import Matrix
from anchovies.testing.postgres import missing, postgres
from anchovies.testing.testbed import SCHEMA, World


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with postgres() as url:
        yield url


@pytest.fixture
def database(server: str) -> Iterator[str]:
    """An empty PostgreSQL database's URL."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as pg:
        pg.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())
    yield server


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """URLs of the two databases that are files."""
    return {"duckdb": f"duckdb:///{tmp_path}/x.duckdb", "sqlite": f"sqlite:///{tmp_path}/x.sqlite"}


@pytest.fixture
def world(tmp_path: Path, seed: int, files: dict[str, str]) -> Iterator[World]:
    made = World(tmp_path, seed, files)
    yield made
    made.close()


@pytest.fixture
def wide_world(world: World, database: str) -> World:
    """With PostgreSQL."""
    world.urls["postgres"] = database
    return world


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait until something is so."""

    def wait(so: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not so():
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.01)

    return wait


@pytest.fixture
def matrix(hatchery: Any) -> Iterator[Callable[..., Matrix]]:
    """`matrix(url, files)`; its folders lie in memory where that can be, since a killed process needs no disk."""
    made: list[Matrix] = []
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base, prefix="anchovies-") as folder:

        def make(url: str = "", files: dict[str, str] | None = None) -> Matrix:
            made.append(Matrix(Path(folder), hatchery, url, files))
            return made[0]

        yield make
        for m in made:
            m.close()
