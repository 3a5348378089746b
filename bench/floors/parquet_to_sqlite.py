"""Floor of J5b: ADBC ingests the committed files into SQLite. Arguments: database file, the files."""

import sys

import adbc_driver_sqlite.dbapi as sqlite
import pyarrow.parquet as pq

with sqlite.connect(sys.argv[1]) as connection, connection.cursor() as cursor:
    for number, path in enumerate(sys.argv[2:]):
        for batch in pq.ParquetFile(path).iter_batches(65_536):
            cursor.adbc_ingest("flights", batch, mode="create_append" if number == 0 else "append")
    connection.commit()
