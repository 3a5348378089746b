"""Finding what to run: operators by plugin path, import path or file; plugins by name, read without importing them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import anchovies
from anchovies.core.errors import ConfigError
from anchovies.core.plugininfo import PluginInfo, find_plugin, find_plugins
from anchovies.core.suggest import did_you_mean

#: plugins of later versions
LATER = ("http", "kafka", "kinesis", "lake", "singer", "dbt", "ray")
_FORMS = "an operator is written sftp.CsvDownloader, mypkg.mod:Cls, or ./file.py:Cls"
#: files that were loaded, so that an operator and the parts beside it in one file are of one module
_files: dict[Path, Any] = {}


def forms(what: str) -> str:
    """How the name of a class is written."""
    return _FORMS if what == "operator" else f"a {what} is written myplugin.Cls, mypkg.mod:Cls, or ./file.py:Cls"


def resolve_class(text: str | type, what: str, ours: Mapping[str, str], folder: str = ".") -> type:
    """The class that `text` names, as an operator is named; `ours`: short names → `module:Cls`. `what` it is, for messages.

    Raises ConfigError for what does not exist, with the nearest names, and for what its import raises.
    """
    if isinstance(text, type):
        return text
    path = ours.get(text, text)
    if path == text:
        add_current_folder(folder)
    try:
        found = _found(path, what, ours, folder)
    except ConfigError:
        raise
    except Exception as e:
        raise ConfigError(f"the {what} {text!r} cannot be loaded: {type(e).__name__}: {e}") from e
    if not isinstance(found, type):
        raise ConfigError(f"{text!r} is no class", hint=forms(what))
    return found


def _found(text: str, what: str, ours: Mapping[str, str], folder: str) -> Any:
    module, colon, cls = text.rpartition(":")
    if module.endswith(".py"):
        path = Path(folder, module).expanduser()
        return _member(_files.get(path.resolve()) or _load_file(path, text, what), cls, text)
    if colon:
        return _member(_import(module, text, what=what), cls, text)
    head, _, rest = text.partition(".")
    if rest and not text.endswith(".py") and (info := find_plugin(head)) is not None:
        if what == "data buffer" and rest in info.buffers:
            return load_member(info, info.buffers[rest])
        _refuse_missing(info)
        return _member(_import(info.module, text, info, what), rest, text)
    module, _, cls = text.rpartition(".")
    if module and not text.startswith(".") and cls != "py" and find_spec(module.partition(".")[0]) is not None:
        return _member(_import(module, text, what=what), cls, text)
    raise ConfigError(f"there is no {what} {text!r}", hint=did_you_mean(text, ours) or forms(what))


def add_current_folder(folder: str = ".") -> None:
    """Append `folder` to the import path, so that it may add plugins and modules, and shadows nothing."""
    anchovies.add_plugin_path(str(Path(folder).resolve()))


def list_plugins() -> list[PluginInfo]:
    """Every plugin there is, by name, without importing any: those of our own, of other distributions, of the current folder."""
    return sorted(find_plugins().values(), key=lambda p: p.name)


def plugin(name: str) -> PluginInfo:
    """The plugin `name`. Raises ConfigError with the nearest name."""
    found = find_plugin(name)
    if found is None:
        raise ConfigError(f"there is no plugin {name!r}", hint=did_you_mean(name, find_plugins(), else_list="plugins"))
    return found


def resolve_operator(text: str | type, folder: str = ".") -> type:
    """The operator class that `text` names (a class is returned as it is). `folder` is appended to the import path.

    Raises ConfigError for what does not exist, with the nearest names, and for a missing driver, with the line that installs it.
    """
    if isinstance(text, type):
        return _checked(text, text.__name__)
    add_current_folder(folder)
    module, colon, cls = text.rpartition(":")
    if text.endswith(".py") or module.endswith(".py"):
        return _from_file(Path(folder, (module if colon else text)).expanduser(), cls if colon else None, text)
    if colon:
        return _checked(_member(_import(module, text), cls, text), text)
    head, _, rest = text.partition(".")
    if (info := find_plugin(head)) is not None:
        return _from_plugin(info, rest, text)
    module, _, cls = text.rpartition(".")
    if module and not text.startswith(".") and find_spec(module.partition(".")[0]) is not None:
        return _checked(_member(_import(module, text), cls, text), text)
    if head in LATER:
        raise ConfigError(f"the plugin {head!r} is not built yet (see CHANGELOG)", hint="`anchovy plugin` lists those that are")
    every = [f"{p.name}.{o}" for p in find_plugins().values() for o in p.operators]
    raise ConfigError(
        f"there is no operator {text!r}", hint=did_you_mean(text, every) or f"{_FORMS}; `anchovy plugin` lists them"
    )


def plugin_command(name: str, command: str) -> Any:
    """The click command `command` that the plugin `name` brings. Raises ConfigError with the nearest name."""
    info = plugin(name)
    if command not in info.commands:
        hint = did_you_mean(command, info.commands, else_list=f"commands of {name}")
        raise ConfigError(f"the plugin {name!r} has no command {command!r}", hint=hint)
    return load_member(info, info.commands[command])


def operator_for(scheme: str) -> str:
    """What `-op` takes for an address of that scheme: `sftp.CsvDownloader`. Raises ConfigError with the nearest scheme."""
    found = {s: f"{p.name}.{operator}" for p in list_plugins() for s, operator in p.reads.items()}
    if scheme not in found:
        hint = did_you_mean(scheme, found, else_list="addresses that can be looked at")
        raise ConfigError(f"no plugin knows how to look at {scheme}://", hint=hint)
    return found[scheme]


#: where the plugins of our own bring a datastore: others are looked for by reading what every plugin says
_DATASTORES = {"s3": "s3", "az": "azblob", "gs": "gcs"}


def datastore_opener(scheme: str) -> Any:
    """What opens datastores of that scheme. Raises ConfigError with the nearest scheme, or with the line that installs it."""
    ours = find_plugin(_DATASTORES[scheme]) if scheme in _DATASTORES else None
    found = [ours] if ours is not None and scheme in ours.datastores else list_plugins()
    for info in found:
        if scheme in info.datastores:
            return load_member(info, info.datastores[scheme])
    known = ["file", "memory", *(s for p in found for s in p.datastores)]
    raise ConfigError(
        f"no datastore is called {scheme}://",
        hint=did_you_mean(scheme, known) or f"a path, or one of {', '.join(f'{s}://' for s in sorted(known))}",
    )


def load_member(info: PluginInfo, target: str, *, anyway: bool = False) -> Any:
    """What `module:name` (or `name`, of the plugin's own module) stands for. Raises ConfigError as `resolve_operator` does.

    `anyway`: try it even if something that it needs is not installed; a driver is often wanted only when it is used.
    """
    if not anyway:
        _refuse_missing(info)
    module, _, member = target.rpartition(":")
    return _member(_import(module or info.module, target, info), member, target)


def _from_plugin(info: PluginInfo, cls: str, text: str) -> type:
    if not cls:
        hint = f"name one of its operators: {', '.join(f'{info.name}.{o}' for o in info.operators) or 'it has none'}"
        raise ConfigError(f"{text!r} is a plugin, not an operator", hint=hint)
    _refuse_missing(info)
    if info.operators and cls not in info.operators:
        found = _import(info.module, text, info)
        if not isinstance(getattr(found, cls, None), type):
            raise _no_member(info.name, cls, list(info.operators), text)
    return _checked(load_member(info, info.operators.get(cls) or cls), text)


def _refuse_missing(info: PluginInfo) -> None:
    if missing := info.missing:
        raise ConfigError(f"the plugin {info.name!r} needs {missing[0]!r}, which is not installed", hint=info.install)


def _import(module: str, text: str, info: PluginInfo | None = None, what: str = "operator") -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as e:
        missing = e.name or module
        if module == missing or module.startswith(f"{missing}."):
            raise ConfigError(f"there is no module {missing!r} for the {what} {text!r}", hint=forms(what)) from None
        hint = info.install if info else f"pip install {missing.partition('.')[0]}"
        raise ConfigError(f"{text!r} needs {missing!r}, which is not installed", hint=hint) from e
    except (TypeError, ValueError):
        raise ConfigError(f"{text!r} is not the name of an {what}", hint=forms(what)) from None


def _from_file(path: Path, cls: str | None, text: str) -> type:
    module = _load_file(path, text)
    return _checked(_member(module, cls or _only_operator(module, text), text), text)


def _load_file(path: Path, text: str, what: str = "operator") -> Any:
    if not path.is_file():
        raise ConfigError(f"there is no file {str(path)!r} for the {what} {text!r}", hint=forms(what))
    name = path.stem
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{str(path)!r} is not a Python file")
    module = module_from_spec(spec)
    if name not in sys.modules:
        sys.modules[name] = module  # dataclasses, annotations and tracebacks look it up there
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as e:
        raise ConfigError(f"{path} needs {e.name!r}, which is not installed", hint=f"pip install {e.name}") from e
    _files[path.resolve()] = module
    return module


def _only_operator(module: Any, text: str) -> str:
    names = [
        n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__ and hasattr(v, "marked")
    ]
    if len(names) != 1:
        hint = f"write {text}:{names[0] if names else 'ClassName'}"
        raise ConfigError(f"{text} holds {len(names)} operators: {', '.join(names) or 'none'}", hint=hint)
    return str(names[0])


def _member(module: Any, name: str, text: str) -> Any:
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            classes = [n for n, v in vars(module).items() if isinstance(v, type) and not n.startswith("_")]
            raise _no_member(module.__name__, name, classes, text)
        found = getattr(found, part)
    return found


def _no_member(where: str, name: str, names: list[str], text: str) -> ConfigError:
    return ConfigError(f"there is no {name!r} in {where!r} ({text})", hint=did_you_mean(name, names, else_list="there are"))


def _checked(found: Any, text: str) -> type:
    if not isinstance(found, type) or not hasattr(found, "marked"):
        raise ConfigError(f"{text!r} is not an operator", hint="an operator is a subclass of Downloader, Uploader or Operator")
    return found
