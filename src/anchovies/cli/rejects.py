"""`anchovy rejects`: rows that could not be kept, and why."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import click

from anchovies.cli import say
from anchovies.cli.options import WHO, read, takes
from anchovies.core.errors import ConfigError
from anchovies.store.keys import Home
from anchovies.store.open import open_store

OPTIONS = (*WHO, "enabled", "disabled", "json")


@click.command()
@takes(*OPTIONS)
@click.option("-n", "--rows", type=click.IntRange(0), default=20, show_default=True, metavar="N", help="The last N; 0: all.")
def rejects(rows: int, **options: Any) -> None:
    """Show rows that could not be kept (`on_bad_row: reject`, `schema: reject`): file, line, what is wrong, and the row.

    \b
    anchovy rejects -i sales
    anchovy rejects -i sales -e orders -n 0 --json
    """
    given = read(options)
    s = given.settings
    store, home = open_store(s.datastore, given.env), Home(s.user, s.id)
    if next(iter(store.list(f"{home.root}/$log/")), None) is None:
        raise ConfigError(
            f"{home.user}/{home.id} has kept nothing in {store.url}", hint="-i, -u and --datastore pick the anchovy"
        )
    found = list(import_module("anchovies.engine.rejected").rejected(store, home, s.enabled, s.disabled))
    shown = found[-rows:] if rows else found
    if s.json:
        say.data(shown)
        return
    for one in shown:
        say.out(f"{click.style(one['tbl'], bold=True)} {_place(one)}{one['reason']}")
        if one["row"] is not None:
            say.out(f"  {json.dumps(one['row'], ensure_ascii=False, default=str)}")
    if len(shown) < len(found):
        say.note(f"the last {len(shown):,} of {len(found):,} (-n 0 shows all)")
    if not found:
        say.out("no rejects")


def _place(one: dict[str, Any]) -> str:
    """`sales.csv, line 7: `, as far as it is known."""
    parts = [*([one["file"]] if one["file"] else []), *([f"line {one['line']:,}"] if one["line"] else [])]
    return f"{', '.join(parts)}: " if parts else ""
