"""Writes the reference pages: `python -m anchovies.cli.reference [folder]`. A test compares them with docs/reference."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

import anchovies
from anchovies.cli.describe import describe
from anchovies.cli.main import COMMANDS, anchovy
from anchovies.core.declared import GROUPS, Setting
from anchovies.core.registry import list_plugins, load_member, plugin
from anchovies.core.tblconfig import LATER_KEYS, TABLE_KEYS

_BUILT_IN = str(Path(anchovies.__file__ or "").parent)
_NOTE = "<!-- Generated: `make reference` writes this page. -->"


def pages() -> dict[str, str]:
    """File name → text of every generated page."""
    return {"settings.md": settings_page(), "cli.md": cli_page(), "plugins.md": plugins_page(), "types.md": types_page()}


def settings_page() -> str:
    """Every setting, where it can come from, its default."""
    lines = [
        "# Settings", "", _NOTE, "",
        "A setting comes from the command line, the environment, `.env` or `config.yaml` (under `config:`); the first that",
        "has it wins, in that order. `anchovy config` shows what is in force and where it came from.", "",
    ]  # fmt: skip
    for title, group in GROUPS.items():
        lines += [f"## {title}", "", "| CLI | environment | `config:` | meaning | default |", "| --- | --- | --- | --- | --- |"]
        lines += [_row(s) for s in group]
        lines.append("")
    lines += ["## Connections", "", *_CONNECTIONS, "", "## Tables", "", *_tables(), ""]
    return "\n".join(lines)


_CONNECTIONS = (
    "| variable | meaning |",
    "| --- | --- |",
    "| `ACHVY_CNXN__<ATTRIBUTE>` | an attribute of the default connection |",
    "| `ACHVY_CNXN__<ID>__<ATTRIBUTE>` | an attribute of the connection `<id>` |",
    "| `…__JSONDATA` | several attributes as one JSON object |",
    "| `…_FILE`, `…__FILE` | the attribute is read from this file (up to 64 KiB); one newline at its end is dropped |",
    "| `ACHVY_CNXN__SCHEMAS__<ID>` | the database schema into which the upstream `<id>` is loaded |",
)


def _row(s: Setting) -> str:
    flags = _code([*s.flags, *s.off_flags])
    meaning = f"{s.help} (not built yet)" if s.later else f"{s.help} (not used yet)" if s.unused else s.help
    names = (_code([*s.variables, *s.off_env]), _code([*s.config_keys, *s.off_keys]))
    return f"| {flags} | {names[0]} | {names[1]} | {_cell(meaning)} | {_cell(s.shown_default)} |"


def _code(names: Iterable[str]) -> str:
    return " ".join(f"`{n}`" for n in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _tables() -> Iterator[str]:
    yield "Keys of a table under `tbls:`, besides the properties of its plugin: " + ", ".join(f"`{k}`" for k in TABLE_KEYS) + "."
    yield "Not built yet: " + ", ".join(f"`{k}`" for k in LATER_KEYS) + "."


def cli_page() -> str:
    """The help of every command."""
    lines = ["# Command line", "", _NOTE, ""]
    root = _context(anchovy, "anchovy")
    lines += ["```text", anchovy.get_help(root), "```", ""]
    for name in COMMANDS:
        command = anchovy.get_command(root, name)
        assert command is not None
        lines += list(_help(command, _context(command, name, root)))
    return "\n".join(lines)


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    return click.Context(command, parent, name, terminal_width=100, help_option_names=["-h", "--help"])


def _help(command: click.Command, ctx: click.Context) -> Iterator[str]:
    yield from (f"## {ctx.command_path}", "", "```text", command.get_help(ctx), "```", "")
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            sub = command.get_command(ctx, name)
            assert sub is not None
            yield from _help(sub, _context(sub, name, ctx))


def plugins_page() -> str:
    """Our own plugins: operators, table properties, connections."""
    lines = ["# Plugins", "", _NOTE, ""]
    for p in list_plugins():
        if not p.path.startswith(_BUILT_IN):
            continue
        lines += [f"## {p.name}", "", f"{p.summary}." + (f" Install it with `{p.install}`." if p.extra else ""), ""]
        described = describe(p)
        for name, about in described["operators"].items():
            lines += _listed(f"{p.name}.{name}", about["text"], {f"tbls.*.{k}": text for k, text in about["takes"].items()})
        for name, about in described["connections"].items():
            lines += _listed(name, about["text"], {k: _attribute(a) for k, a in about["takes"].items()})
        lines += [
            line for name in p.commands for line in (f"`anchovy plugin {p.name} {name}` {p.texts.get(name, '')}".rstrip(), "")
        ]
    return "\n".join(lines)


def _listed(title: str, text: str, takes: Mapping[str, str]) -> list[str]:
    lines = [f"* `{key}`: {said}" for key, said in takes.items()]
    return [f"**`{title}`** {text}", "", *lines, *([""] if lines else [])]


def _attribute(about: Mapping[str, Any]) -> str:
    parts = [f"({about['type']}) {about['help']}".rstrip()]
    if about["required"]:
        parts.append("required")
    elif about["default"] is not None:
        parts.append(f"default {about['default']}")
    return "; ".join([*parts, *([f"or {', '.join(a.upper() for a in about['aliases'])}"] if about["aliases"] else [])])


def types_page() -> str:
    """How each type lands in each database, as the plugin `sql` says."""
    rows = load_member(plugin("sql"), "anchovies.plugins.sql.typetable:type_table")()
    heads = list(rows[0])
    lines = [
        "# Types in databases", "", _NOTE, "",
        "What a column becomes in the table of a target. Every value comes back as it was: `exact` in the database's own type,",
        "`text` as its text, because the database has no type that holds all of its values. Nothing is rounded.", "",
        f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}",
    ]  # fmt: skip
    lines += [f"| {' | '.join(_code([r[h]]) if h == 'type' else _landed(r[h]) for h in heads)} |" for r in rows]
    return "\n".join([*lines, "", *_LIMITS])


def _landed(cell: str) -> str:
    word, _, how = cell.rpartition(" ")
    return f"`{word}` {how}"


_LIMITS = (
    "Refused, with the row: by PostgreSQL the character NUL in a text; by MariaDB numbers that are NaN or infinite, and years",
    "that have not four digits. SQLite keeps NaN as the text `NaN`. In MariaDB `UTC`, `json` and `uuid` are the comment of the",
    "column, which says what its moments and texts are.",
)


def main(folder: str = "docs/reference") -> None:
    """Write every page below `folder`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        Path(folder, name).write_text(text.rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
