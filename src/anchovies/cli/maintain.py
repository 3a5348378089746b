"""`anchovy maintain`: keep a datastore small and quick."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import click
import msgspec

from anchovies.cli import say
from anchovies.cli.options import WHO, Given, read, takes
from anchovies.core.errors import ConfigError
from anchovies.core.suggest import did_you_mean
from anchovies.core.words import count
from anchovies.store.keys import Home
from anchovies.store.open import open_store

OPTIONS = (*WHO, "retain", "json")


@click.command()
@click.option("--deep", is_flag=True, help="Go through all files again, not only through what came since the last time.")
@click.option("--forget-consumer", metavar="ID", help="Take an uploader that is gone off the list that --retain waits for.")
@click.option(
    "--forget-target", metavar="TARGET", help="Take one database table that is gone off that list, as it is called there."
)
@click.option("--reset", metavar="WHY", help="Fence every session of it: after its datastore was mended or restored by hand.")
@takes(*OPTIONS)
def maintain(deep: bool, forget_consumer: str | None, forget_target: str | None, reset: str | None, **options: Any) -> None:
    """Write a snapshot, retire what --retain lets go, delete what no commit names. Safe at any time, by any number at once.

    Files go when no record can name them any more, not when they are old. With --retain, data older than that are retired as
    soon as every uploader that is registered for their table has loaded them; without it committed data stay for ever. Whoever
    holds old data back is named, with what to type if it is gone for good.
    Sessions do all this themselves, every 256 commits.
    """
    given = read(options)
    engine = import_module("anchovies.engine.upkeep")
    store = open_store(given.settings.datastore, given.env)
    home = Home(given.settings.user, given.settings.id)
    if next(iter(store.list(f"{home.root}/$log/")), None) is None:
        raise ConfigError(
            f"{home.user}/{home.id} has kept nothing in {store.url}", hint="-i, -u and --datastore pick the anchovy"
        )
    done: dict[str, Any] = {}
    if forget_consumer is not None:
        done["forgotten"] = _forget(engine, store, home, forget_consumer)
    if forget_target is not None:
        done["forgotten_target"] = _forget_target(engine, store, home, forget_target)
    if reset is not None:
        done["reset"] = engine.reset(store, home, reset, given.env).slot
    report = engine.look_after(store, home, given.settings.retain, deep=deep)
    if given.settings.json:
        say.data({**done, **msgspec.to_builtins(report)})
    else:
        _show(given, done, report)


def _forget(engine: Any, store: Any, home: Home, consumer: str) -> str:
    if engine.forget_consumer(store, home, consumer, home.user):
        return consumer
    known = engine.consumers(store, home)
    raise ConfigError(
        f"no uploader {consumer!r} is registered with {home.user}/{home.id}",
        hint=did_you_mean(consumer, known, else_list="registered") if known else "none is registered at all",
    )


def _forget_target(engine: Any, store: Any, home: Home, target: str) -> str:
    if engine.forget_target(store, home, target):
        return target
    known = engine.targets(store, home)
    raise ConfigError(
        f"no uploader has registered the target {target!r} with {home.user}/{home.id}",
        hint=did_you_mean(target, known, else_list="registered") if known else "none is registered at all",
    )


def _show(given: Given, done: dict[str, Any], report: Any) -> None:
    say.out(click.style(f"{given.settings.user}/{given.settings.id}, {report.slot:,} commits", bold=True))
    if "forgotten" in done:
        say.out(f"  forgotten  {done['forgotten']}: nothing is kept for it any more")
    if "forgotten_target" in done:
        say.out(f"  forgotten  {done['forgotten_target']}: nothing is kept for it any more")
    if "reset" in done:
        say.out(f"  reset      with commit {done['reset']}; whatever ran is fenced")
    say.out(f"  snapshot   {'there' if report.snapshot else 'could not be written'}, {count(report.segments, 'segment')}")
    for tbl, slot in sorted(report.retired.items()):
        say.out(f"  retired    {tbl}, up to commit {slot:,}")
    for tbl, why in sorted(report.held_back.items()):
        say.out(f"  kept       {tbl}: {why}")
    for holder in report.holders:
        _show_holder(given, holder)
    say.out(
        f"  deleted    {count(report.files, 'file')}, {count(report.bytes, 'byte')}"
        + (f"; {_left(report)}" if _left(report) else "")
    )


def _show_holder(given: Given, holder: Any) -> None:
    at = datetime.fromtimestamp(holder.at / 1_000_000, UTC)
    since = f"from commit {holder.since:,} of {at:%Y-%m-%d %H:%M} UTC on"
    loaded = f"{holder.consumer} has loaded no more than commit {holder.loaded:,} into {holder.target}"
    say.out(f"  kept       {holder.tbl}, {since}: {loaded}")
    s = given.settings
    here = ["--datastore", s.datastore] if s.origin("datastore") == "command line" else []
    way = shlex.join(["anchovy", "maintain", "-i", s.id, "-u", s.user, *here, "--forget-target", holder.target])
    why = "it has more in another database, so this one was replaced, perhaps" if holder.ahead else "run that uploader"
    say.out(f"             {why}; if this target is gone for good: {way}")


def _left(report: Any) -> str:
    parts = [
        (report.parts, "old part of a ledger", "old parts of ledgers"),
        (report.swept, "half-written file of a killed process", "half-written files of killed processes"),
    ]
    return ", ".join(count(*part) for part in parts if part[0])
