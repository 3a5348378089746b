"""`anchovy init`: a first `config.yaml`, or a first plugin. Nothing that is there is ever overwritten."""

from __future__ import annotations

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
@click.option("--from", "uri", metavar="URI", hidden=True)
def init(name: str, is_plugin: bool, operator: str | None, uri: str | None) -> None:
    """Write a config.yaml for the anchovy NAME into this folder, or (--plugin) a plugin NAME with its test.

    \b
    anchovy init sales
    anchovy init sales -op sftp.CsvDownloader
    anchovy init --plugin my_shop
    """
    registry.add_current_folder()
    if uri is not None:
        raise click.UsageError("`anchovy init --from` is not built yet (see CHANGELOG)")
    if is_plugin and operator:
        raise click.UsageError("--plugin writes an operator of its own; -op is for a project")
    if is_plugin:
        _plugin(name)
    else:
        _project(name, operator or DEFAULT)


def _project(name: str, operator: str) -> None:
    made = starter.project(starter.check_project(name), operator)
    _write(made.files)
    looks = ["anchovy plan", "anchovy start"] if made.follows else ["anchovy plan", "anchovy preview", "anchovy start"]
    _next([*(f"export {variable}=…" for variable in made.required), *looks])


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
    """All of them, or none. Raises ConfigError that lists those that are there already."""
    if there := [path for path in files if Path(path).exists() or Path(path).is_symlink()]:
        raise ConfigError(f"nothing was written, because this is there already: {', '.join(there)}", hint="go to another folder")
    for path, text in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
        say.out(f"wrote {path}")


def _next(lines: list[str]) -> None:
    say.out()
    say.out("next:")
    for line in lines:
        say.out(f"  {line}")
