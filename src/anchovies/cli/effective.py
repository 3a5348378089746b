"""`anchovy config`: every setting, and where it came from."""

from __future__ import annotations

from typing import Any

import click

from anchovies.cli import say
from anchovies.cli.options import EVERY, Given, read, takes
from anchovies.core.env import connections_from


@click.command(name="config")
@takes(*EVERY)
@click.option("--all", "every", is_flag=True, help="Settings that are not built yet, too.")
def config(every: bool, **options: Any) -> None:
    """Show every effective setting and where it came from. Secrets never show."""
    given = read(options)
    shown = [e for e in given.settings if every or not (e.setting.later or e.setting.unused) or e.origin != "default"]
    if given.settings.json:
        say.data({"settings": {e.setting.name: {"value": _plain(e.value), "origin": e.origin} for e in shown}, **_rest(given)})
        return
    say.table([(e.setting.name, e.shown or "-", e.origin) for e in shown], ("setting", "value", "from"))
    rest = _rest(given)
    say.out()
    say.out(f"configuration  {rest['file'] or 'none'}")
    say.out(f"tables         {', '.join(rest['tbls']) or 'none in the configuration'}")
    for id, attributes in rest["connections"].items():
        say.out(f"connection     {id}: {', '.join(attributes)}")


def _plain(value: object) -> object:
    return f"{value.__module__}:{value.__qualname__}" if isinstance(value, type) else value


def _rest(given: Given) -> dict[str, Any]:
    connections = {id: sorted(a) for id, a in connections_from(given.env).items()}
    file = str(given.config.path) if given.config.path else None
    return {"file": file, "tbls": list(given.config.tbls), "schemas": dict(given.config.schemas), "connections": connections}
