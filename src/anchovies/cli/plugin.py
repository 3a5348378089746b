"""`anchovy plugin`: what is installed, what it adds, what its operators and connections take; and the plugins' own commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from anchovies.cli import say
from anchovies.core import registry
from anchovies.core.errors import ConfigError
from anchovies.core.plugininfo import PluginInfo
from anchovies.core.secret import Secret
from anchovies.sdk.connection import Connection
from anchovies.sdk.operator import Operator


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
        return _all(as_json)
    if command is None or command == "--json":
        return _one(registry.plugin(name), as_json or command == "--json")
    found = registry.plugin_command(name, command)
    if not isinstance(found, click.Command):
        raise ConfigError(f"the command {command!r} of the plugin {name!r} is not a click command")
    return found.main(list(args), prog_name=f"{ctx.command_path} {name} {command}", standalone_mode=False)


def _all(as_json: bool) -> None:
    plugins = registry.list_plugins()
    if as_json:
        say.data([_brief(p) for p in plugins])
        return
    rows = [(p.name, p.broken or p.summary, ", ".join(f"{p.name}.{o}" for o in p.operators), _state(p)) for p in plugins]
    say.table(rows, ("plugin", "what it is", "operators", "ready"))
    say.out()
    say.out("anchovy plugin NAME   what it takes")


def _state(p: PluginInfo) -> str:
    return "broken" if p.broken else p.install if p.missing else "yes"


def _brief(p: PluginInfo) -> dict[str, Any]:
    return {
        "name": p.name, "summary": p.summary, "module": p.module, "path": p.path, "missing": list(p.missing), "broken": p.broken,
        "operators": dict(p.operators), "connections": dict(p.connections), "commands": dict(p.commands),
    }  # fmt: skip


def _one(p: PluginInfo, as_json: bool) -> None:
    if p.broken:
        raise ConfigError(f"the plugin {p.name!r} cannot be read: {p.broken}", hint=f"look at {p.path}")
    described = describe(p)
    if as_json:
        say.data({**_brief(p), **described})
        return
    say.out(f"{click.style(p.name, bold=True)}  {p.summary}")
    for title, key in (("operators", "operators"), ("connections", "connections")):
        for name, about in described[key].items():
            say.out()
            say.out(f"{title[:-1]} {click.style(f'{p.name}.{name}' if key == 'operators' else name, bold=True)}  {about['text']}")
            width = max(map(len, about["takes"]), default=0)
            for attribute, text in about["takes"].items():
                say.out(f"  {attribute:<{width}}  {text}")
    if p.commands:
        say.out()
        for name in p.commands:
            say.out(f"anchovy plugin {p.name} {name}   {p.texts.get(name, '')}".rstrip())


def describe(p: PluginInfo) -> dict[str, dict[str, dict[str, Any]]]:
    """Operators with the table properties they take, connections with their attributes. Imports the plugin."""
    operators = {n: registry.load_member(p, t) for n, t in p.operators.items()}
    connections = {n: registry.load_member(p, t) for n, t in p.connections.items()}
    return {
        "operators": {n: {"text": _text(p, n, c), "takes": _properties(c)} for n, c in operators.items()},
        "connections": {n: {"text": _text(p, n, c), "takes": _attributes(c)} for n, c in connections.items()},
    }


def _text(p: PluginInfo, name: str, cls: Any) -> str:
    return p.texts.get(name) or (cls.__doc__ or "").strip().partition("\n")[0]


def _properties(cls: Any) -> dict[str, str]:
    properties: Mapping[str, str] = cls.tbl_properties if isinstance(cls, type) and issubclass(cls, Operator) else {}
    return {f"tbls.*.{k}": v for k, v in properties.items()}


def _attributes(cls: Any) -> dict[str, str]:
    if not (isinstance(cls, type) and issubclass(cls, Connection)):
        return {}
    return {name.upper(): _about(kind, spec) for name, (kind, spec) in cls.attributes().items()}


def _about(kind: type, spec: Any) -> str:
    parts = [spec.help] if spec.help else []
    if spec.required:
        parts.append("required")
    elif spec.default is not None and not isinstance(spec.default, Secret):
        parts.append(f"default {spec.default}")
    if spec.aliases:
        parts.append(f"or {', '.join(a.upper() for a in spec.aliases)}")
    return "; ".join(parts) or kind.__name__
