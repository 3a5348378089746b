"""What plugins say of themselves, read from their source without running it."""

from __future__ import annotations

import ast
import pkgutil
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from anchovies.core.errors import ConfigError

NAMESPACE = "anchovies.plugins"
#: Python 3.11 may fail with a SystemError ("AST constructor recursion depth") where two threads parse at once
_PARSING = threading.Lock()
_TARGET = re.compile(r"[\w.]+:[\w.]+")


@dataclass(frozen=True)
class PluginInfo:
    """One plugin. `operators`, `connections`, `commands`, `buffers`: name → `module:name`; `datastores`: scheme → the same;
    `reads`: scheme of an address → the operator whose connection takes it as `uri`;
    `requires`: modules that must be importable;
    `extra`: what `pip install 'anchovies[…]'` calls it; `texts`: a sentence
    on each of its names, if it says one; `path`: its source; `broken`: why its source could not be read."""

    name: str
    module: str
    summary: str = ""
    extra: str = ""
    requires: tuple[str, ...] = ()
    operators: Mapping[str, str] = field(default_factory=dict)
    connections: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    datastores: Mapping[str, str] = field(default_factory=dict)
    buffers: Mapping[str, str] = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    broken: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules it needs that are not installed."""
        return tuple(m for m in self.requires if not _is_there(m))

    @property
    def install(self) -> str:
        """The line that installs what it needs. `extra` is one of ours, or another distribution's: `acme-shop[api]`."""
        if self.extra:
            return f"pip install '{self.extra}'" if "[" in self.extra else f"pip install 'anchovies[{self.extra}]'"
        return f"pip install {' '.join(self.missing or self.requires)}"


def find_plugin(name: str) -> PluginInfo | None:
    """The plugin `name`; reads no source but its own."""
    for found, source in _modules():
        if found == name:
            return read_plugin(name, f"{NAMESPACE}.{name}", source)
    return next((_of_entry(e.name, e.value) for e in _entry_points() if e.name == name), None)


def _entry_points() -> Iterable[Any]:
    from importlib.metadata import entry_points  # 15 ms, and wanted only where the namespace has no such plugin

    return entry_points(group=NAMESPACE)


def _of_entry(name: str, value: str) -> PluginInfo:
    module = value.partition(":")[0].strip()
    if (spec := _spec_of(module)) is None:
        return PluginInfo(name, module, broken=f"its entry point names the module {module!r}, and there is none")
    return read_plugin(name, module, Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None)


def find_plugins() -> dict[str, PluginInfo]:
    """Plugin name → what it says of itself: modules of the namespace first, then the entry points. Nothing is imported."""
    found: dict[str, PluginInfo] = {}
    for name, source in _modules():
        found.setdefault(name, read_plugin(name, f"{NAMESPACE}.{name}", source))
    for entry in _entry_points():
        if entry.name not in found:
            found[entry.name] = _of_entry(entry.name, entry.value)
    return found


def _modules() -> Iterator[tuple[str, Path | None]]:
    try:
        namespace = import_module(NAMESPACE)
    except ModuleNotFoundError:
        return
    for module in pkgutil.iter_modules(list(namespace.__path__)):
        if not module.name.startswith("_"):
            folder = Path(getattr(module.module_finder, "path", ""))
            path = folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"
            yield module.name, path if path.is_file() else None


def _spec_of(module: str) -> ModuleSpec | None:
    """Where a module lies. `importlib.util.find_spec` would import the packages that it is in."""
    path, spec, name = None, None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        found = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((f for f in found if f is not None), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


def _is_there(module: str) -> bool:
    return module in sys.modules or _spec_of(module) is not None


def read_plugin(name: str, module: str, source: Path | None) -> PluginInfo:
    """The top-level literal `PLUGIN = {...}` of the plugin's source; without one its classes are its operators."""
    if source is None:
        return PluginInfo(name, module)
    try:
        text = source.read_bytes()
        with _PARSING:
            tree = ast.parse(text)
        said = _literal(tree)
        if said is None:
            doc = (ast.get_docstring(tree) or "").partition("\n")[0]
            operators, connections = _classes(tree, module)
            return PluginInfo(
                name, module, doc, requires=_needs(tree), operators=operators, connections=connections, path=str(source)
            )
        return _info(name, module, said, str(source))
    except (SyntaxError, OSError, ValueError, ConfigError) as e:
        return PluginInfo(name, module, path=str(source), broken=str(e))


def _literal(tree: ast.Module) -> dict[str, Any] | None:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(t, ast.Name) and t.id == "PLUGIN" for t in targets):
            value = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            if not isinstance(value, dict):
                raise ConfigError("PLUGIN is not a map")
            return value
    return None


def _info(name: str, module: str, said: dict[str, Any], path: str) -> PluginInfo:
    return PluginInfo(
        name=name,
        module=module,
        summary=str(said.get("summary", "")),
        extra=str(said.get("extra") or ""),
        requires=tuple(said.get("requires", ())),
        operators=_targets(said.get("operators", ()), module),
        connections=_targets(said.get("connections", ()), module),
        commands=_targets(said.get("commands", ()), module),
        datastores=_targets(said.get("datastores", ()), module),
        buffers=_targets(said.get("buffers", ()), module),
        reads={str(scheme): str(operator) for scheme, operator in dict(said.get("reads", {})).items()},
        texts=_texts(*(said.get(kind) for kind in ("operators", "connections", "commands", "buffers"))),
        path=path,
    )


def _targets(said: Any, module: str) -> dict[str, str]:
    """`["Cls", "pkg.mod:Cls"]` or `{"name": "pkg.mod:Cls"}` → name → `module:Cls`; other texts describe names of its own."""
    pairs = said.items() if isinstance(said, Mapping) else [(s.rpartition(":")[2], s) for s in said]
    return {name: t if _TARGET.fullmatch(t) else f"{module}:{t if t.isidentifier() else name}" for name, t in pairs}


def _texts(*said: Any) -> dict[str, str]:
    maps = [s for s in said if isinstance(s, Mapping)]
    return {name: t for m in maps for name, t in m.items() if not _TARGET.fullmatch(t) and not t.isidentifier()}


def _needs(tree: ast.Module) -> tuple[str, ...]:
    """What a plugin without a PLUGIN imports at its top, by the names of the distributions' packages."""
    names = [a.name for node in tree.body if isinstance(node, ast.Import) for a in node.names]
    names += [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level]
    found = dict.fromkeys(n.partition(".")[0] for n in names)
    return tuple(n for n in found if n not in ("anchovies", "__future__") and n not in sys.stdlib_module_names)


def _classes(tree: ast.Module, module: str) -> tuple[dict[str, str], dict[str, str]]:
    """Operators and connections of a plugin without a PLUGIN: its public classes, told apart by the names of their bases."""
    found: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.bases and not node.name.startswith("_"):
            bases = [ast.unparse(b) for b in node.bases]
            found[any(b.endswith("Connection") for b in bases)][node.name] = f"{module}:{node.name}"
    return found
