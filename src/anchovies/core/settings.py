"""The settings of one run: from the command line, the environment, `.env`, `config.yaml`, in that order; else the default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from anchovies.core.config import Config
from anchovies.core.declared import BY_NAME, OTHER_VARIABLES, SETTINGS, Setting
from anchovies.core.env import CNXN, MISPRINTS, Environment
from anchovies.core.errors import ConfigError
from anchovies.core.suggest import alike, did_you_mean, nearest

NOT_BUILT = "is not built yet (see CHANGELOG)"
_VARIABLES = {v for s in SETTINGS for v in (*s.variables, *s.off_env)} | set(OTHER_VARIABLES)
_KEYS = {k for s in SETTINGS for k in (*s.config_keys, *s.off_keys)} | {"schemas"}


class Effective(msgspec.Struct, frozen=True):
    """One line of `anchovy config`: the value as a person would write it, and where it came from."""

    setting: Setting
    value: Any
    origin: str

    @property
    def shown(self) -> str:
        return self.setting.show(self.value) if self.value not in (None, ()) else ""


class Settings:
    """Every setting as an attribute: sizes in bytes, times in seconds, lists as tuples, None for none. Frozen."""

    __slots__ = ("_origins", "_values", "warnings")

    warnings: tuple[str, ...]

    def __init__(self, values: Mapping[str, Any], origins: Mapping[str, str], warnings: tuple[str, ...] = ()) -> None:
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_origins", dict(origins))
        object.__setattr__(self, "warnings", warnings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"there is no setting {name!r}")
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("settings are frozen; with_(…) gives a changed copy")

    __delattr__ = None  # type: ignore[assignment]

    def origin(self, name: str) -> str:
        """`command line`, a variable's name, `.env: …`, `config.yaml: config.…` or `default`."""
        return str(self._origins[name])

    def __iter__(self) -> Iterator[Effective]:
        return (Effective(s, self._values[s.name], self._origins[s.name]) for s in SETTINGS)

    def with_(self, **changes: Any) -> Settings:
        """A copy with other values, of the kinds that attributes have."""
        if unknown := changes.keys() - self._values.keys():
            raise AttributeError(f"there is no setting {min(unknown)!r}")
        origins = {**self._origins, **dict.fromkeys(changes, "code")}
        return Settings({**self._values, **changes}, origins, self.warnings)

    def __repr__(self) -> str:
        return f"<Settings of {self._values.get('user')}/{self._values.get('id')}>"


class _Found(msgspec.Struct, frozen=True):
    value: Any
    origin: str
    where: str


def resolve(cli: Mapping[str, object], env: Mapping[str, str], config: Config) -> Settings:
    """Settings of what was given. `cli`: setting name → value, None or () for options that were not given.

    Raises ConfigError for what is unknown (with the nearest name), of a wrong type (with the variable, option or key),
    contradictory, or not built yet. What is only doubtful is in `warnings`.
    """
    _refuse_unknown(cli, env, config)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    warnings = [*_lookalikes(env), *config.warnings]
    for setting in SETTINGS:
        found = _from_cli(setting, cli) or _from_env(setting, env) or _from_config(setting, config)
        if found is None:
            values[setting.name] = setting.default(values, env) if callable(setting.default) else setting.default
            origins[setting.name] = "default"
            continue
        if setting.later and found.value not in setting.harmless:
            raise ConfigError(f"{found.where}: {setting.name} {NOT_BUILT}", setting=setting.name)
        if setting.unused:
            warnings.append(f"{found.where} is set, but nothing uses it yet")
        values[setting.name], origins[setting.name] = found.value, found.origin
    warnings += _identity(values, origins, env)
    _check_workers(values)
    return Settings(values, origins, tuple(warnings))


def _identity(values: dict[str, Any], origins: dict[str, str], env: Mapping[str, str]) -> Iterator[str]:
    if values["prod"] and values["user"] != "prod":
        if origins["user"] == "command line":
            raise ConfigError(f"--prod and --user {values['user']} contradict one another", hint="give one of them")
        values["user"], origins["user"] = "prod", "command line"
    if origins["id"] == "default":
        if values["prod"]:
            raise ConfigError("an anchovy in production needs an id", hint="give it one: --id NAME, or ACHVY_ID=NAME")
        yield f"no id was given, so it is {values['id']!r}: give the anchovy a name with --id or ACHVY_ID"
    if values["service"] and values["host"] and not values["port"]:
        yield "a host is given and no port, so nothing listens: add --port, or ACHVY_PORT"


