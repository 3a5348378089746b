"""The parts of the main job: flights as files, two SFTP servers with two ways in, three databases, and a judge that uses none of it."""

from __future__ import annotations

import csv
import importlib.util
import io
import random
import sqlite3
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncssh
import pytest

from anchovies.testing import mariadb as maria
from anchovies.testing import postgres as pg
from anchovies.testing.buckets import Bucket, Kind, bucket, missing
from anchovies.testing.servers import SftpServer, asyncssh_server, openssh_server, why_no_openssh

ROOT = Path(__file__).resolve().parents[3]
COLUMNS = (
    "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay carrier flight tailnum origin dest "
    "air_time distance hour minute time_hour"
)
HEADER = COLUMNS.split()
Row = tuple[str | None, ...]


#: where the datastore is: the same tests, and the same results, in a folder and in a bucket of each kind
FOLDER = "folder"
BUCKETS = {"s3": [pytest.mark.server], "az": [pytest.mark.server], "gs": []}
SERVER = [pytest.mark.slow, pytest.mark.server]
DATABASES = {"duckdb": [], "sqlite": [pytest.mark.slow], "postgresql": SERVER, "mariadb": SERVER}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a `database` runs with each; one marked `everywhere` also with its datastore in buckets, there with DuckDB."""
    everywhere = metafunc.definition.get_closest_marker("everywhere") is not None
    more = [pytest.mark.stage("stores"), pytest.mark.slow]
    buckets = [(kind, [*marks, *more]) for kind, marks in BUCKETS.items() if everywhere]
    if "database" in metafunc.fixturenames:
        pairs = [pytest.param(FOLDER, database, marks=marks) for database, marks in DATABASES.items()]
        pairs += [pytest.param(kind, "duckdb", marks=marks) for kind, marks in buckets]
        metafunc.parametrize(("anchovy", "database"), pairs, indirect=True)
    elif everywhere:
        places = [FOLDER, *(pytest.param(kind, marks=marks) for kind, marks in buckets)]
        metafunc.parametrize("anchovy", places, indirect=True)


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[Kind], Bucket]]:
    """One server of each kind for all tests."""
    with ExitStack() as stack:

        @cache
        def running(kind: Kind) -> Bucket:
            return stack.enter_context(bucket(kind))

        yield running


@pytest.fixture
def anchovy(anchovy: Any, request: pytest.FixtureRequest, servers: Callable[[Kind], Bucket]) -> Any:
    """The command with its datastore where the test wants it, in a bucket below a prefix of its own."""
    kind = getattr(request, "param", FOLDER)
    if kind != FOLDER:
        if why := missing(kind):
            pytest.skip(why)
        anchovy.bucket = servers(kind).below(f"main job/{zlib.crc32(request.node.nodeid.encode())}")
    return anchovy


# ---- the source


def like_flights(count: int, seed: int = 7) -> list[list[str]]:
    """Rows shaped like the flights: small and large integers, `NA`, codes, an instant; one row a (time_hour, carrier, flight)."""
    r = random.Random(seed)
    rows, start = [], datetime(2013, 1, 1, tzinfo=UTC)
    for n in range(count):
        at = start + timedelta(hours=n * 4)
        flown = r.random() > 0.03
        times = [str(r.randrange(1, 2400)) if flown else "NA" for _ in range(2)]
        delays = [str(r.randrange(-40, 900)) if flown else "NA" for _ in range(2)]
        dep, arr = (str(r.randrange(0, 2400)) for _ in range(2))
        tail = f"N{r.randrange(100, 999)}JB" if r.random() > 0.01 else "NA"
        last = [str(r.randrange(20, 700)) if flown else "NA", str(r.randrange(17, 4983)), str(at.hour), str(r.randrange(60))]
        rows.append(
            [str(at.year), str(at.month), str(at.day), times[0], dep, delays[0], times[1], arr, delays[1], r.choice(["UA", "B6", "9E"]),
             str(r.randrange(1, 8500)), tail, r.choice(["EWR", "JFK", "LGA"]), r.choice(["IAH", "MIA", "BQN"]), *last,
             at.strftime("%Y-%m-%dT%H:%M:%SZ")]
        )  # fmt: skip
    return rows


def real_flights() -> list[list[str]]:
    """The 336,776 flights, as the benches fetch them: once, by their hash, into a folder that git does not see."""
    spec = importlib.util.spec_from_file_location("bench_data", ROOT / "bench" / "data.py")
    assert spec and spec.loader
    data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data)
    header, *rows = csv.reader(io.StringIO(data.csv_text()))
    assert header == HEADER and len(rows) == data.ONE
    return rows


def write_files(folder: Path, rows: Iterable[list[str]]) -> Path:
    """One TSV file a month in `folder/sales`, readable by every system user."""
    sales = folder / "sales"
    sales.mkdir(parents=True)
    months: dict[str, list[list[str]]] = {}
    for row in rows:
        months.setdefault(f"{row[0]}-{int(row[1]):02}", []).append(row)
    for month, lines in months.items():
        (sales / f"{month}.tsv").write_text("\n".join("\t".join(x) for x in [HEADER, *lines]) + "\n")
    return folder


@contextmanager
def _public() -> Iterator[Path]:
    """A folder that every system user may enter: OpenSSH reads it as the one who logs in, and pytest closes its own to others."""
    with tempfile.TemporaryDirectory(prefix="anchovy-flights-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def small() -> Iterator[Path]:
    with _public() as folder:
        yield write_files(folder, like_flights(2_000))


@pytest.fixture(scope="session")
def real() -> Iterator[Path]:
    with _public() as folder:
        yield write_files(folder, real_flights())


# ---- the servers


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id"
    made = asyncssh.generate_private_key("ssh-ed25519")
    made.write_private_key(str(path))
    made.write_public_key(f"{path}.pub")
    path.chmod(0o600)
    return path


@contextmanager
def serving(kind: str, folder: Path, key: Path, secret: str) -> Iterator[tuple[SftpServer, dict[str, str]]]:
    """`asyncssh-password`, `openssh-key`, …: the server, and the environment that reads it, as the README writes it."""
    server, by = kind.split("-")
    if server == "openssh" and (why := why_no_openssh(password=by == "password")):
        pytest.skip(why)
    line = Path(f"{key}.pub").read_text() if by == "key" else None
    password = secret if by == "password" else None
    make: Callable[..., Any] = asyncssh_server if server == "asyncssh" else openssh_server
    extra = {"user": "user"} if server == "asyncssh" else {}
    with make(folder, password=password, authorized_key=line, **extra) as running:
        login = quote(secret, safe="") if password else None
        env = {"ACHVY_CNXN__URI": running.uri(login), "ACHVY_CNXN__HOST_KEY": running.fingerprint}
        yield running, env if password else {**env, "ACHVY_CNXN__PPK_PATH": str(key)}


# ---- the databases


@dataclass(frozen=True)
class Database:
    """A fresh database. `query(sql)` asks it with its driver; the uploader's code has no part in that."""

    url: str
    table: str
    moment: str = "time_hour"  # with its zone

    def text(self, value: str) -> str:
        return f"CAST({value} AS {'char' if self.url.startswith('mariadb') else 'text'})"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        if self.url.startswith("duckdb"):
            import duckdb

            with duckdb.connect(self.url.removeprefix("duckdb:///"), read_only=True) as db:
                db.sql("SET TimeZone = 'UTC'")
                return db.sql(sql).fetchall()
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as db:
                return db.execute(sql).fetchall()
        if self.url.startswith("mariadb"):
            return by_pymysql(self.url, sql)
        import psycopg

        with psycopg.connect(self.url) as server:
            server.execute("SET TimeZone = 'UTC'")
            return list(server.execute(sql))


