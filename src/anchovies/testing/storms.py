"""The storms that are blown again and again: kills of everybody, and two uploaders that compete for one database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from anchovies.store.base import Store
from anchovies.testing.mariadb import Server
from anchovies.testing.postgres import Cluster
from anchovies.testing.processes import Hatchery
from anchovies.testing.storm import Storm, Trouble
from anchovies.testing.testbed import SCHEMA, World
from anchovies.testing.trouble import MariaTrouble, PostgresTrouble

#: `plain` counts from 1 in every task: too much of the same for a long time
KEPT = ("ints", "a", "b", "whole")


def forget_postgres(url: str) -> None:
    """Nothing of an earlier storm is in the database."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as pg:
        pg.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())


def forget_mariadb(server: Server) -> None:
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=server.port, user="root") as maria, maria.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {SCHEMA}")


@contextmanager
def killing(
    folder: Path,
    seed: int,
    hatchery: Hatchery,
    kills: int,
    postgres: str | None = None,
    datastore: str = "",
    env: Mapping[str, str] | None = None,
    opened: Callable[[], Store] | None = None,
    **more: Any,
) -> Iterator[Storm]:
    """A storm that kills until `kills` are reached, with every database there is, on a folder or on `datastore`."""
    urls = {"duckdb": f"duckdb:///{folder}/x.duckdb", "sqlite": f"sqlite:///{folder}/x.sqlite"}
    if postgres is not None:
        forget_postgres(postgres)
        urls["postgres"] = postgres
    world = World(folder, seed, urls, datastore=datastore, env=env, opened=opened, hatchery=hatchery)
    try:
        yield Storm(world, kills, **{"lanes": ("download", *["to"] * len(urls)), **more})
    finally:
        world.close()


@contextmanager
def competing(
    kind: str, folder: Path, seed: int, hatchery: Hatchery, seconds: float, server: Cluster | Server | None = None, **more: Any
) -> Iterator[Storm]:
    """Two uploaders compete for one database while a downloader goes on producing; a server loses sessions, and crashes."""
    url, trouble = f"{kind}:///{folder}/target.db", cast("Trouble | None", None)
    restart = min(8.0, seconds / 2)
    if isinstance(server, Cluster):
        url, trouble = server.url, PostgresTrouble(server, seed, restart=restart)
        forget_postgres(url)
    elif server is not None:
        url, trouble = server.url, MariaTrouble(server, seed, restart=restart)
        forget_mariadb(server)
    world = World(folder, seed, {kind: url}, hatchery=hatchery, tables=more.pop("tables", KEPT))
    usual: dict[str, Any] = {
        "rate": 600.0,
        "steps": (5, 20, 100, 400),
        "lanes": ("download", "to", "rival"),
        "serving": 0.8,
        "life": (0.3, 2.0),  # long enough a life to load something in
        "trouble": trouble,
    }
    try:
        yield Storm(world, seconds=seconds, shaken=True, **{**usual, **more})
    finally:
        world.close()
