"""`anchovy checkpoint`: what an anchovy remembers, and since when."""

from __future__ import annotations

import json
from typing import Any

import click

from anchovies.cli import say
from anchovies.cli.options import WHO, Given, read, takes
from anchovies.core.errors import ConfigError
from anchovies.core.suggest import did_you_mean
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.open import open_store
from anchovies.store.record import Record

LEDGER = "ledger:"
"""Before the name of a ledger: a large set of what was seen (files, ids), which `list` only counts."""
OPTIONS = (*WHO, "json")


@click.group(invoke_without_command=True)
@takes(*OPTIONS)
@click.pass_context
def checkpoint(ctx: click.Context, /, **options: Any) -> None:
    """Look at the checkpoints of an anchovy (-i picks it)."""
    if ctx.invoked_subcommand is None:
        _list(read(options))
    else:
        ctx.obj = {k: v for k, v in options.items() if v not in (None, (), False)}


def _given(ctx: click.Context, options: dict[str, Any]) -> Given:
    """Options may stand before or after the word."""
    return read({**options, **{k: v for k, v in (ctx.obj or {}).items() if options.get(k) in (None, (), False)}})


@checkpoint.command("list")
@takes(*OPTIONS)
@click.pass_context
def list_(ctx: click.Context, /, **options: Any) -> None:
    """Every checkpoint and its value."""
    _list(_given(ctx, options))


@checkpoint.command()
@click.argument("key")
@takes(*OPTIONS)
@click.pass_context
def get(ctx: click.Context, /, key: str, **options: Any) -> None:
    """The value of one checkpoint, or the entries of a ledger (`ledger:<table>`), as JSON."""
    state = _reader(_given(ctx, options)).state()
    found: dict[str, Any] = {k: v.value for k, v in state.checkpoints.items()}
    found |= {f"{LEDGER}{name}": dict(entries) for name, entries in state.ledgers.items()}
    if key not in found:
        raise ConfigError(f"there is no checkpoint {key!r}", hint=did_you_mean(key, found, else_list="checkpoints"))
    say.data(found[key])


@checkpoint.command()
@click.argument("key", required=False)
@takes(*OPTIONS)
@click.pass_context
def history(ctx: click.Context, /, key: str | None, **options: Any) -> None:
    """What every commit did to the checkpoints (or to KEY), oldest first."""
    given = _given(ctx, options)
    rows = [line for record in _reader(given).records(0, "") for line in _changes(record, key)]
    if given.settings.json:
        say.data([dict(zip(("slot", "at", "key", "value", "by"), r, strict=True)) for r in rows])
    elif rows:
        say.table([(str(slot), at, k, _short(v), by) for slot, at, k, v, by in rows], ("slot", "when", "key", "value", "by"))
    else:
        say.out("no checkpoint was ever set" if key is None else f"the checkpoint {key!r} was never set")


def _changes(record: Record, key: str | None) -> list[tuple[int, str, str, Any, str]]:
    checkpoints = record.change.checkpoints
    by = f"{record.change.note.who}: {record.change.note.why}" if record.change.note else record.writer.session
    every: dict[str, Any] = {k: v.value for k, v in checkpoints.set.items()} | dict.fromkeys(checkpoints.delete, "(deleted)")
    for name, ledger in record.change.ledgers.items():
        every[f"{LEDGER}{name}"] = f"{len(ledger.put)} put, {len(ledger.delete)} deleted"
    return [(record.slot, record.at, k, v, by) for k, v in every.items() if key in (None, k)]


def _list(given: Given) -> None:
    state = _reader(given).state()
    ledgers = {f"{LEDGER}{name}": len(entries) for name, entries in state.ledgers.items()}
    if given.settings.json:
        every: dict[str, Any] = {k: {"value": v.value, "tbls": v.tbls} for k, v in state.checkpoints.items()}
        say.data(every | {k: {"entries": n} for k, n in ledgers.items()})
    elif state.checkpoints or ledgers:
        rows = [(k, _short(v.value), ", ".join(v.tbls)) for k, v in sorted(state.checkpoints.items())]
        rows += [(k, f"{n:,} entries", k.removeprefix(LEDGER)) for k, n in sorted(ledgers.items())]
        say.table(rows, ("key", "value", "tables"))
    else:
        say.out("no checkpoints")


def _reader(given: Given) -> Reader:
    s = given.settings
    home = Home(s.user, s.id)
    store = open_store(s.datastore)
    reader = Reader(store, home)
    if not reader.exists():
        raise ConfigError(
            f"{home.user}/{home.id} has kept nothing in {store.url}", hint="-i, -u and --datastore pick the anchovy"
        )
    return reader


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"
