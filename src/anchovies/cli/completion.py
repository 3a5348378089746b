"""`anchovy completion SHELL`: the script that completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from anchovies.cli import say


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands in SHELL.

    \b
    bash:  eval "$(anchovy completion bash)"       in ~/.bashrc
    zsh:   eval "$(anchovy completion zsh)"        in ~/.zshrc
    fish:  anchovy completion fish > ~/.config/fish/completions/anchovy.fish
    """
    cls = get_completion_class(shell)
    assert cls is not None
    if shell == "bash":
        cls._check_version = lambda self=None: None  # type: ignore[attr-defined]  # the script is the same, and bash need not be here
    say.out(cls(ctx.find_root().command, {}, "anchovy", "_ANCHOVY_COMPLETE").source())
