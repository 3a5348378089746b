"""`anchovy plugin`: what is installed, what it adds, what its operators and connections take; and the plugins' own commands."""

from __future__ import annotations

from typing import Any

import click

from anchovies.cli import say
from anchovies.cli.describe import Described, brief, describe, from_source
from anchovies.core import registry
from anchovies.core.errors import ConfigError
from anchovies.core.plugininfo import PluginInfo


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name", required=False)
@click.argument("command", required=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def plugin(ctx: click.Context, name: str | None, command: str | None, args: tuple[str, ...], as_json: bool) -> Any:
    """List plugins; with NAME show what it adds and takes; with COMMAND run a command of it.

    \b
    anchovy plugin
    anchovy plugin sftp
    anchovy plugin sftp trust example.com
    """
    registry.add_current_folder()
    if name is None or name == "list":
        return _all(as_json or command == "--json")
    if command is None or command == "--json":
        return _one(registry.plugin(name), as_json or command == "--json")
    found = registry.plugin_command(name, command)
    if not isinstance(found, click.Command):
        raise ConfigError(f"the command {command!r} of the plugin {name!r} is not a click command")
    return found.main(list(args), prog_name=f"{ctx.command_path} {name} {command}", standalone_mode=False)


def _all(as_json: bool) -> None:
    plugins = registry.list_plugins()
    if as_json:
        say.data([brief(p) for p in plugins])
        return
    rows = [(p.name, p.broken or p.summary, _adds(p), _state(p)) for p in plugins]
    say.table(rows, ("plugin", "what it is", "adds", "ready"))
    say.out()
    say.out("anchovy plugin NAME   what its operators and connections take")


def _adds(p: PluginInfo) -> str:
    """Operators as they are typed, datastores as their addresses begin, buffers."""
    names = [*(f"{p.name}.{o}" for o in p.operators), *(f"{s}://" for s in p.datastores)]
    return ", ".join([*names, *(f"buffer {p.name}.{b}" for b in p.buffers)])


def _state(p: PluginInfo) -> str:
    return "broken" if p.broken else p.install if p.missing else "yes"


def _one(p: PluginInfo, as_json: bool) -> None:
    if p.broken:
        raise ConfigError(f"the plugin {p.name!r} cannot be read: {p.broken}", hint=f"look at {p.path}" if p.path else None)
    described = _described(p)
    if as_json:
        say.data({**brief(p), **described})
        return
    say.out(f"{click.style(p.name, bold=True)}  {p.summary}")
    if p.missing:
        say.out(f"It needs {' and '.join(p.missing)}, which is not installed: {click.style(p.install, bold=True)}")
    for name, about in described["operators"].items():
        _title("operator", f"{p.name}.{name}", about["text"])
        _operator(about)
    for name, about in described["connections"].items():
        _title("connection", name, about["text"])
        say.table([(f"  {a['variables'][0]}", *_about(a)) for a in about["takes"].values()])
    _rest(p)


def _described(p: PluginInfo) -> Described:
    """What it takes; of a plugin that lacks something and therefore cannot be imported, what its source says."""
    try:
        return describe(p)
    except ConfigError:
        if not p.missing:
            raise
        return from_source(p)


def _title(kind: str, name: str, text: str) -> None:
    say.out()
    say.out(f"{kind} {click.style(name, bold=True)}  {text}".rstrip())


def _operator(about: dict[str, Any]) -> None:
    for cnxn, cls in about["connections"].items():
        say.out(f"  connects to {cls}" + (f", its connection {cnxn!r}" if cnxn != "default" else ""))
    if about["tables"]:
        say.out(f"  has the tables {', '.join(about['tables'])}")
    say.table([(f"  tbls.*.{key}", text) for key, text in about["takes"].items()])


def _about(attribute: dict[str, Any]) -> tuple[str, str, str]:
    """Type, whether it has to be given, what it is for."""
    default, names = attribute["default"], attribute["aliases"]
    need = "required" if attribute["required"] else "" if default is None else f"default {default}"
    other = f" (or {', '.join(a.upper() for a in names)})" if names else ""
    return attribute["type"], need, attribute["help"] + other


def _rest(p: PluginInfo) -> None:
    rest = {"datastore": [f"{s}://…" for s in p.datastores], "buffer": [f"{p.name}.{b}" for b in p.buffers]}
    for kind, names in rest.items():
        for name in names:
            _title(kind, name, p.texts.get(name.rpartition(".")[2], ""))
    if p.commands:
        say.out()
        for name in p.commands:
            say.out(f"anchovy plugin {p.name} {name}   {p.texts.get(name, '')}".rstrip())
