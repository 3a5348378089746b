"""Databases and datastores that cannot take what they are given."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

UPLOAD = ("start", "-op", "sql.Uploader", "--id", "wh", "-U", "good")
HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); c.sql('CREATE TABLE t(i int)'); print('held', flush=True); sys.stdin.read()"


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("oracle://user:{}@host/db", 2, ("loading into oracle is not built yet", "ACHVY_CNXN__DB__URL", "duckdb:///path")),
        ("host=db password={}", 2, ("its URL names no database", "ACHVY_CNXN__DB__URL")),
        ("duckdb:////nowhere/x.duckdb", 2, ("the folder of the DuckDB file /nowhere/x.duckdb does not exist", "make it")),
        ("sqlite:////nowhere/x.sqlite", 2, ("the folder of the SQLite file /nowhere/x.sqlite does not exist", "make it")),
        ("duckdb:///config.yaml", 2, ("config.yaml is not a DuckDB database", "mend the URL")),
        ("sqlite:///config.yaml", 2, ("config.yaml is not a SQLite database", "mend the URL")),
        ("duckdb:///:memory:", 2, ("in memory nothing would stay",)),
        (None, 2, ("'db'", "set ACHVY_CNXN__DB__URL")),
        pytest.param(
            "postgresql://user:{}@127.0.0.1:1/db", 1, ("127.0.0.1", "does not answer", "host and port"), marks=pytest.mark.slow
        ),
    ],
)
def test_a_database(anchovy, refused, kept, quoted, url, code, says) -> None:  # type: ignore[no-untyped-def]
    refused(*UPLOAD, env={} if url is None else {"ACHVY_CNXN__DB__URL": url.format(quoted)}, code=code, says=says)
    assert {p.name for p in anchovy.folder.iterdir()} == {"config.yaml", ".anchovies"}, "nothing was made"


@pytest.fixture
def quoted(secret: str) -> str:
    from urllib.parse import quote

    return quote(secret, safe="")


def test_postgresql_with_a_wrong_password(refused, kept, quoted, pg_with_password) -> None:  # type: ignore[no-untyped-def]
    url = pg_with_password.replace("postgres@", f"anchovy:{quoted}@")
    refused(*UPLOAD, env={"ACHVY_CNXN__DB__URL": url}, says=("refuses us", "look at user, password and database"))


@pytest.fixture
def pg_with_password() -> Iterator[str]:
    from anchovies.testing import postgres

    if why := postgres.missing():
        pytest.skip(why)
    with postgres.postgres() as url:
        yield url


@contextlib.contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the DuckDB file open."""
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.communicate()


def test_a_held_duckdb_file_is_waited_for_until_the_deadline(anchovy, refused, kept) -> None:  # type: ignore[no-untyped-def]
    path = anchovy.folder / "wh.duckdb"
    env = {"ACHVY_CNXN__DB__URL": "duckdb:///wh.duckdb"}
    with held(path) as process:
        says = ("wh.duckdb is open in another process", f"process {process.pid}", "waiting")
        refused(*UPLOAD, "-t", "2", env=env, code=(1, 3), says=says)
    assert "loaded sales 2 rows" in anchovy.ok(*UPLOAD, env=env).stderr


@pytest.mark.slow
def test_a_duckdb_file_that_is_given_back_in_time(anchovy, kept) -> None:  # type: ignore[no-untyped-def]
    """Longer than the eight attempts that anything else gets."""
    import threading

    env = {"ACHVY_CNXN__DB__URL": "duckdb:///wh.duckdb"}
    with held(anchovy.folder / "wh.duckdb") as process:
        free = threading.Timer(16, process.kill)
        free.start()
        try:
            assert "loaded sales 2 rows" in anchovy.ok(*UPLOAD, "-t", "90", env=env, timeout=100).stderr
        finally:
            free.join()


def test_a_locked_sqlite_file(anchovy, refused, kept) -> None:  # type: ignore[no-untyped-def]
    with contextlib.closing(sqlite3.connect(anchovy.folder / "wh.sqlite")) as db:
        db.execute("CREATE TABLE t(i)")
        db.execute("BEGIN EXCLUSIVE")
        env = {"ACHVY_CNXN__DB__URL": "sqlite:///wh.sqlite"}
        refused(*UPLOAD, "-t", "3", env=env, code=(1, 3), says=("wh.sqlite is in use by another process", "waiting"))
        db.rollback()
    assert "loaded sales 2 rows" in anchovy.ok(*UPLOAD, env=env).stderr


# ---- datastores


@contextlib.contextmanager
def mounted(options: str) -> Iterator[Path]:
    """A tmpfs, for root alone."""
    if os.geteuid() != 0:
        pytest.skip("mounts a tmpfs: run as root (CI does)")
    with tempfile.TemporaryDirectory(prefix="anchovy-mnt-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


@pytest.mark.server
def test_a_datastore_that_is_read_only(anchovy, refused, table, sftp) -> None:  # type: ignore[no-untyped-def]
    table("good")
    with mounted("ro") as folder:
        args = ("start", "-op", "sftp.CsvDownloader", "--id", "dl", "--datastore", f"{folder}/store")
        refused(*args, env=sftp, code=1, says=(str(folder), "Read-only file system", "mount it writable"))


@pytest.mark.server
def test_a_full_disk_keeps_whole_units_only(anchovy, sftp) -> None:  # type: ignore[no-untyped-def]
    """First a file that fits, then one that does not: the first stays, the second leaves nothing; with space it goes on."""
    big = anchovy.folder / "big.tsv"
    big.write_text("id\tname\n" + "".join(f"{i}\t{i * 7919 % 1000003}\n" for i in range(60_000)))
    anchovy.config("tbls:\n  small: {path: /bad/good.tsv, delimiter: /t}\n")
    with mounted("size=300k") as folder:
        anchovy.ok("start", "-op", "sftp.CsvDownloader", "--id", "dl", "--datastore", str(folder), env=sftp)
        before = _log(folder)
        anchovy.config("tbls:\n  big: {path: big.tsv, delimiter: /t}\n")
        args = ("start", "-op", "files.CsvDownloader", "--id", "dl", "--datastore", str(folder))
        for _ in range(2):
            done = anchovy(*args, env={"ACHVY_CNXN__PATH": str(anchovy.folder)})
            assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
            assert "No space left on device" in done.stderr and "free space there" in done.stderr
            assert _log(folder) == before
            assert not list(folder.glob("*/dl/data/big/*/*")), "an orphan takes the space that is needed"
        subprocess.run(["mount", "-o", "remount,size=10m", str(folder)], check=True)
        assert "committed big 60,000 rows" in anchovy.ok(*args, env={"ACHVY_CNXN__PATH": str(anchovy.folder)}).stderr


def _log(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.glob("*/*/$log/log/*/*")}
