"""Connections: external systems, built from environment variables that are declared once, as fields."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

import msgspec

from anchovies.core.errors import ConfigError
from anchovies.core.secret import Secret
from anchovies.core.suggest import nearest

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_REQUIRED: Any = object()


class Attr(msgspec.Struct, frozen=True):
    """One attribute of a connection: its default, what it is for, and other names by which it is taken."""

    help: str = ""
    default: Any = _REQUIRED
    aliases: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        return self.default is _REQUIRED


def attr(help: str = "", *, default: Any = _REQUIRED, aliases: tuple[str, ...] = ()) -> Any:
    """Declare an attribute in the body of a Connection: `port: int = attr('the port', default=22)`."""
    return Attr(help, default, aliases)


class Connection:
    """An external system. Subclasses declare attributes and may override `open`, `close`, `check`.

        class Shop(Connection):
            uri: Secret = attr("where the shop is")
            page_size: int = attr("rows a page", default=100)

    Types are `str`, `int`, `float`, `bool`, `Secret`, or one of them `| None`; a plain default works as well. Values come from
    `ACHVY_CNXN__URI` (the default connection) or `ACHVY_CNXN__SHOP__URI` (the connection `shop`). `with connection:` opens and
    closes it; the engine opens on first use and closes at the end of the batch or session. Attributes never show in `repr`.
    """

    id: str = "default"
    #: opened at STARTUP and closed at SHUTDOWN; else opened on first use and closed at the end of the batch
    at_startup: ClassVar[bool] = False
    #: each thread that uses it has one of its own: for what cannot do two things at once
    each_thread: ClassVar[bool] = False
    _attrs: ClassVar[Mapping[str, tuple[type, Attr]]] = {}

    def __init__(self, **values: Any) -> None:
        self.id = values.pop("id", "default")
        self._opened = False
        attrs = self.attributes()
        names = {a: n for n, (_, spec) in attrs.items() for a in (n, *spec.aliases)}
        for same, other in (("uri", "url"), ("url", "uri")):
            if same in attrs:
                names.setdefault(other, same)
        given = {names.get(k, k): v for k, v in values.items()}
        wrong = []
        for name, (kind, spec) in attrs.items():
            try:
                setattr(self, name, convert(self.id, name, kind, given[name]) if name in given else spec.default)
            except ConfigError as e:
                wrong.append(e.message.removeprefix(f"connection {self.id!r}: "))
        missing = [n for n, (_, spec) in attrs.items() if spec.required and n not in given]
        refuse(self.id, type(self).__name__, missing, [k for k in given if k not in attrs], wrong, names, self.takes())

    def variable(self, name: str) -> str:
        """The environment variable of an attribute of this connection, for messages."""
        return variable_of(self.id, name)

    @classmethod
    def attributes(cls) -> Mapping[str, tuple[type, Attr]]:
        """Name → (type, Attr), in the order they were declared."""
        found: dict[str, tuple[type, Attr]] = {}
        for base in reversed(cls.__mro__):
            if not issubclass(base, Connection) or base is Connection:
                continue
            hints = typing.get_type_hints(base, include_extras=True)
            for name in inspect.get_annotations(base):
                if name.startswith("_") or typing.get_origin(hints[name]) is ClassVar:
                    continue
                if name.endswith("_file") or name == "jsondata":
                    raise ConfigError(
                        f"{cls.__name__}: a connection's attribute cannot be called {name!r}, because …_FILE reads a file",
                        hint=f"call it {name.removesuffix('_file')}_path, or take its content: {name.removesuffix('_file')}",
                    )
                spec = base.__dict__.get(name, _REQUIRED)
                found[name] = (_plain(hints[name]), spec if isinstance(spec, Attr) else Attr("", spec))
        return found

    @classmethod
    def takes(cls) -> str:
        """One sentence that lists every attribute."""
        parts = [n + ("" if spec.required else " (optional)") for n, (_, spec) in cls.attributes().items()]
        return f"it takes: {', '.join(parts) or 'nothing'}"

    def open(self) -> None:
        """Connect. Called once before first use. Raises RetryableError, ConfigError (credentials, addresses) or FatalError."""

    def close(self) -> None:
        """Disconnect. Called once if `open` was."""

    def check(self) -> None:
        """Raise what is wrong, if anything is. The default opens and closes it."""
        with self:
            pass

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed since."""
        return self._opened

    def ensure_open(self) -> Self:
        """Open if it is not open yet."""
        if not self._opened:
            self.open()
            self._opened = True
        return self

    def ensure_closed(self) -> None:
        """Close if it is open. Whoever uses it next opens it anew: so an operator that finds it broken gets another one."""
        if self._opened:
            self._opened = False
            self.close()

    def __enter__(self) -> Self:
        return self.ensure_open()

    def __exit__(self, *exc: object) -> None:
        self.ensure_closed()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"


