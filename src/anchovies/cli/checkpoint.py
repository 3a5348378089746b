"""`anchovy checkpoint`: what an anchovy remembers, since when, and edits by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from anchovies.cli import say
from anchovies.cli.options import WHO, Given, read, takes
from anchovies.core.errors import ConfigError
from anchovies.core.suggest import did_you_mean
from anchovies.core.words import count
from anchovies.store.checkpoints import mirror, seen, shown
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
    """Look at the checkpoints of an anchovy (-i picks it), and edit them.

    Every edit is a record of the log, with who and why. A running session is not stopped by it: a batch that depends on what was
    changed begins again.
    """
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
@click.option("--tbl", metavar="TABLE", help="As this table sees it.")
@takes(*OPTIONS)
@click.pass_context
def get(ctx: click.Context, /, key: str, tbl: str | None, **options: Any) -> None:
    """The value of one checkpoint, or the entries of a ledger (`ledger:<table>`), as JSON.

    Where tables stand at different values it is the newest one; --tbl gives another.
    """
    state = _reader(_given(ctx, options)).state()
    found: dict[str, Any] = {k: seen(state.values(k), (tbl,) if tbl else ()) for k in state.checkpoints}
    found |= {f"{LEDGER}{name}": entries for name, entries in state.ledgers.items()}
    if key not in found:
        raise ConfigError(f"there is no checkpoint {key!r}", hint=did_you_mean(key, found, else_list="checkpoints"))
    if (value := found[key]) is None:
        raise ConfigError(f"table {tbl!r} has no value of {key!r}", hint="`checkpoint list` shows which tables have one")
    say.data(dict(value) if key.startswith(LEDGER) else value.value)


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


def _why(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option that every edit takes."""
    return click.option("--why", metavar="TEXT", help="Why, for whoever reads the history.  [the command itself]")(command)


