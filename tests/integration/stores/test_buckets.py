"""The main job with its datastore in a bucket, by the real command: CSV files, the bucket, SQLite; and killed in the middle of it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anchovies.store.lease import read as read_lease
from anchovies.store.open import open_store
from anchovies.testing import oracle
from anchovies.testing.buckets import Bucket, bucket, missing
from anchovies.testing.testbed import ENTRY, World

KINDS = [pytest.param("s3", marks=pytest.mark.server), pytest.param("az", marks=pytest.mark.server), "gs"]
CONFIG = "tbls:\n  sales: {path: '/*.csv', unique_by: id, columns: {id: int, what: str}}\n"
#: a killed session's lease is believed for two seconds, not for a minute
IMPATIENT = "from anchovies.store import lease as impatient\nimpatient.TTL = 2.0\n"
N = 600


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


@pytest.mark.parametrize("server", KINDS[:2], indirect=True)
def test_a_killed_downloader_is_taken_over_on_another_machine(server: Bucket, tmp_path: Path, seed: int) -> None:
    """Three machines share nothing but the bucket: on one the downloader is killed, on one it goes on where it stopped, and one
    loads all the while. What a machine is for us is its name, and that it has no lock of another's."""
    with closing(open_store(server.url, server.env)) as store:
        file = {"sqlite": f"sqlite:///{tmp_path}/x.sqlite"}
        world = World(tmp_path, seed, file, datastore=server.url, env=server.env, opened=lambda: store)
        try:
            take_over(world)
        finally:
            world.close()


def take_over(world: World) -> None:
    first = world.download(n=N, task=N, pace=0.25, entry=on("reef-1"))
    until(lambda: world.slots() >= 4, first)
    loading = world.upload("sqlite", "--service", "--interval", "0.1", entry=on("reef-3"))
    until(lambda: world.slots("to_sqlite") >= 2, first, loading)
    held = read_lease(world.store, world.home())
    assert (held.host, held.free, os.getpgid(held.pid)) == ("reef-1", False, first.pid)
    assert first.kill(), "it was to be killed in the middle"
    died_at = len(world.records())
    assert len(world.logged()["a"]) < N

    early = world.download(n=N, task=N, entry=on("reef-2"))
    assert early.wait() == 0 and early.result()["status"] == "skipped", early.said
    assert all(word in early.said for word in (held.session, "on reef-1", f"(pid {held.pid})", held.since)), early.said
    assert len(world.records()) == died_at and read_lease(world.store, world.home()).session == held.session

    late = world.download("--if-running", "wait", small=(), n=N, task=N, entry=IMPATIENT + on("reef-2"))
    assert late.wait() == 0, late.said
    lease = read_lease(world.store, world.home())
    assert (lease.host, lease.free) == ("reef-2", True) and lease.since > held.since
    loading.signal(signal.SIGTERM)
    assert loading.wait() == 0, loading.said
    last = world.upload("sqlite", entry=on("reef-3"))
    assert last.wait() == 0, last.said
    world.check_log(N)
    world.check_database("sqlite", N)
    world.check_receipts("sqlite", "to_sqlite", N)

    wrote = [(r.writer.host, r.epoch) for r in world.records()]
    assert wrote == [("reef-1", 1)] * died_at + [("reef-2", 2)] * (len(wrote) - died_at)
    assert {r.writer.host for r in oracle.records(world.store, world.home("to_sqlite"))} == {"reef-3"}


def until(so: Callable[[], bool], *alive: Any) -> None:
    end = time.monotonic() + 60
    while not so():
        assert time.monotonic() < end, "it did not come"
        for run in alive:
            assert run.code is None, run.said
        time.sleep(0.02)


def on(machine: str) -> str:
    """An entry on a machine of that name."""
    return f"import os\nhere = list(os.uname())\nos.uname = lambda: os.uname_result([here[0], {machine!r}, *here[2:]])\n{ENTRY}"
