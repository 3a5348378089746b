"""One connection as the engine holds it: its attributes checked when it is made, opened when it is wanted, closed, checked.

It is a `Connection`, or whatever a person's own class or callable returns.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from anchovies.core.errors import ConfigError
from anchovies.core.secret import Secret
from anchovies.sdk.connection import Connection, convert, refuse, variable_of

_TYPES = (int, float, bool, Secret)


class Handle(Protocol):
    """What is done with every kind of them."""

    def open(self) -> Any:
        """What the operator gets, opened. Called again only after `close`."""
        ...

    @property
    def is_open(self) -> bool: ...

    def close(self) -> None: ...

    def check(self) -> None:
        """Raise what is wrong with it, if anything is; closed afterwards."""
        ...


def handle_of(cnxn_id: str, factory: Callable[..., Any], given: Mapping[str, Secret]) -> Handle:
    """Raises ConfigError that lists whatever is missing, too much, or of a wrong type."""
    if isinstance(factory, type) and issubclass(factory, Connection):
        return _Own(factory(id=cnxn_id, **given))
    return _Foreign(cnxn_id, factory, given)


class _Own:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def open(self) -> Connection:
        return self._connection.ensure_open()

    @property
    def is_open(self) -> bool:
        """An author may have closed it, so that it is opened anew."""
        return self._connection.is_open

    def close(self) -> None:
        self._connection.ensure_closed()

    def check(self) -> None:
        try:
            self._connection.check()
        finally:
            self._connection.ensure_closed()


class _Foreign:
    """Any class or callable. It is called when the connection is opened, for many connect at once."""

    def __init__(self, cnxn_id: str, factory: Callable[..., Any], given: Mapping[str, Secret]) -> None:
        self._id, self._factory = cnxn_id, factory
        self._given = self._arguments(given)
        self._made: Any = None
        self._open = False

    def _arguments(self, given: Mapping[str, Secret]) -> dict[str, Any]:
        """The attributes as the factory wants them, all checked against its signature (where it has one)."""
        name = getattr(self._factory, "__name__", type(self._factory).__name__)
        try:
            parameters = inspect.signature(self._factory).parameters.values()
        except (TypeError, ValueError):  # written in C, without telling
            return {k: v.reveal() for k, v in given.items()}
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        names = [p.name for p in named]
        missing = [p.name for p in named if p.default is p.empty and p.name not in given]
        extra = [k for k in given if k not in names and not any(p.kind is p.VAR_KEYWORD for p in parameters)]
        types, wrong, found = self._types(), [], {}
        for key, value in given.items():
            try:
                found[key] = convert(self._id, key, types[key], value) if key in types else value.reveal()
            except ConfigError as e:
                wrong.append(e.message.removeprefix(f"connection {self._id!r}: "))
        optional = [f"{p.name}{'' if p.default is p.empty else ' (optional)'}" for p in named]
        refuse(self._id, name, missing, extra, wrong, names, f"it takes: {', '.join(optional) or 'nothing'}")
        return found

    def _types(self) -> dict[str, type]:
        with suppress(Exception):  # names that only a type checker can read
            of = self._factory.__init__ if isinstance(self._factory, type) else self._factory  # type: ignore[misc]
            return {n: t for n, t in typing.get_type_hints(of).items() if t in _TYPES}
        return {}

    def open(self) -> Any:
        made = value = self._call()
        if inspect.isgenerator(made):
            value = next(made, None)
        elif _is_context_manager(made):
            value = made.__enter__()
        self._made, self._open = made, True
        return value

    @property
    def is_open(self) -> bool:
        return self._open

    def _call(self) -> Any:
        try:
            return self._factory(**self._given)
        except TypeError as e:
            if e.__traceback__ is None or e.__traceback__.tb_next is not None:
                raise  # somewhere inside
            hint = f"it was given {', '.join(self._given) or 'nothing'}; set {variable_of(self._id, '…')}"
            raise ConfigError(f"connection {self._id!r}: {e}", hint=hint, connection=self._id) from e

    def close(self) -> None:
        made, self._made, self._open = self._made, None, False
        if inspect.isgenerator(made):
            next(made, None)
            return made.close()
        try:
            if _is_context_manager(made):
                made.__exit__(None, None, None)
        finally:
            if callable(close := getattr(made, "close", None)):
                close()

    def check(self) -> None:
        try:
            value = self.open()
            if callable(check := getattr(value, "check", None)):
                check()
        finally:
            self.close()


def _is_context_manager(made: object) -> bool:
    return hasattr(type(made), "__enter__") and hasattr(type(made), "__exit__")