def by_pymysql(url: str, sql: str) -> list[tuple[Any, ...]]:
    import pymysql

    with pymysql.connect(
        host="127.0.0.1", port=urlsplit(url).port or 0, user="root", local_infile=False, autocommit=True
    ) as server:
        cursor = server.cursor()
        cursor.execute("SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'")
        cursor.execute(sql)
        return list(cursor.fetchall())


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    if why := maria.missing():
        pytest.skip(why)
    with maria.mariadb() as port:
        yield f"mariadb://root@127.0.0.1:{port}/mysql"


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    if why := pg.missing():
        pytest.skip(why)
    with pg.postgres() as url:
        yield url


def fresh(kind: str, folder: Path, request: pytest.FixtureRequest) -> Database:
    if kind == "duckdb":
        return Database(f"duckdb:///{folder}/warehouse.duckdb", "sales_sftp__me.sales")
    if kind == "sqlite":
        return Database(f"sqlite:///{folder}/warehouse.sqlite", "sales_sftp__me__sales")
    if kind == "mariadb":
        url = request.getfixturevalue("mariadb_url")
        by_pymysql(url, "DROP DATABASE IF EXISTS sales_sftp__me")  # the positions lie in it too
        return Database(url, "sales_sftp__me.sales", "time_hour || '+00:00'")
    import psycopg

    url = request.getfixturevalue("server_url")
    name = f"t{zlib.crc32(str(folder).encode())}"
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")
    return Database(urlsplit(url)._replace(path=f"/{name}").geturl(), "sales_sftp__me.sales")


