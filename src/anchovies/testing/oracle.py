"""A workload that knows its own answer: every table holds the integers 1..N, each once, in order, whatever was done to it.

`SOURCE` is the text of an operator file; `in_log` says what a log holds, `in_order` what a target must hold then.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from anchovies.core.schema import batch_to_rows
from anchovies.store.base import Store
from anchovies.store.datafile import read_batches
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.record import Record

#: Environment: ORACLE_N, how far to count; ORACLE_STEP, rows between two checkpoints; ORACLE_PACE, seconds between them;
#: ORACLE_FAT, bytes of noise in each row; ORACLE_TASK, rows of one task of `whole`; ORACLE_SIGN, a file made at the first step.
#: Tables: `ints` counts with checkpoints, `a` too and `b` is made of it; `whole` goes on from what earlier tasks said at their
#: very end; `plain` sets nothing and begins at 1.
SOURCE = '''
import os
import time

import pyarrow as pa

from anchovies.sdk import Downloader, context, sink, source

N = int(os.environ["ORACLE_N"])
STEP = int(os.environ.get("ORACLE_STEP", "7"))
PACE = float(os.environ.get("ORACLE_PACE", "0"))
FAT = int(os.environ.get("ORACLE_FAT", "0"))
TASK = int(os.environ.get("ORACLE_TASK", "500"))
SIGN = os.environ.get("ORACLE_SIGN")


def row(i):
    return {"i": i, "fat": os.urandom(FAT)} if FAT else {"i": i}


def count(first, last):
    """first..last in steps, by turns as dicts and as Arrow; after each step its last number."""
    for turn, at in enumerate(range(first, last + 1, STEP)):
        rows = [row(i) for i in range(at, min(at + STEP, last + 1))]
        yield [pa.RecordBatch.from_pylist(rows)] if turn % 2 else rows, rows[-1]["i"]
        if SIGN:
            open(SIGN, "w").close()
        time.sleep(PACE)


def counted(key):
    done = context().checkpoint(key)
    for rows, last in count(done.get(0) + 1, N):
        yield from rows
        done.set(last)


class Ints(Downloader):
    @source("ints")
    def ints(self, **kwds):
        yield from counted("ints")

    @source("a")
    def a(self, **kwds):
        yield from counted("a")

    @source("b")
    @sink("a", streaming=True)
    def b(self, stream, **kwds):
        for found in stream:
            yield {"i": found["i"], "twice": 2 * found["i"]}

    @source("whole")
    def whole(self, **kwds):
        done = context().checkpoint("whole")
        first = done.get(0) + 1
        last = min(first + TASK - 1, N)
        for rows, _ in count(first, last):
            yield from rows
        if first <= last:
            done.set(last)

    @source("plain")
    def plain(self, **kwds):
        for rows, _ in count(1, N):
            yield from rows
'''
TABLES = ("ints", "a", "b", "whole", "plain")
CHECKPOINTS = ("ints", "a", "whole")

Counted = list[tuple[int, int]]


def in_log(store: Store, home: Home) -> dict[str, Counted]:
    """(i, `_seq`) of every row of each table, in the log's order: records verified and chained, data files verified.

    Raises what the reader raises: CorruptDatastore, HistoryDiverged.
    """
    found: dict[str, Counted] = {}
    reader = Reader(store, home)
    for record in reader.records(0, ""):
        seq = record.seq
        for file in reader.files_of(record):
            numbers = [row["i"] for batch in read_batches(store, file) for row in batch_to_rows(batch)]
            assert len(numbers) == file.rows, f"{file.path} holds {len(numbers)} rows, the log says {file.rows}"
            found.setdefault(file.table, []).extend((i, seq + k) for k, i in enumerate(numbers))
            seq += file.rows
    return found


def records(store: Store, home: Home) -> list[Record]:
    """Every record of a log, verified."""
    return list(Reader(store, home).records(0, ""))


def checkpoints(store: Store, home: Home) -> dict[str, Any]:
    """The committed values."""
    return {key: v.value for key, v in Reader(store, home).state().checkpoints.items()}


def check_counted(found: Counted, upto: int | None = None, what: str = "") -> None:
    """`found` is 1..`upto` (None: however far it came), each once and in order, `_seq` strictly rising. AssertionError if not."""
    numbers = [i for i, _ in found]
    want = list(range(1, (len(numbers) if upto is None else upto) + 1))
    assert numbers == want, f"{what}: {_difference(numbers, want)}"
    seqs = [s for _, s in found]
    assert all(a < b for a, b in pairwise(seqs)), f"{what}: _seq does not rise strictly"


def firsts(found: Counted) -> Counted:
    """The first row of each number: what a keyed table keeps when equal rows come again."""
    seen: dict[int, int] = {}
    for i, seq in found:
        seen.setdefault(i, seq)
    return list(seen.items())


def _difference(have: list[int], want: list[int]) -> str:
    missing, extra = sorted(set(want) - set(have)), sorted(set(have) - set(want))
    twice = sorted(i for i, n in Counter(have).items() if n > 1)
    order = "" if have == sorted(have) else ", not in order"
    return f"{len(have)} rows, {len(want)} wanted; missing {missing[:10]}, too many {extra[:10]}, twice {twice[:10]}{order}"
