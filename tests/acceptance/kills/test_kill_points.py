"""Every fault point, with every action, in real processes: killed there, failed there, held up there; then whatever was begun is
finished by undisturbed runs, and each row is there once.

Which points a scenario comes to is found out by running it; the whole matrix fails if a point that the code has was never hit.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import msgspec
import pytest

from anchovies.core.clock import SystemClock
from anchovies.core.ids import SystemIds
from anchovies.core.tbl import Column, Tbl
from anchovies.core.tblconfig import tbl_to_json
from anchovies.core.types import parse_type
from anchovies.engine.rejected import rejected
from anchovies.store.buffers import buffer_named
from anchovies.store.datafile import read_file, write_file
from anchovies.store.disk import Disk
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.lease import LeaseInfo
from anchovies.store.local import TMP, LocalStore
from anchovies.store.log import Log
from anchovies.store.record import Change, Checkpoints, CheckpointValue, Writer
from anchovies.testing.faultmatrix import Matrix, N, Place, Scenario, registered, run_cases

SLOTS, RETIRED = 1030, 500
HOME = Home("t", "oracle")

#: A source of acknowledgements, and one with a ledger so large that its record needs a manifest and its snapshot needs parts.
MORE = """
import os
from oracle import counted
from anchovies.sdk import Downloader, context, on_ack, source

FAR = "x" * 150


class Acked(Downloader):
    @source("ints")
    def ints(self, **kwds):
        for row in counted("ints"):
            yield row
            context().ack(str(row["i"] if isinstance(row, dict) else row.column("i")[-1].as_py()))

    @on_ack
    def told(self, tokens, **kwds):
        with open("told", "a") as f:
            f.writelines(f"{t}\\n" for t in tokens)


class Ledgered(Downloader):
    @source("ints")
    def ints(self, **kwds):
        ledger, n = context().ledger("seen"), int(os.environ["ORACLE_N"])
        for i in range(1, n + 1):
            if ledger.get(f"{i}{FAR}") is None:
                yield {"i": i}
                ledger.put(f"{i}{FAR}", {"i": i})
