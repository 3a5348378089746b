"""Fault points: named places beside every I/O at which a test can kill the process, make the call fail, or hold it up.

Nothing happens at them unless ACHVY_FAULT arms them: `name:action@nth`, several with commas. `name` may be a pattern (`lease.*`,
`*`); `nth` counts its hits in this process from 1, `@1` may be left out, and `@0` is every one. Each hit says so on stderr.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from fnmatch import fnmatchcase

import msgspec

from anchovies.core.errors import AnchovyError, ConfigError, StoreUnavailable

VARIABLE = "ACHVY_FAULT"
#: kill: as `kill -9` does it; raise: the error that this I/O raises when nobody knows what became of it; trace: only say so
ACTIONS = ("kill", "raise", "stall", "trace")
STALL = 0.4


class _Armed(msgspec.Struct):
    name: str
    action: str
    nth: int
    hits: int = 0

    def due(self, name: str) -> bool:
        if not fnmatchcase(name, self.name):
            return False
        self.hits += 1
        return self.nth in (0, self.hits)


_armed: list[_Armed] = []
_text = ""
_turn = threading.Lock()


def fault(name: str, error: type[AnchovyError] = StoreUnavailable) -> None:
    """A point. `name` is a literal; tests find every one by it."""
    if _armed:
        _hit(name, error)


def armed() -> bool:
    """Whether anything may happen at all."""
    return bool(_armed)


def arm(text: str) -> None:
    """Arm what `text` says and nothing else. The same text again changes nothing: the count goes on. Raises ConfigError."""
    global _text
    if text != _text:
        _armed[:] = [_parse(part.strip()) for part in text.split(",") if part.strip()]
        _text = text


def _parse(part: str) -> _Armed:
    name, _, rest = part.rpartition(":")
    action, _, nth = rest.partition("@")
    if not name or action not in ACTIONS or not (nth or "1").isdecimal():
        raise ConfigError(f"{VARIABLE}: {part!r} is no fault", hint=f"write name:action@nth, action one of {', '.join(ACTIONS)}")
    return _Armed(name, action, int(nth or 1))


def _hit(name: str, error: type[AnchovyError]) -> None:
    with _turn:
        due = [a.action for a in _armed if a.due(name)]
    for action in due:
        os.write(2, f"fault point {name}: {action}\n".encode())
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "stall":
            time.sleep(STALL)
        elif action == "raise":
            raise error(f"fault point {name}")
