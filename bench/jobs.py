"""The jobs: what runs on each side. Each yields `Job`s while its servers are up."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from anchovies.core.clock import SystemClock
from anchovies.core.ids import SystemIds
from anchovies.store.keys import Home
from anchovies.store.local import LocalStore
from anchovies.store.log import Log
from anchovies.store.record import Writer
from bench.data import ONE, ROOT, TEN, TYPES, WORK, flights, sql_columns
from bench.growth import Grower, grown, litter
from bench.measure import BenchError, Goal, Job, Side, once
from bench.servers import Sftp, postgres, sftp

FLOORS = Path(__file__).resolve().parent / "floors"
ANCHOVY = str(Path(sys.executable).parent / "anchovy")
STORE = WORK / "store"
Jobs = Iterator[Job]
COMMITS, FILES = 100_000, 1_000_000  # of J7


def config(name: str, tables: dict[str, dict[str, object]]) -> str:
    """Write a config.yaml; its path."""
    path = WORK / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"tbls": tables}, sort_keys=False))
    return str(path)


def clean(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)


def anchovy(operator: str, anchovy_id: str, store: Path, *more: str) -> list[str]:
    return [ANCHOVY, "start", "-op", operator, "--id", anchovy_id, "--user", "bench", "--datastore", str(store), *more]


def parquet_files(store: Path = STORE) -> list[Path]:
    return sorted(store.glob("bench/source/data/flights/*/*.parquet"))


def expect(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise BenchError(f"{what}: {got} instead of {wanted}; a job that is wrong is not fast")


def kept_rows(store: Path) -> int:
    """Rows in the committed Parquet files, counted by a reader that is not ours."""
    import duckdb

    query = f"select count(*) from read_parquet({[str(p) for p in parquet_files(store)]!r})"
    return int(duckdb.sql(query).fetchall()[0][0])


def download(server: Sftp, store: Path, **table: object) -> Side:
    """flights10 from the SFTP server into a datastore."""
    spec: dict[str, object] = {
        "path": f"{flights()}/*.tsv",
        "delimiter": "tab",
        "columns": dict(TYPES),
        "unique_by": "id",
        **table,
    }
    command = anchovy("sftp.CsvDownloader", "source", store, "--config-file", config(f"download-{store.name}", {"flights": spec}))
    return Side("anchovy start -op sftp.CsvDownloader", command, server.env)


def committed(**table: object) -> Path:
    """A datastore that holds flights10, for the uploads."""
    store = WORK / "store"
    clean(store)
    with sftp(WORK / "sshd") as server:
        once(download(server, store, **table))
    expect("rows committed", kept_rows(store), TEN)
    return store


def upload(url: str, store: Path, *, before: Callable[[], None], after: Callable[[], None]) -> Side:
    """Everything committed into a fresh database; the uploader's own log starts fresh, too."""

    def ground() -> None:
        clean(store / "bench/target")
        before()

    command = anchovy("sql.Uploader", "target", store, "-U", "source")
    return Side("anchovy start -op sql.Uploader", command, {"ACHVY_CNXN__DB__URL": url}, before=ground, after=after)


def j1() -> Jobs:
    """SFTP to committed Parquet."""
    source, got, store = flights(), WORK / "j1-floor", WORK / "j1-store"
    with sftp(WORK / "sshd") as server:
        fetch = (
            f"sftp -q -b - -P {server.port} -i {server.key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
            f" -o LogLevel=ERROR {server.user}@127.0.0.1"
        )
        script = f"echo 'get {source}/*.tsv {got}/' | {fetch} && {sys.executable} {FLOORS}/csv_to_parquet.py {got} {got}"
        floor = Side(
            "sftp get, then polars", ["bash", "-euc", script], before=lambda: (clean(got), got.mkdir())[1],
            after=lambda: expect("files of the floor", len(list(got.glob("*.parquet"))), 10),
        )  # fmt: skip
        ours = download(server, store)
        ours = Side(
            ours.name, ours.command, ours.env, before=lambda: clean(store),
            after=lambda: expect("rows kept", kept_rows(store), TEN),
        )  # fmt: skip
        yield Job("J1", "SFTP (OpenSSH), ten files of flights, to committed Parquet", TEN, floor, ours, Goal(1.3, 1.5, 400))


