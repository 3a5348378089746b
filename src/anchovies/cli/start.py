"""`anchovy start`: run one anchovy."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from anchovies.cli import say
from anchovies.cli.options import EVERY, Given, read, takes
from anchovies.cli.screen import screen_for
from anchovies.core.declared import BY_NAME
from anchovies.engine.supervisor import supervise


@click.command()
@takes(*EVERY)
def start(**options: Any) -> int:
    """Run one anchovy: one batch and exit, or (-S) batches until stopped.

    \b
    anchovy start -op sftp.CsvDownloader --id sales_sftp
    anchovy start -op sql.Uploader --id warehouse -U sales_sftp
    """
    given = read(options, quiet=True)
    if given.settings.execution_timeout is None:
        return session(given, lambda at: None)
    # before any thread or heavy import: the operator is looked up in the child
    return supervise(
        lambda arm: session(given, arm), given.settings.execution_timeout, given.settings.grace, lambda: _killed(given)
    )


def session(given: Given, arm: Any, **more: Any) -> int:
    """Run the session in this process, tell about it as the settings say, and return its exit code. `more`: further hooks."""
    operator = given.operator()
    api = import_module("anchovies.engine.api")
    _many_rows()
    abandoned: list[object] = []
    hooks = api.Hooks(signals=True, on_arm=arm, on_hard=abandoned.append, reread=given.again, **more)
    screen = screen_for(given.settings)
    with screen:
        result = api.run_session(operator, given.settings, given.config, given.env, screen.listen, hooks)
    with suppress(OSError):  # nobody takes it: the exit code says how it went all the same
        screen.conclude(result)
        sys.stdout.flush()
    if abandoned:  # a thread of the operator still runs: nothing waits for it
        os._exit(result.exit_code)
    return int(result.exit_code)


def _many_rows() -> None:
    """Rows are many small objects that die young without cycles: looking for cycles every 700 of them took long."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    sys.setswitchinterval(0.0005)  # the encoder's thread asks for the lock between Arrow's kernels; 5 ms each time made it idle


def _killed(given: Given) -> None:
    """The supervisor's last words: recorded, and said."""
    s = given.settings
    operator = BY_NAME["operator_cls"].show(s.operator_cls)
    import_module("anchovies.engine.watch").record_kill(s, operator, s.grace, given.env)
    text = f"the execution timeout ({s.execution_timeout:g} s) and the grace period passed, so the process was killed"
    hint = "what was committed stays; nothing else is visible"
    if s.json:
        who = {"anchovy_id": s.id, "anchovy_user": s.user, "session_id": "", "operator": operator, "datastore": s.datastore}
        say.data(
            {"status": "timeout", "exit_code": 3, **who, "err_type": "AnchovyExecutionTimeout", "err_msg": text, "hint": hint}
        )
    else:
        say.error(text, hint)
