"""Floor of J1, second half: polars turns TSV files into Parquet. Arguments: folder of the TSV files, folder for the result."""

import sys
from pathlib import Path

import polars

for path in sorted(Path(sys.argv[1]).glob("*.tsv")):
    polars.read_csv(path, separator="\t", infer_schema_length=10_000).write_parquet(
        Path(sys.argv[2]) / f"{path.stem}.parquet", compression="zstd", compression_level=1
    )
