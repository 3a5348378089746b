"""`anchovy init`: a first `config.yaml`, or a first plugin. Nothing that is there is ever overwritten."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import click

from anchovies.cli import say, starter
from anchovies.core import registry
from anchovies.core.errors import ConfigError

DEFAULT = "files.CsvDownloader"


@click.command()
@click.argument("name")
@click.option("--plugin", "is_plugin", is_flag=True, help="Write a starter plugin and its test.")
@click.option("-op", "--op", "--operator-cls", "operator", metavar="OPERATOR", help=f"What the project runs.  [{DEFAULT}]")
@click.option("--from", "uri", metavar="URI", help="Look at a source (a folder, sftp://…) and guess its tables.")
def init(name: str, is_plugin: bool, operator: str | None, uri: str | None) -> None:
    """Write a config.yaml for the anchovy NAME into this folder, or (--plugin) a plugin NAME with its test.

    \b
    anchovy init sales
    anchovy init sales -op sftp.CsvDownloader
    anchovy init sales --from sftp://user@sftp.example.com/outbox
    anchovy init --plugin my_shop
    """
    registry.add_current_folder()
    if is_plugin and (operator or uri):
        raise click.UsageError("--plugin writes an operator of its own; -op and --from are for a project")
    if is_plugin:
        _plugin(name)
    elif uri is not None:
        _looked(name, operator, uri)
    else:
        _project(name, operator or DEFAULT)


def _project(name: str, operator: str) -> None:
    made = starter.project(starter.check_project(name), operator)
    _write(made.files)
    looks = ["anchovy plan", "anchovy start"] if made.follows else ["anchovy plan", "anchovy preview", "anchovy start"]
    _next([*(f"export {variable}=…" for variable in made.required), *looks])


def _looked(name: str, operator: str | None, uri: str) -> None:
    guess = import_module("anchovies.cli.guess")  # it runs the operator
    starter.check_project(name)
    _free(["config.yaml"])
    operator = operator or guess.operator_of(uri)
    found = guess.guess(operator, uri)
    _write(starter.project(name, operator, found).files)
    for table in found:
        say.out(f"  {table.name}: {len(table.columns)} columns" + (f", perhaps unique by {table.keys[0]}" if table.keys else ""))
    _next([f"export {guess.VARIABLE}={guess.shown(uri)}", "anchovy plan", "anchovy preview", "anchovy start"])


def _plugin(name: str) -> None:
    files = starter.plugin(starter.check_plugin(name))
    _write(files)
    operator = f"{starter.camel(name)}Downloader"
    _next(
        [
            f"pytest tests/test_{name}.py",
            f"anchovy plugin {name}",
            f"anchovy preview -op {name}.{operator}",
            f"anchovy start -op {name}.{operator} --id {name}",
        ]
    )


def _write(files: starter.Files) -> None:
    """All of them, or none."""
    _free(files)
    for path, text in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
        say.out(f"wrote {path}")


def _free(paths: Iterable[str]) -> None:
    """Raises ConfigError that lists what is there already."""
    if there := [path for path in paths if Path(path).exists() or Path(path).is_symlink()]:
        raise ConfigError(f"nothing was written, because this is there already: {', '.join(there)}", hint="go to another folder")


def _next(lines: list[str]) -> None:
    say.out()
    say.out("next:")
    for line in lines:
        say.out(f"  {line}")