"""
#: Beats come soon enough for a short run.
BEATS = "from anchovies.store import lease\nlease.BEAT = 0.01\n"
MAINTAIN = f"""
import os
from anchovies.core.clock import SystemClock
from anchovies.core.env import read_environment
from anchovies.core.ids import SystemIds
from anchovies.store import cursors
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.maintain import Maintainer
from anchovies.store.open import open_store
from anchovies.store.record import Writer
read_environment()
store, home = open_store(os.environ["ACHVY_HOME"]), Home("t", "oracle")
uuid = Reader(store, home).state().store
cursors.write(store, home, cursors.Cursor("t/x", uuid, [cursors.Seen("ints", "x", {RETIRED}, "")]))
assert cursors.read(store, home, "t/x").store == uuid
who = Writer(host="h", pid=1, session="maintain", batch=0, version="0")
report = Maintainer(store, home, SystemClock(), SystemIds(), who).run(retain=0.0)
print(report.files, report.parts, report.swept)
"""


class QuickDisk(Disk):
    """For building a log: nothing of it has to last."""

    def fsync(self, fd: int) -> None:
        return


def right_log(place: Place, n: int = N, ends: tuple[int, ...] = ()) -> None:
    place.settled(lambda: place.download(n=n))
    place.world.check_log(n, ends)


def right_upload(place: Place) -> None:
    place.settled(lambda: place.upload())
    place.world.check_database(place.kind, N)
    place.world.check_receipts(place.kind, f"to_{place.kind}", N)


def some_sessions(place: Place) -> None:
    for n in (3, 6, 9, 11):  # so many that there are snapshots to delete
        assert place.download(n=n)[0] == 0


def foreign(place: Place) -> None:
    """A lease of another host, long ago, and its lock is free."""
    some_sessions(place)
    lease = place.world.root / HOME.lease
    held = msgspec.json.decode(lease.read_bytes(), type=LeaseInfo)
    lease.write_bytes(msgspec.json.encode(msgspec.structs.replace(held, free=False, host="elsewhere")))
    os.utime(lease, (1, 1))


def files(place: Place) -> None:
    (place.folder / "inbox").mkdir()
    for k in range(3):
        rows = "".join(f"{i}\n" for i in range(1 + 10 * k, 11 + 10 * k))
        (place.folder / f"inbox/{k}.csv").write_text(f"i\n{rows}bad\n")
    (place.folder / "files.yaml").write_text("tbls:\n  ints: {path: '*.csv', columns: {i: int}, on_bad_row: reject}\n")


def right_files(place: Place) -> None:
    place.settled(lambda: place.download(operator="files.CsvDownloader"))
    assert place.numbers() == list(range(1, 31))
    assert [(r["file"], r["line"]) for r in rejected(place.world.store, HOME)] == [(f"{k}.csv", 12) for k in range(3)]


def shop(place: Place) -> None:
    (place.folder / "shop.yaml").write_text("tbls:\n  ints: {incremental: i}\n")
    with closing(sqlite3.connect(place.folder / "x.sqlite")) as db, db:
        db.execute("CREATE TABLE ints (i INTEGER PRIMARY KEY)")
        db.executemany("INSERT INTO ints VALUES (?)", [(i,) for i in range(1, N + 1)])


def right_reading(place: Place) -> None:
    place.settled(lambda: place.download(operator="sql.Downloader"))
    assert place.numbers() == list(range(1, N + 1))


def right_acks(place: Place) -> None:
    place.settled(lambda: place.download(operator="./more.py:Acked"))
    assert place.numbers() == list(range(1, N + 1))
    told = {int(t) for t in (place.folder / "told").read_text().split()}
    assert told <= set(range(1, N + 1)) and max(told) == N
    assert Reader(place.world.store, HOME).state().ack_pending == []


def right_ledger(place: Place, n: int) -> None:
    place.settled(lambda: place.download(operator="./more.py:Ledgered", n=n))
    assert place.numbers() == list(range(1, n + 1))
    assert len(Reader(place.world.store, HOME).state().ledgers["seen"]) == n


LEDGER = 6500


def with_parts(place: Place) -> None:
    assert place.download(operator="./more.py:Ledgered", n=LEDGER)[0] == 0


def without_snapshot(place: Place) -> None:
    """The next session has to read the long record itself."""
    with_parts(place)
    for snapshot in (place.world.root / HOME.snapshots).iterdir():
        snapshot.unlink()


def right_polls(place: Place) -> None:
    place.settled(lambda: place.upload("oracle", "other"))
    place.world.check_database(place.kind, N)


def two_upstreams(place: Place) -> None:
    for who in ("oracle", "other"):
        assert place.run("start", "-op", "./oracle.py:Ints", "--config-file", "tables.yaml", "-i", who)[0] == 0
    for _ in range(2):
        assert place.upload("oracle", "other")[0] == 0


def long_log(place: Place) -> None:
    """More than a page of commits, and what killed sessions have left between them."""
    store = LocalStore(str(place.world.root), disk=QuickDisk())
    clock, ids, buffer = SystemClock(), SystemIds(), buffer_named("jsonl")
    who = Writer(host="h", pid=1, session="s", batch=1, version="0")
    for first, last in ((1, 1020), (1021, SLOTS)):
        log = Log(store, HOME, clock=clock, ids=ids, writer=who)
        log.load()
        for i in range(first, last + 1):
            key = log.new_data_key("ints", buffer.ext)
            encoder = buffer.writer(_schema())
            encoder.write(_batch(i))
            types = {"i": parse_type("int")}
            file = write_file(store, key, "ints", encoder.finish(), rows=1, types=types, cuts=[0])
            done = Checkpoints(set={"ints": CheckpointValue(i, ["ints"])})
            log.append(Change(files=[file], checkpoints=done, tables=TABLES))
        if last < SLOTS:  # the page is whole after that: who comes next keeps it as a segment
            log.finish()
    left = HOME.data("ints", 0, 1, "left", "jsonl.gz"), HOME.rejects("ints", 0, 1, "left")
    for key in (*left, HOME.manifest(0, 1, "left"), HOME.shard(1, "0" * 64)):
        store.put(key, b"left over")
    (place.world.root / TMP / "left").write_bytes(b"x")


TABLES = {"ints": tbl_to_json(Tbl("ints", columns=(Column("i", parse_type("int")),)))}


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema([("i", pa.int64())])


def _batch(i: int) -> Any:
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([{"i": i}], schema=_schema())


def right_maintained(place: Place) -> None:
    place.settled(lambda: place.run(code=MAINTAIN))
    code, said = place.run(code=MAINTAIN)
    assert (code, said.split()) == (0, ["0", "0", "0"]), said
    store = place.world.store
    records = list(Reader(store, HOME).records(0, ""))
    files = [f for r in records if r.slot > RETIRED for f in r.change.files]
    assert all(read_file(store, f) for f in files) and len(files) == SLOTS - RETIRED
    assert {e.key for e in store.list(HOME.data_root)} == {f.path for f in files}
    place.settled(lambda: place.download("-e", "ints", n=SLOTS + 5))
    assert Reader(store, HOME).state().checkpoints["ints"].value == SLOTS + 5


def right_far_behind(place: Place) -> None:
    place.settled(lambda: place.upload())
    assert place.world.count("sqlite", "ints") == (SLOTS, SLOTS, SLOTS)


def maintained(place: Place) -> None:
    long_log(place)
    code = MAINTAIN.replace("run(retain=0.0)", "run()")
    assert place.run(code=code)[0] == 0


UPLOADED = ("sql.", "target.", "connection.open.after", "commit.after", "data.get")


def uploads(kind: str) -> Scenario:
    return Scenario(
        f"upload-{kind}", lambda p, f: p.upload(fault=f), right_upload, lambda p: p.download(), kind=kind, always=UPLOADED
    )


SCENARIOS = (
    Scenario("fresh", lambda p, f: p.download(fault=f, code=BEATS), right_log),
    Scenario("again", lambda p, f: p.download(fault=f), lambda p: right_log(p, ends=(3, 6, 9, 11)), some_sessions),
    Scenario("foreign-lease", lambda p, f: p.download(fault=f), lambda p: right_log(p, ends=(3, 6, 9, 11)), foreign, fresh=True),
    Scenario("acks", lambda p, f: p.download(operator="./more.py:Acked", fault=f), right_acks),
    Scenario("files", lambda p, f: p.download(operator="files.CsvDownloader", fault=f), right_files, files, fresh=True),
    Scenario("reading", lambda p, f: p.download(operator="sql.Downloader", fault=f), right_reading, shop),
    Scenario(
        "ledger", lambda p, f: p.download(operator="./more.py:Ledgered", n=LEDGER, fault=f), lambda p: right_ledger(p, LEDGER)
    ),
    *(
        Scenario(
            name,
            lambda p, f: p.download(operator="./more.py:Ledgered", n=LEDGER + 9, fault=f),
            lambda p: right_ledger(p, LEDGER + 9),
            prepare,
        )
        for name, prepare in (("ledger-again", with_parts), ("long-record", without_snapshot))
    ),
    uploads("sqlite"),
    uploads("duckdb"),
    uploads("postgres"),
    Scenario("polls", lambda p, f: p.upload("oracle", "other", fault=f), right_polls, two_upstreams, fresh=True),
    Scenario("maintain", lambda p, f: p.run(code=MAINTAIN, fault=f), right_maintained, long_log),
    Scenario("far-behind", lambda p, f: p.upload(fault=f), right_far_behind, maintained),
)
BY_NAME = {s.name: s for s in SCENARIOS}


def test_some_points(matrix: Callable[..., Matrix], seed: int, notes: list[str]) -> None:
    m, rnd = matrix(files={"more.py": MORE}), random.Random(seed)
    picked = []
    for name in ("fresh", "upload-sqlite"):
        points = sorted(m.points(BY_NAME[name]))
        assert set(points) <= registered()
        picked += [(BY_NAME[name], [p], rnd.choice(["kill", "kill", "raise"]), 1) for p in rnd.sample(points, 5)]
    assert not run_cases(m, picked)
    notes.append(f"fault points: {m.cases} cases of the matrix")


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(600)
def test_every_point_with_every_action(matrix: Callable[..., Matrix], database: str, notes: list[str]) -> None:
    m, began = matrix(database, {"more.py": MORE}), time.monotonic()
    traced = dict(zip(BY_NAME, m.pool.map(m.points, SCENARIOS), strict=True))
    unknown = set().union(*traced.values()) - registered()
    assert not unknown, f"points that nobody registered: {unknown}"
    cases: list[tuple[Scenario, list[str], str, int]] = []
    seen: set[str] = set()
    for name, counts in traced.items():
        mine = [p for p in sorted(counts) if p not in seen or p.startswith(BY_NAME[name].always or ("no such",))]
        seen.update(mine)
        for point in mine:
            steady = name == "upload-sqlite" and not point.startswith("lease.")  # how often a lease beats is a matter of time
            last = {1, counts[point]} if steady else {1}
            cases += [(BY_NAME[name], [point], "kill", nth) for nth in sorted(last)]
            cases.append((BY_NAME[name], [point], "raise", 1))
        for i in range(0, len(mine), 10):
            cases.append((BY_NAME[name], mine[i : i + 10], "stall", 1))
    wrong = run_cases(m, cases)
    assert not wrong, f"{len(wrong)} of {len(cases)} cases:\n" + "\n\n".join(wrong[:10])
    for action, hit in m.hit.items():
        assert hit == registered(), f"never hit by {action}: {sorted(registered() - hit)}"
    notes.append(f"fault points: {len(registered())} points x 3 actions, {m.cases} cases, {time.monotonic() - began:.0f} s")
