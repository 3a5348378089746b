"""Building the connections of an operator, opening them on first use, closing them in reverse order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from anchovies.core.errors import AnchovyError, ConfigError, RetryableError
from anchovies.core.faultpoint import fault
from anchovies.core.secret import Secret
from anchovies.engine.limits import StopSignal
from anchovies.sdk.connection import Connection
from anchovies.sdk.operator import Operator

TRIES = 4


class Connections(Mapping[str, Any]):
    """Connections by id. Looking one up opens it. Attributes are checked when this is made: ConfigError lists what is missing."""

    def __init__(
        self, operator: type[Operator], given: Mapping[str, Mapping[str, Secret]], stop: StopSignal, jitter: Callable[[], float]
    ) -> None:
        self._turn = threading.RLock()
        self._stop = stop
        self._jitter = jitter
        self._factories = operator.connection_classes()
        self._given = {i: given.get(i.lower(), {}) for i in self._factories}
        self._made: dict[str, Any] = {}
        self._opened: list[str] = []
        for cnxn_id, factory in self._factories.items():
            if isinstance(factory, type) and issubclass(factory, Connection):
                self._made[cnxn_id] = factory(id=cnxn_id, **self._given[cnxn_id])

    def __getitem__(self, cnxn_id: str) -> Any:
        if cnxn_id not in self._factories:
            raise KeyError(cnxn_id)
        with self._turn:  # sinks have threads of their own
            if cnxn_id not in self._made:
                self._made[cnxn_id] = self._call(cnxn_id)
            made = self._made[cnxn_id]
            if cnxn_id not in self._opened:
                self._open(made)
                self._opened.append(cnxn_id)
            return made

    def __contains__(self, cnxn_id: object) -> bool:
        return cnxn_id in self._factories

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def __len__(self) -> int:
        return len(self._factories)

    def _call(self, cnxn_id: str) -> Any:
        given = {k: v.reveal() for k, v in self._given[cnxn_id].items()}
        try:
            return self._factories[cnxn_id](**given)
        except TypeError as e:
            raise ConfigError(
                f"connection {cnxn_id!r}: {e}", hint=f"set ACHVY_CNXN__{cnxn_id.upper()}__…", connection=cnxn_id
            ) from e

    def _open(self, made: Any) -> None:
        """Open, again with backoff where that may help, until the session stops."""
        if not isinstance(made, Connection):
            return
        for attempt in range(1, TRIES + 1):
            self._stop.check()
            try:
                fault("connection.open.before", RetryableError)
                made.ensure_open()
                fault("connection.open.after", RetryableError)
                return
            except RetryableError as e:
                e.where.setdefault("tries", attempt)  # whoever asked for it need not ask again
                if attempt == TRIES or self._stop.wait(self._jitter() * 0.25 * 2**attempt):
                    raise

    def close(self) -> list[str]:
        """Close what is open, the last first. Returns what went wrong, in words."""
        wrong = []
        while self._opened:
            cnxn_id = self._opened.pop()
            made = self._made[cnxn_id]
            close = made.ensure_closed if isinstance(made, Connection) else getattr(made, "close", None)
            try:
                if close is not None:
                    close()
            except Exception as e:
                kind = "" if isinstance(e, AnchovyError) else f"{type(e).__name__}: "
                wrong.append(f"connection {cnxn_id!r} did not close: {kind}{e}")
            if not isinstance(made, Connection):
                del self._made[cnxn_id]
        return wrong
