"""The options of the command line, made from the settings' declarations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from anchovies.cli import say
from anchovies.core.config import Config, load_config
from anchovies.core.declared import BY_NAME, IDENTITY, SETTINGS, Setting
from anchovies.core.env import Environment, read_environment
from anchovies.core.errors import ConfigError
from anchovies.core.registry import add_current_folder, resolve_operator
from anchovies.core.settingkinds import BOOL
from anchovies.core.settings import Settings, resolve
from anchovies.store.buffers import expect_buffer

F = TypeVar("F", bound=Callable[..., Any])
EVERY = tuple(s.name for s in SETTINGS)
WHO = tuple(s.name for s in IDENTITY)
LOOK = (
    *WHO,
    "operator_cls",
    "upstream",
    "upstream_may_be_missing",
    "enabled",
    "disabled",
    "full_refresh",
    "service",
    "json",
    "log_level",
)


@dataclass(frozen=True)
class Given:
    """What a command was given: the environment, the configuration and the settings they come to."""

    env: Environment
    config: Config
    settings: Settings
    options: Mapping[str, Any]

    def again(self) -> tuple[Settings, Config]:
        """Settings and configuration as the configuration's file says now; the environment is that of the start."""
        config = load_config(self.options, self.env)
        return resolve(self.options, self.env, config), config

    def operator(self) -> type:
        """The operator class. Raises ConfigError when none is named, or it cannot be found."""
        if self.settings.operator_cls is None:
            raise ConfigError(
                "no operator was given", hint="say what to run: -op sftp.CsvDownloader (`anchovy plugin` lists them)"
            )
        return resolve_operator(self.settings.operator_cls)


def read(options: dict[str, Any], *, quiet: bool = False) -> Given:
    """Settings of a command's options, the environment and the configuration. Raises ConfigError; warns, unless `quiet`."""
    if options.pop("verbose", False):
        options = {**options, "log_level": options.get("log_level") or "debug"}
    add_current_folder()
    env = read_environment()
    config = load_config(options, env)
    settings = resolve(options, env, config)
    say.speak_json(settings.log_format == "json")
    if settings.origin("data_buffer_cls") != "default":
        expect_buffer(settings.data_buffer_cls)
    if not quiet:
        for warning in settings.warnings:
            say.warning(warning)
    return Given(env, config, settings, options)


def takes(*names: str) -> Callable[[F], F]:
    """Decorate a command with the options of these settings, and `-v`."""

    def decorate(command: F) -> F:
        verbose = click.option("-v", "--verbose", is_flag=True, help="The same as --log-level debug, with whole tracebacks.")
        command = verbose(command)
        for name in reversed(names):
            if BY_NAME[name].flags:
                command = option(BY_NAME[name])(command)
        return command

    return decorate


def option(setting: Setting) -> Callable[[F], F]:
    """The click option of one setting. Values are handed on as they were typed: `resolve` reads them."""
    more: dict[str, Any] = {"default": None, "help": help_text(setting), "hidden": setting.later}
    if setting.kind is BOOL:
        pairs = (
            [f"{a}/{b}" for a, b in zip(setting.flags, setting.off_flags, strict=True)] if setting.off_flags else setting.flags
        )
        return click.option(setting.name, *pairs, is_flag=True, **more)
    if setting.repeats:
        return click.option(setting.name, *setting.flags, multiple=True, metavar=setting.kind.metavar, help=more["help"])
    return click.option(setting.name, *setting.flags, metavar=setting.kind.metavar, **more)


def help_text(setting: Setting) -> str:
    """The help of one setting, its default and its variable."""
    text = setting.help[0].upper() + setting.help[1:]
    notes = [] if setting.shown_default in ("none", "false", "all") else [setting.shown_default]
    shown = "; ".join([*notes, *setting.variables[:1]])
    return f"{text}.{' May be repeated.' if setting.repeats else ''}" + (f"  [{shown}]" if shown else "")