def _tbl(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option of edits that may be for some tables only."""
    return click.option("--tbl", "tbls", multiple=True, metavar="TABLE", help="For this table only (may be repeated).  [all]")(
        command
    )


@checkpoint.command("set")
@click.argument("key")
@click.argument("value")
@_tbl
@_why
@takes(*OPTIONS)
@click.pass_context
def set_(ctx: click.Context, /, key: str, value: str, tbls: tuple[str, ...], why: str | None, **options: Any) -> None:
    """Set KEY to VALUE, which is JSON: 42, '"text"', '{"$date": "2026-11-22"}'.

    \b
    anchovy checkpoint set orders.cursor '"2026-11-01"' -i shop --why "the source was mended"
    """
    given = _given(ctx, options)
    known = list(_reader(given).state().checkpoints)
    edited = _editor(given, why or f"checkpoint set {key}").set(key, value, tbls)
    if key not in known:
        near = did_you_mean(key, known)
        say.warning(f"there was no checkpoint {key!r} before{f'; {near}' if near else ''}")
    _told(given, edited)


@checkpoint.command()
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("-d", "--all", "everything", is_flag=True, help="All checkpoints and ledgers: the next run reads in full.")
@_tbl
@_why
@takes(*OPTIONS)
@click.pass_context
def delete(
    ctx: click.Context, /, keys: tuple[str, ...], everything: bool, tbls: tuple[str, ...], why: str | None, **options: Any
) -> None:
    """Forget checkpoints, a ledger (`ledger:<table>`), or one entry of it (`ledger:<table>:<entry>`)."""
    if bool(keys) == everything or (everything and tbls):
        raise ConfigError("say what to forget", hint="name keys, of some tables with --tbl, or --all (and not both)")
    given = _given(ctx, options)
    _reader(given)
    editor = _editor(given, why or f"checkpoint delete {'--all' if everything else ' '.join(keys)}")
    _told(given, editor.delete_all() if everything else editor.delete(keys, tbls))


@checkpoint.command()
@click.option("--to", "slot", type=click.IntRange(0), required=True, metavar="N", help="The slot to go back to; 0: the start.")
@click.option("--rows-again", is_flag=True, help="Also where rows will be appended a second time.")
@_why
@takes(*OPTIONS)
@click.pass_context
def rewind(ctx: click.Context, /, slot: int, rows_again: bool, why: str | None, **options: Any) -> None:
    """Remember what was remembered after slot N. Data stay as they are; the next run reads on from there.

    Tables without a key are appended to, so their rows would come twice: refused without --rows-again.
    """
    given = _given(ctx, options)
    _reader(given)
    _told(given, _editor(given, why or f"checkpoint rewind --to {slot}").rewind(slot, rows_again=rows_again))


def _editor(given: Given, why: str) -> Any:
    """What edits are made with; loaded only for them."""
    s = given.settings
    edits, record = import_module("anchovies.engine.edits"), import_module("anchovies.store.record")
    note = record.Note(who=edits.who_edits(given.env), why=say.redactor()(why))
    return edits.Editor(open_store(s.datastore, given.env), Home(s.user, s.id), note)


def _told(given: Given, edited: Any) -> None:
    """What an edit changed."""
    turns = [(t.key, t.was, t.now) for t in edited.turns]
    if given.settings.json:
        changed = [dict(zip(("key", "was", "now"), turn, strict=True)) for turn in turns]
        say.data({"slot": edited.slot, "who": edited.who, "why": edited.why, "changed": changed})
    elif edited.slot is None:
        say.out("nothing to change: it is so already")
    else:
        say.table([(k, _side(k, was), _side(k, now)) for k, was, now in turns], ("key", "was", "is now"))
        say.out(f"slot {edited.slot}, by {edited.who}: {edited.why}")


def _side(key: str, value: Any) -> str:
    if value is None:
        return "-"
    return count(value, "entry", "entries") if key.startswith(LEDGER) else _short(value)


def _changes(record: Record, key: str | None) -> list[tuple[int, str, str, Any, str]]:
    checkpoints = record.change.checkpoints
    by = f"{record.change.note.who}: {record.change.note.why}" if record.change.note else record.writer.session
    every: dict[str, Any] = dict.fromkeys(checkpoints.delete, "(deleted)")
    every |= {k: f"(deleted for {', '.join(tbls)})" for k, tbls in checkpoints.forget.items()}
    every |= {k: shown([v, *checkpoints.behind.get(k, ())]) for k, v in checkpoints.set.items()}
    for name, ledger in record.change.ledgers.items():
        every[f"{LEDGER}{name}"] = f"{len(ledger.put)} put, {len(ledger.delete)} deleted"
    return [(record.slot, record.at, k, v, by) for k, v in every.items() if key in (None, k)]


def _list(given: Given) -> None:
    state = _reader(given).state()
    ledgers = {f"{LEDGER}{name}": len(entries) for name, entries in state.ledgers.items()}
    if given.settings.json:
        mirrors = {k: mirror(k, state.values(k)) or {} for k in state.checkpoints}
        every: dict[str, Any] = {k: {n: v for n, v in m.items() if n != "key"} for k, m in mirrors.items()}
        say.data(every | {k: {"entries": n} for k, n in ledgers.items()})
    elif state.checkpoints or ledgers:
        rows = [(k, _short(v.value), ", ".join(v.tbls)) for k in sorted(state.checkpoints) for v in state.values(k)]
        rows += [(k, count(n, "entry", "entries"), k.removeprefix(LEDGER)) for k, n in sorted(ledgers.items())]
        say.table(rows, ("key", "value", "tables"))
    else:
        say.out("no checkpoints")


def _reader(given: Given) -> Reader:
    s = given.settings
    home = Home(s.user, s.id)
    store = open_store(s.datastore, given.env)
    reader = Reader(store, home)
    if not reader.exists():
        raise ConfigError(
            f"{home.user}/{home.id} has kept nothing in {store.url}", hint="-i, -u and --datastore pick the anchovy"
        )
    return reader


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"
