"""Two ways in: `run_session` for the command line, `run` for Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from anchovies.core.config import Config, config_from, load_config
from anchovies.core.env import read_environment
from anchovies.core.errors import AnchovyError, ConfigError
from anchovies.core.registry import resolve_operator
from anchovies.core.settings import Settings, resolve
from anchovies.engine.events import Event, Listener, silent
from anchovies.engine.outcome import TableFailures
from anchovies.engine.reload import Reread
from anchovies.engine.session import MakeWork, SessionRun
from anchovies.engine.watch import Watch
from anchovies.engine.work import work_of
from anchovies.sdk.operator import Operator
from anchovies.sdk.result import SessionResult
from anchovies.store.open import open_store

Arm = Callable[[float | None], None]


class Hooks(msgspec.Struct, frozen=True):
    """How the calling process takes part in a session.

    `signals`: SIGTERM and SIGINT stop it (main thread only). `on_arm` is told each batch's deadline (monotonic seconds).
    `on_hard` is called where work had to be abandoned: its thread still runs, so the process should end itself. `make_work`: what
    a batch does, where that is something else than the operator's usual work. `reread` reads the settings and the configuration
    again, as they were read for this session: a service does so when the file has changed.
    """

    signals: bool = False
    on_arm: Arm = lambda at: None
    on_hard: Callable[[SessionResult], None] = lambda result: None
    make_work: MakeWork = work_of
    reread: Reread | None = None


def run_session(
    operator: type[Operator],
    settings: Settings,
    config: Config,
    env: Mapping[str, str],
    listener: Listener = silent,
    hooks: Hooks | None = None,
) -> SessionResult:
    """Run one session to its end and return what it came to. Raises ConfigError for what cannot begin."""
    return _execute(operator, settings, config, env, listener, hooks or Hooks())[0]


def _execute(
    operator: type[Operator], settings: Settings, config: Config, env: Mapping[str, str], listener: Listener, hooks: Hooks
) -> tuple[SessionResult, BaseException | None]:
    run = SessionRun(operator, settings, config, env, listener, open_store(settings.datastore, env, settings.execution_timeout))
    run.on_arm = hooks.on_arm
    run.make_work = hooks.make_work
    run.reread = hooks.reread
    watch = Watch(run)
    result = watch.run(signals=hooks.signals)
    listener(Event("session_ended", None, {"result": result}))
    if watch.hard:
        hooks.on_hard(result)
    return result, run.error


def run(operator: str | type, /, **settings: Any) -> SessionResult:
    """See `anchovies.run`."""
    if wrong := [k for k in ("tbls", "cnxns") if not isinstance(settings.get(k, {}), Mapping)]:
        raise ConfigError(
            f"{wrong[0]}= takes a map", hint="tbls={'orders': {'unique_by': 'id'}}, cnxns={'db': {'url': 'sqlite:///x.db'}}"
        )
    cls = resolve_operator(operator) if isinstance(operator, str) else operator
    if not (isinstance(cls, type) and issubclass(cls, Operator)):
        raise ConfigError(f"{operator!r} is no operator", hint="give a subclass of anchovies.sdk.Downloader or Uploader")
    listener: Listener = settings.pop("listener", silent)
    env = {**read_environment(), **connection_variables(settings.pop("cnxns", {}))}
    tbls = settings.pop("tbls", None)

    def read() -> tuple[Settings, Config]:
        config = load_config(settings, env)
        if tbls is not None:
            config = replace(config, tbls={**config.tbls, **config_from({"tbls": tbls}, "tbls").tbls})
        return resolve({k: v for k, v in settings.items() if k not in ("config", "config_file")}, env, config), config

    resolved, config = read()
    result, error = _execute(cls, resolved, config, env, listener, Hooks(reread=read))
    if result.exit_code == 0:
        return result
    if isinstance(error, TableFailures) and len(error.errors) == 1:
        error = error.errors[0]
    raise error or AnchovyError(result.err_msg or result.status, hint=result.hint)


def connection_variables(cnxns: Mapping[str, Any]) -> dict[str, str]:
    """`cnxns={'default': {'uri': …}, 'db': {'url': …}}` as the variables that say the same."""
    out = {}
    for name, attrs in cnxns.items():
        head = "ACHVY_CNXN__" if name == "default" else f"ACHVY_CNXN__{name.upper()}__"
        out.update({f"{head}{attr.upper()}": str(value) for attr, value in attrs.items()})
    return out
