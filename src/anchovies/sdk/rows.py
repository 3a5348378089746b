"""Rows and Arrow data for plugins. Imports pyarrow, so it is imported where rows flow: `from anchovies.sdk import rows`."""

from anchovies.core.arrow import conform, field, schema_of, to_arrow, type_of, types_of
from anchovies.core.schema import batch_to_rows, rows_to_batch, types_of_rows
from anchovies.core.sift import reason_of, sift
from anchovies.core.text import infer_text, parse_text
from anchovies.core.types import ColType, join
from anchovies.core.values import from_json, to_json

__all__ = [
    "ColType",
    "batch_to_rows",
    "conform",
    "field",
    "from_json",
    "infer_text",
    "join",
    "parse_text",
    "reason_of",
    "rows_to_batch",
    "schema_of",
    "sift",
    "to_arrow",
    "to_json",
    "type_of",
    "types_of",
    "types_of_rows",
]
