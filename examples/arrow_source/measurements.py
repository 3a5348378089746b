"""A source that yields Arrow record batches: no Python object is made for a row."""

import pyarrow as pa

from anchovies.sdk import Downloader, context, source

BATCH = 50_000


class Measurements(Downloader):
    @source("measurements")
    def measurements(self, **kwds):
        done = context().checkpoint("batches")
        for number in range(done.get(0), 4):
            ids = pa.array(range(number * BATCH, (number + 1) * BATCH), pa.int64())
            yield pa.record_batch({"id": ids, "sensor": pa.repeat("north", BATCH), "value": ids.cast(pa.float64())})
            done.set(number + 1)