def j2() -> Jobs:
    """Committed Parquet to PostgreSQL."""
    for mode in ("merge", "scd"):
        store = committed(write=mode)
        with postgres() as pg:
            copies = [
                a
                for p in sorted(flights().glob("*.tsv"))
                for a in ("-c", rf"\copy flights from '{p}' csv delimiter E'\t' header")
            ]
            table = f"create table flights ({sql_columns()}, primary key (id))"
            floor = Side(
                "psql \\copy into a table with its key", [str(pg.bin / "psql"), "-qX1", pg.url("floor"), "-c", table, *copies],
                before=lambda pg=pg: pg.fresh("floor"),
                after=lambda pg=pg: expect("rows", pg.answer("floor", "select count(*) from flights"), str(TEN)),
            )  # fmt: skip
            ours = upload(
                pg.url("ours"), store, before=lambda pg=pg: pg.fresh("ours"),
                after=lambda pg=pg: expect("rows", pg.answer("ours", "select count(*) from source__bench.flights"), str(TEN)),
            )  # fmt: skip
            yield Job("J2", f"committed Parquet to a fresh PostgreSQL table, write: {mode}", TEN, floor, ours, Goal(1.0))


def j5a() -> Jobs:
    """Committed Parquet to DuckDB."""
    import duckdb

    store = committed(write="merge")
    theirs, ours = WORK / "floor.duckdb", WORK / "ours.duckdb"

    def rows(path: Path, table: str) -> None:
        with duckdb.connect(str(path), read_only=True) as db:
            expect("rows", db.sql(f"select count(*) from {table}").fetchall(), [(TEN,)])

    pattern = str(store / "bench/source/data/flights/*/*.parquet")
    floor = Side(
        "CREATE TABLE AS FROM read_parquet", [sys.executable, str(FLOORS / "parquet_to_duckdb.py"), str(theirs), pattern],
        before=lambda: clean(theirs), after=lambda: rows(theirs, "flights"),
    )  # fmt: skip
    side = upload(f"duckdb:///{ours}", store, before=lambda: clean(ours), after=lambda: rows(ours, "source__bench.flights"))
    yield Job("J5a", "committed Parquet to DuckDB", TEN, floor, side, Goal(1.2))


def j5b() -> Jobs:
    """Committed Parquet to SQLite."""
    import sqlite3

    store = committed(write="merge")
    theirs, ours = WORK / "floor.sqlite", WORK / "ours.sqlite"

    def rows(path: Path, table: str) -> None:
        db = sqlite3.connect(path)
        expect("rows", db.execute(f"select count(*) from {table}").fetchone(), (TEN,))
        db.close()

    command = [sys.executable, str(FLOORS / "parquet_to_sqlite.py"), str(theirs), *map(str, parquet_files())]
    floor = Side("ADBC ingest", command, before=lambda: clean(theirs), after=lambda: rows(theirs, "flights"))
    side = upload(f"sqlite:///{ours}", store, before=lambda: clean(ours), after=lambda: rows(ours, "source__bench__flights"))
    yield Job("J5b", "committed Parquet to SQLite", TEN, floor, side, Goal(1.2))


