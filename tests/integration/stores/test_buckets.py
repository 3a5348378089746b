"""The main job with its datastore in a bucket, by the real command: CSV files, the bucket, SQLite; and killed in the middle of it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anchovies.store.open import open_store
from anchovies.testing.buckets import Bucket, bucket, missing
from anchovies.testing.testbed import ENTRY, World

KINDS = [pytest.param("s3", marks=pytest.mark.server), pytest.param("az", marks=pytest.mark.server), "gs"]
CONFIG = "tbls:\n  sales: {path: '/*.csv', unique_by: id, columns: {id: int, what: str}}\n"
#: a killed session's lease is believed for two seconds, not for a minute
IMPATIENT = f"from anchovies.store import lease as impatient\nimpatient.TTL = 2.0\n{ENTRY}"
N = 120


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    if why := missing(request.param):
        pytest.skip(why)
    with bucket(request.param) as running:
        yield running.below("some/prefix")


@pytest.fixture
def anchovy(tmp_path: Path, server: Bucket) -> Callable[..., dict[str, Any]]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ACHVY_", "AWS_", "AZURE_", "GOOGLE_"))}
    env = {**clean, **server.env, "ACHVY_DATASTORE": server.url, "LOGNAME": "me", "PYTHONDONTWRITEBYTECODE": "1"}
    (tmp_path / "config.yaml").write_text(CONFIG)

    def run(*args: str, **more: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "anchovies.cli.main", "start", *args, "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=env | more, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        said = {server.attributes.get(name) for name in ("SECRET", "TOKEN", "KEY")} - {None}
        assert said and not [s for s in said if str(s) in done.stdout + done.stderr], "a secret was printed"
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def objects(server: Bucket) -> dict[str, bytes]:
    """All but the leases, which count the runs that found nothing."""
    with closing(open_store(server.url, server.env)) as store:
        return {e.key: store.get(e.key) for e in store.list("") if not e.key.endswith("/lease.json")}


@pytest.mark.parametrize("server", KINDS, indirect=True)
def test_the_main_job(anchovy: Callable[..., dict[str, Any]], server: Bucket, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rows = [(n, f"fish {n}") for n in range(300)]
    for part in range(3):
        text = "".join(f"{n},{what}\n" for n, what in rows[part * 100 : part * 100 + 100])
        (source / f"{part}.csv").write_text("id,what\n" + text)
    database = tmp_path / "x.sqlite"
    download = {"args": ("-op", "files.CsvDownloader", "-i", "sales"), "env": {"ACHVY_CNXN__PATH": str(source)}}
    upload = {
        "args": ("-op", "sql.Uploader", "-i", "warehouse", "-U", "sales"),
        "env": {"ACHVY_CNXN__DB__URL": f"sqlite:///{database}"},
    }

    def both() -> list[int]:
        return [anchovy(*job["args"], **job["env"])["commits"] for job in (download, upload)]  # type: ignore[misc]

    assert min(both()) > 0
    with closing(sqlite3.connect(database)) as db:
        table = db.execute("SELECT name FROM sqlite_master WHERE name LIKE '%sales'").fetchone()[0]
        assert db.execute(f"SELECT id, what FROM {table} ORDER BY id").fetchall() == rows
        before = objects(server)
        assert before and both() == [0, 0] and objects(server) == before
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (len(rows),)


@pytest.mark.server
@pytest.mark.parametrize("server", ["s3"], indirect=True)
def test_a_killed_downloader_is_taken_over(server: Bucket, tmp_path: Path, seed: int) -> None:
    """Three processes share nothing but the bucket: one is killed, one goes on where it stopped, one loads all the while."""
    with closing(open_store(server.url, server.env)) as store:
        world = World(
            tmp_path,
            seed,
            {"sqlite": f"sqlite:///{tmp_path}/x.sqlite"},
            datastore=server.url,
            env=server.env,
            opened=lambda: store,
        )
        try:
            first = world.download(n=N, pace=0.1)
            end = time.monotonic() + 60
            while world.slots() < 4:
                assert time.monotonic() < end and first.code is None, first.said
                time.sleep(0.02)
            loading = world.upload("sqlite")
            assert first.kill(), "it was to be killed in the middle"
            first.wait()
            assert loading.wait() == 0, loading.said
            assert len(world.logged().get("a", [])) < N
            other = world.download("--if-running", "wait", n=N, entry=IMPATIENT)
            assert other.wait() == 0, other.said
            last = world.upload("sqlite")
            assert last.wait() == 0, last.said
            world.check_log(N)
            world.check_database("sqlite", N)
        finally:
            world.close()
