"""The main job, as the README types it: SFTP files, a datastore, a database; then everything again, which must do nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

TEXTS = ("carrier", "tailnum", "origin", "dest")
KEYS = {"set_by": "year, month, day", "unique_by": "time_hour, carrier, flight", "sort_by": "-time_hour"}
#: how types are found
TYPES: dict[str, dict[str, Any]] = {
    "declared": {**KEYS, "nulls": "NA", "sort_by": "-time_hour, flight"},
    "autodiscover": {**KEYS, "nulls": "NA", "sort_by": "-time_hour, flight", "autodiscover": True},
    "text": KEYS,
}
DOWNLOAD = ("start", "-op", "sftp.CsvDownloader", "--id", "sales_sftp")
UPLOAD = ("start", "-op", "sql.Uploader", "--id", "warehouse", "-U", "sales_sftp")
SERVERS = ["asyncssh-key", pytest.param("openssh-password", marks=pytest.mark.server)]


def configure(anchovy, how: str, header: list[str]) -> None:  # type: ignore[no-untyped-def]
    table: dict[str, Any] = {"path": "/sales/*.tsv", "delimiter": "/t", **TYPES[how]}
    if how == "declared":
        table["columns"] = {n: "str" if n in TEXTS else "datetime(tz)" if n == "time_hour" else "int" for n in header}
    anchovy.config(yaml.safe_dump({"tbls": {"sales": table}}, sort_keys=False))


def timed(anchovy, *args: str, **env: str) -> tuple[dict[str, Any], float]:  # type: ignore[no-untyped-def]
    began = time.monotonic()
    done = anchovy.ok(*args, "--json", env=env, timeout=300)
    return json.loads(done.stdout), time.monotonic() - began


def done_by(result: dict[str, Any]) -> dict[str, int]:
    """What a run read, kept and committed, where it is not 0."""
    sums = {k: sum(t[k] for t in result["tables"]) for k in ("rows", "kept", "files", "bytes")}
    return {k: v for k, v in {**sums, "commits": result["commits"]}.items() if v}


def walk(anchovy, job, folder: Path, server: str, databases: list[str], how: str) -> list[str]:  # type: ignore[no-untyped-def]
    """The whole road, twice, and the judgement. Returns a line a step: what it took."""
    wanted = job.expected(folder, None if how == "text" else "NA")
    told = []
    with job.serving(server, folder) as (_, env):
        configure(anchovy, how, job.header)
        result, took = timed(anchovy, *DOWNLOAD, **env)
        assert sum(t["rows"] for t in result["tables"]) == wanted.count
        told.append(f"{server}, {how}: {wanted.count:,} rows to the datastore in {took:.1f} s")
        loaded = [job.database(kind) for kind in databases]
        for database in loaded:
            result, took = timed(anchovy, *UPLOAD, ACHVY_CNXN__DB__URL=database.url)
            assert sum(t["rows"] for t in result["tables"]) == wanted.count
            told.append(f"{how}: {wanted.count:,} rows to {database.url.partition(':')[0]} in {took:.1f} s")
            assert job.loaded(database, how != "text") == wanted
            assert database.query(f"SELECT count(*), count(_del), min(_seq) > 0 FROM {database.table}") == [
                (wanted.count, 0, True)
            ]
        before = anchovy.objects()
        assert done_by(timed(anchovy, *DOWNLOAD, **env)[0]) == {}
        for database in loaded:
            assert done_by(timed(anchovy, *UPLOAD, ACHVY_CNXN__DB__URL=database.url)[0]) == {}
            assert job.loaded(database, how != "text") == wanted
        assert anchovy.objects() == before
    return told


@pytest.mark.everywhere
@pytest.mark.parametrize("how", TYPES)
def test_every_database_ends_with_what_the_files_say(anchovy, job, small, how) -> None:  # type: ignore[no-untyped-def]
    walk(anchovy, job, small, "asyncssh-password", ["duckdb", "sqlite"], how)


@pytest.mark.server
def test_servers_too(anchovy, job, small) -> None:  # type: ignore[no-untyped-def]
    walk(anchovy, job, small, "openssh-key", ["duckdb", "sqlite", "postgresql", "mariadb"], "autodiscover")


@pytest.mark.parametrize("server", SERVERS)
def test_both_servers_let_us_in_by_password_and_key(anchovy, job, small, server) -> None:  # type: ignore[no-untyped-def]
    walk(anchovy, job, small, server, [], "declared")


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("server", "how"),
    [
        ("openssh-password", "declared"),
        ("openssh-key", "autodiscover"),
        ("asyncssh-password", "text"),
        ("asyncssh-key", "declared"),
    ],
)
def test_336_776_flights(anchovy, job, real, notes, server, how) -> None:  # type: ignore[no-untyped-def]
    more = ["mariadb"] if server == "openssh-password" else []  # once is enough: it is the slowest
    notes += walk(anchovy, job, real, server, ["duckdb", "sqlite", "postgresql", *more], how)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.everywhere
def test_336_776_flights_wherever_the_datastore_is(anchovy, job, real, notes) -> None:  # type: ignore[no-untyped-def]
    notes += walk(anchovy, job, real, "asyncssh-key", ["duckdb"], "declared")