def j6() -> Jobs:
    """Runs with nothing new to do."""
    floor = Side("python -c 'import click, yaml, sqlite3'", [sys.executable, "-c", "import click, yaml, sqlite3"])
    folder, store, target = WORK / "small", WORK / "j6-store", WORK / "j6.sqlite"
    clean(folder, store, target)
    folder.mkdir()
    (folder / "sales.tsv").write_text("id\tname\n1\tone\n2\ttwo\n")
    spec = {"sales": {"path": f"{folder}/*.tsv", "delimiter": "tab", "columns": {"id": "int"}, "unique_by": "id"}}
    settings = config("j6", spec)

    def idle(what: str, command: list[str], env: dict[str, str], limit: float) -> Job:
        side = Side(what, command, env)
        once(side)  # the run that has something to do
        return Job("J6", f"nothing to do: {what}", 0, floor, side, Goal(limit, peak=60))

    files = anchovy("files.CsvDownloader", "local", store, "--config-file", settings)
    yield idle("local files", files, {"ACHVY_CNXN__PATH": "/"}, 2.5)
    with sftp(WORK / "sshd") as server:
        yield idle("SFTP", anchovy("sftp.CsvDownloader", "source", store, "--config-file", settings), server.env, 7)
    yield idle(
        "SQLite", anchovy("sql.Uploader", "lite", store, "-U", "source"), {"ACHVY_CNXN__DB__URL": f"sqlite:///{target}"}, 4
    )
    with postgres() as pg:
        pg.fresh("idle")
        yield idle("PostgreSQL", anchovy("sql.Uploader", "pg", store, "-U", "source"), {"ACHVY_CNXN__DB__URL": pg.url("idle")}, 4)


def j8() -> Jobs:
    """Rows through Python code: a rate, so it is measured over ten files; one file shows what the start-up adds."""
    store = WORK / "j8-store"
    for rows, pattern in ((TEN, "*.tsv"), (ONE, "flights_0.tsv")):
        files = [str(f) for f in sorted(flights().glob(pattern))]
        floor = Side("csv.DictReader, nothing kept", [sys.executable, str(FLOORS / "dict_reader.py"), *files])
        for what, buffer, share in (("Parquet", "parquet", 0.25), ("JSON lines", "jsonl", 0.55)):
            command = anchovy(f"{FLOORS}/rows.py:Rows", "source", store, "--data-buffer-cls", buffer)
            env = {"BENCH_FILES": os.pathsep.join(files)}
            ours = Side("for row in DictReader: yield row", command, env, cwd=ROOT, before=lambda: clean(store))
            yield Job("J8", f"{rows:,} rows as dicts to {what}", rows, floor, ours, Goal(1 / share))


def j7() -> Jobs:
    """Growth: the same run in a home with one commit, and in one with 100,000 commits and a million data files."""
    grower = Grower(Home("bench", "source"), "integers", "last", b"x", 1)
    small, large = grown(WORK / "j7-small", grower, 1), grown(WORK / "j7-large", grower, COMMITS)
    litter(large / "bench/source", "integers", FILES)
    began = time.perf_counter()
    state = Log(
        LocalStore(str(large)), grower.home, clock=SystemClock(), ids=SystemIds(), writer=Writer("h", 1, "s", 1, "0")
    ).load()
    print(f"\nJ7  a log of {state.slot:,} commits opens in {time.perf_counter() - began:.3f} s")

    def side(store: Path, new: str) -> Side:
        what = f"{'one file' if new else 'idle'}, {'1 commit' if store is small else f'{COMMITS:,} commits'}"
        return Side(what, anchovy(f"{FLOORS}/counter.py:Counter", "source", store), {"BENCH_NEW": new}, cwd=ROOT)

    for new, what in (("", "nothing new"), ("1", "one new file")):
        yield Job("J7", f"growth: a run with {what}", 0, side(small, new), side(large, new), Goal(1.2))


def j9() -> Jobs:
    """What stages cost that only pass rows on: five of them, beside none."""
    store = WORK / "j9-store"
    for form, limit in (("dicts", 15), ("arrow", 1.5)):
        env = {"BENCH_FORM": form}
        none, five = (
            Side(what, anchovy(f"{FLOORS}/chain.py:{cls}", "source", store), env, cwd=ROOT, before=lambda: clean(store))
            for what, cls in (("source and sink", "None_"), ("five empty chains between them", "Five"))
        )
        yield Job("J9", f"an empty chain of five stages, a million rows as {form}", 1_000_000, none, five, Goal(limit))


JOBS: dict[str, Callable[[], Jobs]] = {"J1": j1, "J2": j2, "J5a": j5a, "J5b": j5b, "J6": j6, "J7": j7, "J8": j8, "J9": j9}
