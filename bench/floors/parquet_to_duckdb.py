"""Floor of J5a: DuckDB reads the committed files by itself. Arguments: database file, glob of the files."""

import sys

import duckdb

duckdb.connect(sys.argv[1]).execute("CREATE TABLE flights AS FROM read_parquet(?)", [sys.argv[2]])