# ---- the judge


@dataclass(frozen=True)
class Sum:
    """How many rows, a checksum a column, and one over the rows; the order of the rows does not count."""

    count: int
    columns: tuple[int, ...]
    rows: int


def checksum(rows: Iterable[tuple[Any, ...]]) -> Sum:
    """Over the canonical text of each value: integers without zeros, instants in UTC to the second, null as None."""
    memo: dict[Any, str] = {}
    columns: list[Counter[str]] = []
    count = total = 0
    for row in rows:
        texts = [memo[v] if v in memo else memo.setdefault(v, canonical(v)) for v in row]
        columns = columns or [Counter() for _ in texts]
        for column, text in zip(columns, texts, strict=True):
            column[text] += 1
        total += zlib.crc32("\x1f".join(texts).encode()) ** 2
        count += 1
    sums = (sum(zlib.crc32(t.encode()) ** 2 * n for t, n in c.items()) for c in columns)
    return Sum(count, tuple(s % 2**64 for s in sums), total % 2**64)


def canonical(value: Any) -> str:
    if value is None:
        return "\0null"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def source_rows(folder: Path, nulls: str | None) -> Iterator[Row]:
    """What the files say, read by Python's csv module alone."""
    for path in sorted((folder / "sales").glob("*.tsv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                yield tuple(None if row[n] == nulls else row[n] for n in HEADER)


class Job:
    """What the tests use: `serving(kind, folder)`, `database(kind)`, `expected(folder, null)`, `loaded(database)`."""

    header = HEADER

    def __init__(self, request: pytest.FixtureRequest, folder: Path, key: Path, secret: str) -> None:
        self._request, self._folder, self._key, self._secret = request, folder, key, secret

    def serving(self, kind: str, folder: Path) -> AbstractContextManager[tuple[SftpServer, dict[str, str]]]:
        return serving(kind, folder, self._key, self._secret)

    def database(self, kind: str) -> Database:
        return fresh(kind, self._folder, self._request)

    def expected(self, folder: Path, nulls: str | None) -> Sum:
        return checksum(source_rows(folder, nulls))

    def loaded(self, database: Database, instants: bool) -> Sum:
        """`instants`: `time_hour` is one; it comes as a text (SQLite has none, DuckDB's need pytz), and is compared as an instant."""
        moment = database.text(database.moment if instants else "time_hour")
        rows: Iterable[tuple[Any, ...]] = database.query(
            f"SELECT {', '.join(HEADER[:-1])}, {moment} FROM {database.table} WHERE _del IS NULL"
        )
        if instants:
            rows = ((*row[:-1], datetime.fromisoformat(row[-1])) for row in rows)
        return checksum(rows)


@pytest.fixture
def job(request: pytest.FixtureRequest, tmp_path: Path, key: Path, secret: str) -> Job:
    return Job(request, tmp_path, key, secret)
