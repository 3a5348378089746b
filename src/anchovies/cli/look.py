"""`anchovy preview` and `anchovy plan`: look, store nothing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from anchovies.cli import say
from anchovies.cli.options import LOOK, Given, read, takes


def _look(name: str, given: Given, **more: Any) -> Any:
    look = getattr(import_module("anchovies.engine.look"), name)
    return look(given.operator(), given.settings, given.config, given.env, **more)


@click.command()
@takes(*LOOK)
@click.option("--graph", is_flag=True, help="Draw which method makes which table, and who takes its rows.")
def plan(graph: bool, **options: Any) -> None:
    """Say in words what the next run would do, and how keys and order were understood."""
    given = read(options)
    if graph:
        drawn: str = _look("graph", given)
        return say.data(drawn.splitlines()) if given.settings.json else say.out(drawn or "no tables")
    found: list[tuple[str, list[str]]] = _look("plan", given)
    if given.settings.json:
        say.data(dict(found))
        return
    for tbl, lines in found:
        say.out(click.style(tbl, bold=True))
        for line in lines:
            say.out(f"  {line}")
    if not found:
        say.out("no tables")


@click.command()
@takes(*LOOK)
@click.option("-n", "--rows", type=click.IntRange(1, 1000), default=10, show_default=True, metavar="N", help="Rows a table.")
def preview(rows: int, **options: Any) -> None:
    """Show the first rows of each table as they would be kept."""
    given = read(options)
    found = _look("preview", given, rows=rows)
    if given.settings.json:
        say.data(
            {tbl.name: {"columns": {c: str(t) for c, t in tbl.types.items()}, "rows": table.to_pylist()} for tbl, table in found}
        )
        return
    grid = import_module("anchovies.cli.grid")
    for tbl, table in found:
        say.out(grid.draw(tbl, table))
    if not found:
        say.out("no rows: nothing is new, or there are no tables (`anchovy plan` says more)")