class ConnectionMemo:
    """A named connection as a class attribute: `other = ConnectionMemo('other', make_client)`.

    `factory` is any class or callable; it gets the connection's attributes as keyword arguments (lower case; converted where it
    annotates them `int`, `float`, `bool` or `Secret`). It is called on first use (with `at_startup` at STARTUP, with
    `each_thread` in each thread). What it returns is used as in `with factory(…) as it:` where it is a context manager (or a
    generator that yields once); what has a `close()` is closed.
    """

    def __init__(self, id: str, factory: Callable[..., Any], *, at_startup: bool = False, each_thread: bool = False) -> None:
        self.id = id
        self.factory = factory
        self.at_startup = at_startup
        self.each_thread = each_thread

    def __get__(self, owner: Any, cls: type) -> Any:
        return self if owner is None else owner.connections[self.id]


def _plain(hint: Any) -> type:
    """The type of an attribute, without its `| None`."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    args = [a for a in typing.get_args(hint) if a is not type(None)] if union else [hint]
    if len(args) != 1 or args[0] not in (str, int, float, bool, Secret):
        raise ConfigError(f"a connection attribute of type {hint!r} is not possible", hint="take str, int, float, bool or Secret")
    return typing.cast("type", args[0])


def variable_of(cnxn: str, name: str) -> str:
    """The environment variable of an attribute of the connection `cnxn`."""
    return "ACHVY_CNXN__" + ("" if cnxn == "default" else f"{cnxn.upper()}__") + name.upper()


def refuse(
    cnxn: str, kind: str, missing: Iterable[str], extra: Iterable[str], wrong: list[str], names: Iterable[str], takes: str
) -> None:
    """Raise ConfigError that names everything that is wrong with what a connection was given, if anything is."""
    extra, found = list(extra), list(wrong)
    found += [f"takes no attribute {n!r}: {variable_of(cnxn, n)}" for n in extra]
    if missing := list(missing):
        found.append(f"needs {_and(map(repr, missing))}: set {_and(variable_of(cnxn, n) for n in missing)}")
    if found:
        near = [variable_of(cnxn, m) for n in extra if (m := nearest(n, names))]
        hint = f"did you mean {_and(near)}?" if near else takes
        raise ConfigError(f"connection {cnxn!r} ({kind}) {'; '.join(found)}", hint=hint, connection=cnxn)


def _and(texts: Iterable[str]) -> str:
    *some, last = texts
    return f"{', '.join(some)} and {last}" if some else last


def convert(cnxn: str, name: str, kind: type, value: Any) -> Any:
    """A text, or a secret, as what an attribute is declared to be. Raises ConfigError that never says what was given."""
    if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    if kind is Secret:
        return Secret(str(value))
    text = value.reveal() if isinstance(value, Secret) else str(value)
    try:
        if kind is bool:
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.strip().lower()]
        return kind(text)
    except (KeyError, ValueError):
        raise ConfigError(
            f"connection {cnxn!r}: attribute {name!r} wants {kind.__name__}; what was given is none", connection=cnxn
        ) from None
