"""Rows drawn as a table, for `anchovy preview`. Needs rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anchovies.core.tbl import Tbl

if TYPE_CHECKING:
    import pyarrow as pa

_WIDEST = 40


def draw(tbl: Tbl, rows: pa.Table, console: Console | None = None) -> str:
    """The rows under their columns and types, as wide as the terminal."""
    console = console or Console(highlight=False)
    types = {c: str(t) for c, t in tbl.types.items()}
    table = Table(title=Text(tbl.name, "bold"), box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for field in rows.schema:
        right = types.get(field.name, "").startswith(("int", "float", "decimal"))
        head = Text.assemble((field.name, "bold"), "\n", (types.get(field.name, str(field.type)), "dim"))
        table.add_column(head, justify="right" if right else "left", overflow="ellipsis", max_width=_WIDEST)
    for row in rows.to_pylist():
        table.add_row(*(cell(row[name]) for name in rows.schema.names))
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()


def cell(value: Any) -> Text:
    """One value; a null looks unlike an empty text."""
    if value is None:
        return Text("null", "dim italic")
    return Text(str(value).replace("\n", "⏎"))