def _check_workers(values: Mapping[str, Any]) -> None:
    num, of = values["worker_num"], values["workers"]
    if not num < of:
        raise ConfigError(
            f"there is no worker {num} of {of}", hint="workers are counted from 0: --workers 4 has --worker-num 0, 1, 2 and 3"
        )
    if of > 1 and values["full_refresh"]:
        raise ConfigError(
            f"--full-refresh would forget what the other {of - 1} workers have just read",
            hint="forget the checkpoints first, `anchovy checkpoint delete`, then start all workers without it",
        )


def _from_cli(setting: Setting, cli: Mapping[str, object]) -> _Found | None:
    for name in (setting.name, *setting.config_keys, *setting.off_keys):
        value = cli.get(name)
        if value in (None, (), []):
            continue
        where = setting.flags[-1] if setting.flags else name
        parsed = setting.kind.parse(value, where)
        return _Found(not parsed if name in setting.off_keys else parsed, "command line", where)
    return None


def _from_env(setting: Setting, env: Mapping[str, str]) -> _Found | None:
    """A real variable beats one of `.env`; two that contradict one another are refused."""
    found: list[tuple[bool, _Found]] = []
    for name in (*setting.variables, *setting.off_env):
        if not env.get(name):
            continue
        in_file = isinstance(env, Environment) and env.from_file(name)
        value = setting.kind.parse(env[name], name)
        value = not value if name in setting.off_env else value
        found.append((in_file, _Found(value, f".env: {name}" if in_file else name, name)))
    found.sort(key=lambda f: f[0])
    best = [f for in_file, f in found if in_file == found[0][0]]
    if any(f.value != best[0].value for f in best):
        raise ConfigError(f"{best[0].where} and {best[1].where} contradict one another", hint="unset one of them")
    return best[0] if best else None


def _from_config(setting: Setting, config: Config) -> _Found | None:
    for key in (*setting.config_keys, *setting.off_keys):
        value = config.settings.get(key)
        if value is None:
            continue
        where = config.at("config", key)
        parsed = setting.kind.parse(value, where)
        return _Found(not parsed if key in setting.off_keys else parsed, f"{config.name}: config.{key}", where)
    return None


def _refuse_unknown(cli: Mapping[str, object], env: Mapping[str, str], config: Config) -> None:
    for name in cli:
        if name not in BY_NAME and name not in _KEYS:
            raise ConfigError(f"unknown setting {name!r}", hint=did_you_mean(name, BY_NAME, else_list="settings"))
    for name in config.settings:
        if name not in _KEYS:
            raise ConfigError(
                f"{config.at('config', name)}: unknown setting", hint=did_you_mean(name, _KEYS, else_list="settings")
            )
    for name in sorted(env):
        if name.startswith("ACHVY_") and name not in _VARIABLES and not name.startswith(CNXN):
            raise ConfigError(f"unknown variable {name}", hint=_variable_hint(name))


def _variable_hint(name: str) -> str:
    if name.startswith("ACHVY_CNXN"):
        return f"connections are written {CNXN}<ATTRIBUTE> or {CNXN}<ID>__<ATTRIBUTE>, with two underscores"
    return did_you_mean(name, _VARIABLES) or "`anchovy config` lists every variable"


def _lookalikes(env: Mapping[str, str]) -> Iterator[str]:
    """Sentences about variables that somebody may have meant for us."""
    for name in sorted(env):
        if name.startswith("ACHVY_"):
            continue
        if misprint := next((p for p in MISPRINTS if name.startswith(p)), None):
            yield f"{name} works, but its name is {CNXN}{name[len(misprint) :]}"
        elif (head := name.partition("_")[0]) and (name.startswith("ACHVY") or _looks_like_us(head)):
            meant = nearest(f"ACHVY_{name.removeprefix(head).strip('_')}" if head != name else name, _VARIABLES)
            yield f"{name} is not read" + (f"; did you mean {meant}?" if meant else ": our variables begin with ACHVY_")


def _looks_like_us(head: str) -> bool:
    return head in ("ANCHOVY", "ANCHOVIES") or (head[:1] == "A" and head[-1:] in "YIEVH" and alike(head, "ACHVY") >= 0.8)
