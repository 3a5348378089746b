"""`config.yaml`: found, read safely, split into its parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anchovies.core.document import Node, parse_document, place
from anchovies.core.env import schemas_from
from anchovies.core.errors import ConfigError
from anchovies.core.names import check_name
from anchovies.core.suggest import did_you_mean

DEFAULT_FILE = "config.yaml"
_TOP = ("config", "tbls", "cnxns")
_VARIABLE = re.compile(r"\$(\$?)\{([^}]*)\}")


@dataclass(frozen=True)
class Config:
    """What stands in the configuration. `settings`: the map under `config:`; `tbls`: table name → its raw map.

    `path` is None where there is no file (text given, or nothing at all); `name` is how messages call it. `digest`: of the file's
    content, as `digest_of` tells it.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    tbls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    schemas: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    name: str = "config"
    warnings: tuple[str, ...] = ()
    digest: str = ""

    def at(self, section: str, key: str) -> str:
        """How a message about `section.key` begins: with file, line and column where they are known."""
        return place(self.settings if section == "config" else self.tbls, key, f"{section}.{key}")

    def schema_for(self, env: Mapping[str, str], user: str, id: str) -> str:
        """The database schema of an upstream anchovy: mapped by `ACHVY_CNXN__SCHEMAS__<ID>` or `config.schemas`, else its id,
        followed by `__<user>` for a user other than prod."""
        mapped = {_folded(k): v for k, v in schemas_from(env).items()}
        found = mapped.get(_folded(id)) or self.schemas.get(f"{user}/{id}") or self.schemas.get(id)
        return found or (id if user == "prod" else f"{id}__{user}")


def _folded(id: str) -> str:
    """Ids as variables can write them."""
    return re.sub(r"[^A-Z0-9]", "_", id.upper())


def load_config(given: Mapping[str, object], env: Mapping[str, str], folder: str = ".") -> Config:
    """The configuration that was asked for: `config` or `config_file` of `given` (the command line), of the environment, else
    `<folder>/config.yaml` if there is one, else an empty one. Raises ConfigError.
    """
    for source, one, other in ((given, "config", "config_file"), (env, "ACHVY_CONFIG", "ACHVY_CONFIG_FILE")):
        text, file = source.get(one), source.get(other)
        if text and file:
            raise ConfigError(f"{one} and {other} are both given", hint="give one of them")
        if text and _is_text(text):
            return parse_config(str(text), env, "config")
        if text or file:
            return read_config(Path(str(text or file)), env)
    default = Path(folder, DEFAULT_FILE)
    return read_config(default, env) if default.is_file() else Config()


def _is_text(value: object) -> bool:
    text = str(value)
    return text.lstrip().startswith("{") or "\n" in text


def read_config(path: Path, env: Mapping[str, str]) -> Config:
    """The configuration in the file `path`. Raises ConfigError."""
    try:
        data = path.expanduser().read_bytes()
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not UTF-8 at byte {e.start}", file=str(path)) from None
    except OSError as e:
        raise ConfigError(f"cannot read the configuration {path}: {e.strerror}", file=str(path)) from None
    return replace(parse_config(text, env, str(path), path), digest=_digest(data))


def digest_of(path: Path) -> str | None:
    """What changes when the content of a file does; None when it cannot be read."""
    try:
        return _digest(path.expanduser().read_bytes())
    except OSError:
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def parse_config(text: str, env: Mapping[str, str], name: str = "config", path: Path | None = None) -> Config:
    """The configuration in `text`, YAML or JSON. `${VAR}` in values is filled from `env`, `$${` is a plain `${`.

    Raises ConfigError.
    """
    return config_from(parse_document(text, name, lambda value: fill(value, env)), name, path)


def fill(text: str, env: Mapping[str, str]) -> str:
    """`text` with every `${VAR}` replaced. Raises ConfigError naming a variable that is not set."""

    def one(m: re.Match[str]) -> str:
        if m[1]:
            return f"${{{m[2]}}}"
        if m[2] not in env:
            raise ConfigError(
                f"${{{m[2]}}} is not set", hint=f"set the variable {m[2]}, or write $${{{m[2]}}} for the plain text"
            )
        return env[m[2]]

    return _VARIABLE.sub(one, text)


def config_from(data: Any, name: str = "config", path: Path | None = None) -> Config:
    """The configuration in plain data: `{"config": {...}, "tbls": {...}}`. Raises ConfigError."""
    top = _map(data, name)
    for key in top:
        if key not in _TOP and not key.startswith("x-"):
            raise ConfigError(f"{place(top, key, key)}: unknown key", hint=did_you_mean(key, _TOP[:2], else_list="keys"))
    if top.get("cnxns") is not None:
        raise _connections_here(top)
    settings = _map(top.get("config"), place(top, "config", "config"))
    tbls = _map(top.get("tbls"), place(top, "tbls", "tbls"))
    for tbl, raw in tbls.items():
        where = place(tbls, tbl, f"tbls.{tbl}")
        _named(tbl, where)
        tbls[tbl] = _map(raw, where)
    return Config(settings, tbls, _schemas(settings), path, name)


def _named(tbl: str, where: str) -> None:
    try:
        check_name(tbl, "table")
    except ConfigError as e:
        raise ConfigError(f"{where.removesuffix('.' + tbl)}: {e.message}", hint=e.hint) from None


def _map(value: Any, where: str) -> Node:
    if value is None:
        return Node()
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise ConfigError(f"{where}: expected a map, got {_brief(value)}")
    return value if isinstance(value, Node) else Node(value)


def _brief(value: Any) -> str:
    return repr(value)[:60]


def _schemas(settings: Mapping[str, Any]) -> dict[str, str]:
    where = place(settings, "schemas", "config.schemas")
    found = _map(settings.get("schemas"), where)
    for id, name in found.items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{place(found, id, f'config.schemas.{id}')}: expected the name of a schema, got {_brief(name)}")
    return dict(found)


def _connections_here(top: Node) -> ConfigError:
    cnxns, variable = top["cnxns"], "ACHVY_CNXN__<ID>__<ATTRIBUTE>"
    if isinstance(cnxns, Mapping) and cnxns:
        id, value = next(iter(cnxns.items()))
        inner = next(iter(value), "<ATTRIBUTE>") if isinstance(value, Mapping) else None
        variable = f"ACHVY_CNXN__{id}__{inner}".upper() if inner else f"ACHVY_CNXN__{id}".upper()
    return ConfigError(
        f"{place(top, 'cnxns', 'cnxns')}: connections are not read from the configuration",
        hint=f"set the variable {variable}, or put it in .env",
    )
