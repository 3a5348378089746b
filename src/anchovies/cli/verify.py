"""`anchovy verify`: everything that can be recomputed, recomputed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from anchovies.cli import say
from anchovies.cli.options import WHO, Given, read, takes
from anchovies.core.errors import AnchovyError, ConfigError
from anchovies.store.keys import Home
from anchovies.store.open import open_store

OPTIONS = (*WHO, "operator_cls", "upstream", "enabled", "disabled", "json")


@click.command()
@click.option("--all", "everybody", is_flag=True, help="Every anchovy of the user.")
@click.option("--deep", is_flag=True, help="Decode every data file, too.")
@click.option("--repair", is_flag=True, help="Make broken snapshots again from the log; nothing else is ever changed.")
@takes(*OPTIONS)
def verify(everybody: bool, deep: bool, repair: bool, **options: Any) -> int:
    """Recompute checksums, receipts and invariants: source, files, rows. The first broken link is named; exit code 1.

    With -op and -U the targets of an uploader are asked as well: where they stand, and how many rows they hold. Reads only,
    unless it is told to --repair.

    \b
    anchovy verify -i sales
    anchovy verify --all --deep
    anchovy verify -i warehouse -op sql.Uploader -U sales
    """
    given = read(options, quiet=everybody)
    engine = import_module("anchovies.engine.verify")
    store = open_store(given.settings.datastore, given.env)
    verifier = engine.Verifier(store, deep=deep)
    every = []
    for home in _homes(given, store, everybody):
        every.append(verifier.verify(home, repair=repair))
        if given.settings.operator_cls is not None and not everybody:
            every[-1].lines += _targets(verifier, given)
        if not given.settings.json:
            _show(every[-1])
    if given.settings.json:
        say.data({"ok": all(x.ok for x in every), "anchovies": [engine.plain(x) for x in every]})
    return 0 if all(x.ok for x in every) else 1


def _homes(given: Given, store: Any, everybody: bool) -> list[Home]:
    s = given.settings
    audit = import_module("anchovies.store.audit")
    found = list(audit.homes(store, s.user)) if everybody else [Home(s.user, s.id)]
    if everybody and not found:
        raise ConfigError(f"{s.user} has kept nothing in {store.url}", hint="-u and --datastore pick the anchovies")
    home = found[0]
    if not everybody and not audit.has_log(store, home):
        raise ConfigError(
            f"{home.user}/{home.id} has kept nothing in {store.url}", hint="-i, -u and --datastore pick the anchovy; or --all"
        )
    return found


def _targets(verifier: Any, given: Given) -> list[Any]:
    try:
        found: list[Any] = verifier.targets(given.operator(), given.settings, given.config, given.env)
    except ConfigError:
        raise
    except AnchovyError as e:
        line = import_module("anchovies.store.audit").Line("targets", "I11")
        line.fail(e.message, e.hint)
        return [line]
    return found


def _show(found: Any) -> None:
    say.out(click.style(found.anchovy, bold=True))
    for key in found.repaired:
        say.out(f"  made again: {key}")
    widest = max(len(line.what) for line in found.lines)
    for line in found.lines:
        mark = click.style("ok    ", fg="green") if line.ok else click.style("BROKEN", fg="red", bold=True)
        say.out(f"  {mark} {line.what.ljust(widest)}  {line.said if line.ok else line.broken}  [{line.rule}]")
        if line.hint:
            say.out(f"         {' ' * widest}  {click.style('hint:', fg='cyan')} {line.hint}")
