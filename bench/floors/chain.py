"""Rows through no chain, and through five that only pass them on; as dicts or, with BENCH_FORM=arrow, as record batches."""

import os

import pyarrow as pa

from anchovies.sdk import Downloader, sink, source

ROWS, ARROW = 1_000_000, os.environ.get("BENCH_FORM") == "arrow"


class None_(Downloader):
    """The source and the sink alone."""

    @source("t0", store=False)
    def rows(self, **kwds):
        if not ARROW:
            for n in range(ROWS):
                yield {"id": n, "name": "somebody", "price": 1.5, "paid": True}
            return
        for at in range(0, ROWS, 10_000):
            ids = pa.array(range(at, at + 10_000))
            rest = {"name": pa.repeat("somebody", 10_000), "price": pa.repeat(1.5, 10_000), "paid": pa.repeat(True, 10_000)}
            yield pa.table({"id": ids, **rest})

    @sink("t0")
    def count(self, stream, **kwds):
        assert sum(b.num_rows for b in stream.batches()) == ROWS


def _stage(n):
    @source(f"t{n}", store=False)
    @sink(f"t{n - 1}", streaming=True)
    def pass_on(self, stream):
        yield from stream.batches() if ARROW else stream

    return pass_on


class Five(None_):
    """Five chains between them."""

    for n in range(1, 6):
        locals()[f"stage{n}"] = _stage(n)

    @sink("t5")
    def count(self, stream, **kwds):
        assert sum(b.num_rows for b in stream.batches()) == ROWS
