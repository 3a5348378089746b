"""Data buffers: any rows of any types come back, and formats are found without loading them all."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchovies.core.arrow import schema_of, to_arrow
from anchovies.core.errors import ConfigError, FatalError
from anchovies.core.schema import rows_to_batch
from anchovies.core.types import ColType, parse_type
from anchovies.store.buffers import Buffer, buffer_for_ext, buffer_named
from anchovies.store.buffers.parquet import GROUP_ROWS
from anchovies.testing.buffer import joined, same

naive = st.datetimes().map(lambda t: t.replace(fold=0))
values: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "bool": st.booleans(),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(),
    "str": st.text(),
    "bytes": st.binary(),
    "date": st.dates(),
    "time": st.times().map(lambda t: t.replace(fold=0)),
    "datetime": naive,
    "datetime(tz)": naive.map(lambda t: t.replace(tzinfo=UTC)),
    "decimal(18,2)": st.decimals(-(10**15), 10**15, places=2),
    "decimal(38,38)": st.decimals("-0.9", "0.9", places=38),
    "decimal(76,30)": st.decimals(-(10**45), 10**45, places=30),
    "uuid": st.uuids(),
    "json": st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    ),
}


@st.composite
def columns(draw: st.DrawFn) -> tuple[ColType, list[Any]]:
    kind = draw(st.sampled_from(sorted(values)))
    value = st.none() | values[kind]
    t = parse_type(kind)
    for _ in range(draw(st.integers(0, 2))):
        value = st.none() | st.lists(value, max_size=3)
        t = ColType("list", item=t)
    return t, draw(st.lists(value, min_size=5, max_size=5))


@pytest.mark.parametrize("name", ["parquet", "jsonl"])
@settings(deadline=None)
@given(made=st.lists(columns(), min_size=1, max_size=4), cut=st.integers(0, 5))
def test_random_tables_come_back(name: str, made: list[tuple[ColType, list[Any]]], cut: int) -> None:
    types = {f"c{i}": t for i, (t, _) in enumerate(made)}
    batch = rows_to_batch([dict(zip(types, row, strict=True)) for row in zip(*(v for _, v in made), strict=True)], types)
    buffer = buffer_named(name)
    writer = buffer.writer(batch.schema)
    writer.write(batch.slice(0, cut))
    writer.write(batch.slice(cut))
    assert same(joined(list(buffer.read(writer.finish()))), batch)


def test_json_lines_are_what_they_say() -> None:
    batch = rows_to_batch([{"n": 1, "at": datetime(2026, 1, 1, 0, 0, 0, 5), "d": {"a": [1]}}, {"n": None}])
    writer = buffer_named("jsonl").writer(batch.schema)
    writer.write(batch)
    lines = [json.loads(line) for line in gzip.decompress(writer.finish()).splitlines()]
    assert lines == [
        {"anchovies": 0, "columns": [["n", "int"], ["at", "datetime"], ["d", "json"]]},
        [1, "2026-01-01 00:00:00.000005", '{"a":[1]}'],
        [None, None, None],
    ]


def test_dates_beyond_the_calendar_of_python_come_back_from_json_lines() -> None:
    types = {"d": parse_type("date"), "t": parse_type("datetime"), "z": parse_type("datetime(tz)")}
    numbers = [pa.array([-(2**30), 0, None, 2**31 - 1], pa.int32()), *[pa.array([-(2**62), 0, None, 2**62], pa.int64())] * 2]
    arrays = [a.cast(to_arrow(t)) for a, t in zip(numbers, types.values(), strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema_of(types))
    writer = buffer_named("jsonl").writer(batch.schema)
    writer.write(batch)
    assert joined(list(buffer_named("jsonl").read(writer.finish()))).equals(batch)


@pytest.mark.parametrize("line", [b"[1,2]", b"{}", b'["x"]', b"[1.5]", b"[", b'{"n":1}'])
def test_damaged_json_lines_are_refused(line: bytes) -> None:
    data = gzip.compress(b'{"anchovies":0,"columns":[["n","int"]]}\n' + line + b"\n")
    with pytest.raises(ValueError, match="not a JSON lines file"):
        list(buffer_named("jsonl").read(data))


def test_a_cut_gzip_file_is_refused() -> None:
    writer = buffer_named("jsonl").writer(schema_of({"n": parse_type("int")}))
    writer.write(rows_to_batch([{"n": n} for n in range(1000)]))
    with pytest.raises(ValueError, match="not a JSON lines file"):
        list(buffer_named("jsonl").read(writer.finish()[:-9]))


def test_parquet_has_row_groups_of_bounded_size_whatever_is_written() -> None:
    schema = schema_of({"n": parse_type("int")})
    writer = buffer_named("parquet").writer(schema)
    for size in [*[100] * 50, 300_000, 7]:
        writer.write(pa.record_batch([pa.array(range(size))], schema=schema))
    meta = pq.read_metadata(pa.BufferReader(writer.finish()))
    sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
    assert sum(sizes) == 305_007 and max(sizes) <= GROUP_ROWS and len(sizes) <= 5
    assert meta.row_group(0).column(0).compression == "ZSTD"


def test_other_tools_read_our_parquet(tmp_path: Any) -> None:
    duckdb = pytest.importorskip("duckdb")
    batch = rows_to_batch([{"n": 1, "z": datetime(2026, 1, 1, tzinfo=UTC), "j": {"a": 1}, "s": "é"}])
    writer = buffer_named("parquet").writer(batch.schema)
    writer.write(batch)
    path = tmp_path / "x.parquet"
    path.write_bytes(writer.finish())
    with duckdb.connect() as con:
        assert con.sql(f"select n, epoch_us(z), j, s from read_parquet('{path}')").fetchall() == [
            (1, 1767225600000000, '{"a":1}', "é")
        ]


def test_buffers_are_found_by_name_by_path_and_by_extension() -> None:
    for name in ("parquet", "JSONL", "anchovies.store.buffers.parquet:ParquetBuffer"):
        assert isinstance(buffer_named(name), Buffer)
    for name in ("parquet", "jsonl"):
        assert buffer_for_ext(buffer_named(name).ext).name == name
    with pytest.raises(FatalError, match="csv"):
        buffer_for_ext("csv")


@pytest.mark.parametrize("name", ["", "csv", "no.such:Thing", "json:nothing", "json:JSONDecoder", "os:path"])
def test_what_is_no_buffer_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        buffer_named(name)


def test_arrow_is_loaded_only_for_rows() -> None:
    code = (
        "import sys, anchovies.store.buffers, anchovies.store.datafile, anchovies.core.shape; sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
