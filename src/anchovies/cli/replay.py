"""`anchovy replay`: committed data loaded again."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import click

from anchovies.cli import say
from anchovies.cli.options import WHO, Given, read, takes
from anchovies.cli.start import session
from anchovies.core.env import Environment

OPTIONS = (
    *WHO, "operator_cls", "upstream", "upstream_may_be_missing", "enabled", "disabled", "execution_timeout", "grace",
    "if_running", "batch_policy", "no_progress", "json", "log_level",
)  # fmt: skip
UPLOADER = "sql.Uploader"


@click.command()
@click.option("--as-of", multiple=True, metavar="[ID=]N", help="Only commits up to slot N; with several upstreams one for each.")
@click.option(
    "--into", metavar="URL", help="Another database, in place of the connection `db`: a URL, or the id of a connection."
)
@click.option("-y", "--yes", is_flag=True, help="Make tables anew that are there already.")
@takes(*OPTIONS)
def replay(as_of: tuple[str, ...], into: str | None, yes: bool, **options: Any) -> int:
    """Load again what upstreams have committed, from their first commit on. The source is not asked.

    A table that the target has already is made anew (only with --yes): dropped, loaded and its position set in one transaction.
    What `config.yaml` says of keys and `write` by now counts.

    \b
    anchovy replay -U sales --into sqlite:///copy.db              into another database
    anchovy replay -U sales --as-of 12 --into sqlite:///then.db   as it was after commit 12
    anchovy replay -i warehouse -U sales -e orders --yes          one table anew, with other keys
    """
    engine = import_module("anchovies.engine.replay")
    given = _given(engine, into, {**options, "service": False, "full_refresh": False})
    note = import_module("anchovies.store.record").Note(
        who=import_module("anchovies.engine.edits").who_edits(given.env),
        why=" ".join(["replay", *(f"--as-of {n}" for n in as_of)]),
    )
    wanted = engine.Wanted(engine.parse_as_of(as_of), yes, note)
    return session(given, lambda at: None, make_work=engine.replaying(wanted))


def _given(engine: Any, into: str | None, options: dict[str, Any]) -> Given:
    """Settings that a replay needs: its own id unless one is given, no politeness towards a run of the same anchovy."""
    options["operator_cls"] = options.get("operator_cls") or UPLOADER
    options["if_running"] = options.get("if_running") or "fail"
    given = read({**options}, quiet=True)
    if into is None:
        return given
    if given.settings.origin("id") == "default":
        given = read({**options, "id": "replay"}, quiet=True)
    env = Environment(engine.into(given.env, into))
    say.mask(env)
    return replace(given, env=env)
