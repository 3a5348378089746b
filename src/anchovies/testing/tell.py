"""`anchovy chaos`: play simulated disasters again, and tell what happened in words."""

from __future__ import annotations

import sys
from collections import Counter
from importlib import import_module
from typing import Any

import click

from anchovies.core.errors import ConfigError

_NEEDS = "the simulator needs the package greenlet: pip install greenlet"


def _simulator() -> Any:
    try:
        return import_module("anchovies.testing.histories")
    except ModuleNotFoundError as e:
        if e.name != "greenlet":
            raise
        raise ConfigError("the simulator cannot be loaded: greenlet is not installed", hint=_NEEDS) from None


@click.command()
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The history to play.")
@click.option("--histories", type=click.IntRange(1), help="Play this many, from SEED on, and count instead of telling.")
@click.option("--quiet", is_flag=True, help="Only the outcome.")
def chaos(seed: int, histories: int | None, quiet: bool) -> None:
    """Play a seeded history of the commit log and tell it in words.

    The log, its readers, its collector and its snapshots are the code that runs in production. Processes are killed and stopped,
    requests fail, lose their answer, or land later; an oracle sees whether a row was lost or came twice. Exit code 1 if so.
    """
    module = _simulator()
    if histories is None:
        _tell(module, seed, quiet)
    else:
        _count(module, seed, histories)


def _tell(module: Any, seed: int, quiet: bool) -> None:
    try:
        world = module.simulate(seed, tell=None if quiet else click.echo)
    except module.Violation as e:
        click.echo(f"seed {seed} breaks a promise: {e}", err=True)
        sys.exit(1)
    click.echo(f"seed {seed}: {world.oracle.slot} commits, no row lost, none twice; trace {world.trace[:16]}")


def _count(module: Any, seed: int, histories: int) -> None:
    total: Counter[str] = Counter()
    broken = 0
    for n in range(seed, seed + histories):
        try:
            total.update(module.simulate(n).stats)
        except module.Violation as e:
            broken += 1
            click.echo(f"seed {n} breaks a promise: {e}", err=True)
    told = ", ".join(f"{total[what]:,} {what}s" for what in ("commit", "fault", "kill"))
    click.echo(f"seeds {seed} to {seed + histories - 1}: {told}; {broken} broken promises")
    sys.exit(1 if broken else 0)
