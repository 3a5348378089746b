"""`anchovy healthcheck`: is it well? One line a check; exit code 0 or 1."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from anchovies.cli import say
from anchovies.cli.options import EVERY, Given, read, takes
from anchovies.core.settingkinds import POSITIVE_DURATION


@click.command()
@click.option("--live", is_flag=True, help="Only whether a service's process lives, whatever its batches come to.")
@click.option("--max-age", metavar="TIME", help="The last run, or batch, that went well must not be older.")
@click.option("--timeout", metavar="TIME", default="10s", show_default=True, help="How long each connection may take.")
@takes(*EVERY)
def healthcheck(live: bool, max_age: str | None, timeout: str, **options: Any) -> int:
    """Check the configuration, the datastore, each connection, and the heartbeat of a service (-S) or the last run.

    Takes what `anchovy start` takes, and exits with 0 where all is well, else with 1.

    \b
    anchovy healthcheck -op sql.Uploader --id warehouse -U sales_sftp -S
    anchovy healthcheck --id sales_sftp --max-age 26h
    """
    as_json = bool(options.get("json"))
    found: list[dict[str, Any]] = []
    for check in _checks(live, max_age, timeout, options):
        found.append({"name": check.name, "ok": check.ok, "text": check.text, "hint": check.hint})
        if not as_json:
            _show(check)
    well = all(c["ok"] for c in found)
    if as_json:
        say.data({"ok": well, "checks": found})
    return 0 if well else 1


def _checks(live: bool, max_age: str | None, timeout: str, options: dict[str, Any]) -> Any:
    engine = import_module("anchovies.engine.healthcheck")
    age = None if max_age is None else POSITIVE_DURATION.parse(max_age, "--max-age")
    asked = engine.Asked(live, POSITIVE_DURATION.parse(timeout, "--timeout"), age)
    given: Given | None = None
    operator: type | None = None

    def understand() -> str:
        nonlocal given, operator
        given = read(options, quiet=True)
        operator = given.operator() if given.settings.operator_cls is not None else None
        return ""

    understood = engine.tried("configuration", understand)
    if given is None or not understood.ok:
        return [understood]
    return engine.checks(operator, given.settings, given.config, given.env, asked)


def _show(check: Any) -> None:
    mark = click.style("ok  ", fg="green") if check.ok else click.style("FAIL", fg="red", bold=True)
    say.out(f"{mark}  {check.name:<14}  {check.text}")
    if check.hint:
        say.out(f"      {'':<14}  {click.style('hint:', fg='cyan')} {check.hint}")
