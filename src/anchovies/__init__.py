"""anchovies: small executors that extract and load, sharing nothing but a datastore."""

from __future__ import annotations

import sys as _sys
from importlib import import_module as _import_module
from pkgutil import extend_path as _extend_path
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "run"]

# Plugins may live in any `anchovies/plugins` folder on the path: other distributions', or the user's own.
__path__ = _extend_path(__path__, __name__)


def run(operator: str | type, /, **settings: Any) -> Any:
    """Run one anchovy in this process: the Python face of `anchovy start`.

    `operator` is a class, or any text that `-op` takes. `settings` are those of `config.yaml`, with underscores
    (`id='orders', datastore='memory://', execution_timeout='15m'`); `tbls={...}` and `config='path'` work as well.
    Returns a `anchovies.sdk.SessionResult`; raises the error that ended the session.
    """
    return _import_module("anchovies.engine.api").run(operator, **settings)


def add_plugin_path(folder: str) -> None:
    """Append `folder` to the import path and let `anchovies/plugins` below it add plugins (it never shadows a library)."""
    global __path__
    if folder not in _sys.path:
        _sys.path.append(folder)
    __path__ = _extend_path(__path__, __name__)
    plugins = _sys.modules.get("anchovies.plugins")
    if plugins is not None and hasattr(plugins, "__path__"):
        _ = list(plugins.__path__)  # a namespace path recalculates itself when it is read
