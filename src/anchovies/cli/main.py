"""`anchovy`: the entry. Commands are loaded when they are named, because cron starts us every minute."""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import pairwise
from typing import Any

import click

from anchovies import __version__
from anchovies.cli import say
from anchovies.core.suggest import did_you_mean, nearest

#: command → (module, function, one line of help); a module with dots is not one of ours here but brings its own command
COMMANDS: dict[str, tuple[str, str, str]] = {
    "start": ("start", "start", "Run one anchovy."),
    "init": ("init", "init", "Write a config.yaml, or a plugin with its test."),
    "demo": ("demo", "demo", "See the whole road in seconds, offline."),
    "preview": ("look", "preview", "Show the first rows of each table; stores nothing."),
    "plan": ("look", "plan", "Say what the next run would do; stores nothing."),
    "checkpoint": ("checkpoint", "checkpoint", "Look at checkpoints, edit them."),
    "rejects": ("rejects", "rejects", "Show rows that could not be kept, and why."),
    "replay": ("replay", "replay", "Load committed data again, without the source."),
    "verify": ("verify", "verify", "Recompute receipts and invariants; name what is broken."),
    "logs": ("logs", "logs", "Show what tasks came to, filtered."),
    "healthcheck": ("healthcheck", "healthcheck", "Say whether it is well: for cron, containers, Kubernetes."),
    "config": ("effective", "config", "Show every setting and where it came from."),
    "plugin": ("plugin", "plugin", "List plugins, what they add, what they take."),
    "maintain": ("maintain", "maintain", "Keep the datastore small and quick: snapshots, retention, garbage."),
    "chaos": ("anchovies.testing.tell", "chaos", "Play a simulated disaster and tell its story."),
    "completion": ("completion", "completion", "Print the script that completes commands in a shell."),
}
ALIASES = {"run": "start", "connector": "plugin"}
LATER = ("sql", "school")


class Commands(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module, function, _ = COMMANDS[name]
        found = getattr(import_module(module if "." in module else f"anchovies.cli.{module}"), function)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            if args[0] in LATER:
                raise click.UsageError(f"`anchovy {args[0]}` is not built yet (see CHANGELOG)")
            hint = did_you_mean(args[0], [*COMMANDS, *ALIASES], else_list="commands")
            raise Usage(f"there is no command {args[0]!r}", hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


class Usage(click.UsageError):
    """A mistake on the command line, with the way out."""

    def __init__(self, message: str, hint: str | None) -> None:
        super().__init__(message)
        self.hint = hint


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "--version", prog_name="anchovies", message="%(prog)s %(version)s")
def anchovy() -> None:
    """Small executors that extract and load, sharing nothing but a datastore.

    \b
    anchovy demo                                          see it work
    anchovy start -op sftp.CsvDownloader --id sales       download what is new
    anchovy start -op sql.Uploader --id warehouse -U sales   load it into a database
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit: 0 well, 1 failed, 2 bad usage or configuration, 3 timed out, 130/143 interrupted."""
    arguments = sys.argv[1:] if args is None else args
    sys.exit(run(arguments))


def run(args: list[str]) -> int:
    """The exit code of one command line."""
    say.speak_json("--log-format=json" in args or ("--log-format", "json") in pairwise(args))
    try:
        code: Any = anchovy.main(args, prog_name="anchovy", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.UsageError as e:
        say.error(e.message if isinstance(e, click.NoSuchOption) else e.format_message(), _usage_hint(e))
        return 2
    except click.ClickException as e:
        say.error(e.format_message())
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 1
    except BrokenPipeError:
        return 0
    except Exception as e:
        return say.failure(e, verbose=_verbose(args))


def _usage_hint(e: click.UsageError) -> str:
    if isinstance(e, Usage) and e.hint:
        return e.hint
    if isinstance(e, click.NoSuchOption) and e.option_name and e.ctx:
        options = [o for p in e.ctx.command.get_params(e.ctx) for o in (*p.opts, *p.secondary_opts) if o.startswith("-")]
        if found := nearest(e.option_name, options):
            return f"did you mean {found!r}?"
    return f"{e.ctx.command_path if e.ctx else 'anchovy'} --help"


def _verbose(args: list[str]) -> bool:
    return "-v" in args or "--verbose" in args or "debug" in args


if __name__ == "__main__":
    main()
