"""What a plugin's operators and connections take, as plain data. A plugin that cannot be imported is described by its source."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from anchovies.core import registry
from anchovies.core.errors import AnchovyError, ConfigError
from anchovies.core.plugininfo import PluginInfo
from anchovies.core.secret import Secret
from anchovies.sdk.connection import Connection
from anchovies.sdk.markers import SourceSpec
from anchovies.sdk.operator import Operator

#: what a plugin adds, in the order in which it is shown
ADDS = ("operators", "connections", "datastores", "buffers", "commands")
Described = dict[str, dict[str, dict[str, Any]]]


def brief(p: PluginInfo) -> dict[str, Any]:
    """What is known of a plugin without importing it."""
    about = {"name": p.name, "summary": p.summary, "module": p.module, "path": p.path, "broken": p.broken}
    needs = {"missing": list(p.missing), "install": p.install if p.missing else ""}
    return {**about, **needs, **{kind: dict(getattr(p, kind)) for kind in ADDS}}


def describe(p: PluginInfo) -> Described:
    """Operators with their connections, tables and table properties; connections with their attributes.

    Imports the plugin, whatever it says that it needs. Raises ConfigError that names the error of its import.
    """
    try:
        operators = {n: registry.load_member(p, t, anyway=True) for n, t in p.operators.items()}
        connections = {n: registry.load_member(p, t, anyway=True) for n, t in p.connections.items()}
    except AnchovyError:
        raise
    except Exception as e:
        where = traceback.extract_tb(e.__traceback__)[-1]
        raise ConfigError(
            f"the plugin {p.name!r} cannot be imported: {type(e).__name__}: {e}", hint=f"look at {where.filename}:{where.lineno}"
        ) from e
    return {
        "operators": {n: {"text": _text(p, n, c), **_operator(c)} for n, c in operators.items()},
        "connections": {
            n: {"text": _text(p, n, c), "takes": _attributes(c, _ids(p, c, operators.values()))} for n, c in connections.items()
        },
    }


def from_source(p: PluginInfo) -> Described:
    """The same of a plugin that cannot be imported: its names and its words."""
    blank: dict[str, dict[str, Any]] = {"operators": {"connections": {}, "tables": [], "takes": {}}, "connections": {"takes": {}}}
    return {kind: {n: {"text": p.texts.get(n, ""), **more} for n in getattr(p, kind)} for kind, more in blank.items()}


def _text(p: PluginInfo, name: str, cls: Any) -> str:
    return p.texts.get(name) or (cls.__doc__ or "").strip().partition("\n")[0]


def _operator(cls: Any) -> dict[str, Any]:
    if not (isinstance(cls, type) and issubclass(cls, Operator)):
        return {"connections": {}, "tables": [], "takes": {}}
    connections = {i: getattr(c, "__name__", str(c)) for i, c in cls.connection_classes().items()}
    tables = [t for _, spec in cls.marked() if isinstance(spec, SourceSpec) for t in spec.tables]
    properties: Mapping[str, str] = cls.tbl_properties
    return {"connections": connections, "tables": list(dict.fromkeys(tables)), "takes": dict(properties)}


def _ids(p: PluginInfo, cls: Any, operators: Iterable[Any]) -> list[str]:
    """What the plugin's operators call a connection of that class; a datastore's is called `datastore`."""
    known = [o.connection_classes() for o in operators if isinstance(o, type) and issubclass(o, Operator)]
    ids = dict.fromkeys(i for found in known for i, c in found.items() if c is cls)
    return list(ids) or (["datastore"] if p.datastores else ["default"])


def _attributes(cls: Any, ids: list[str]) -> dict[str, dict[str, Any]]:
    if not (isinstance(cls, type) and issubclass(cls, Connection)):
        return {}
    return {name.upper(): _attribute(name, kind, spec, ids) for name, (kind, spec) in cls.attributes().items()}


def _attribute(name: str, kind: type, spec: Any, ids: list[str]) -> dict[str, Any]:
    default = None if spec.required or isinstance(spec.default, Secret) else spec.default
    return {
        "type": "secret" if kind is Secret else kind.__name__,
        "required": bool(spec.required),
        "default": default,
        "help": spec.help,
        "aliases": list(spec.aliases),
        "variables": [f"ACHVY_CNXN__{'' if i == 'default' else f'{i.upper()}__'}{name.upper()}" for i in ids],
    }
