"""What a source asks for between two rows: checkpoint values, ledger entries, acknowledgements, to drop its open unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from anchovies.store.checkpoints import Values, joined, same, seen
from anchovies.store.record import Checkpoints, CheckpointValue, LedgerChange
from anchovies.store.state import State


class SetCheckpoint(msgspec.Struct, frozen=True, tag=True):
    """`value` is plain JSON already; None with `gone` deletes."""

    key: str
    value: Any
    gone: bool = False


class PutLedger(msgspec.Struct, frozen=True, tag=True):
    name: str
    key: str
    value: Any
    gone: bool = False


class Ack(msgspec.Struct, frozen=True, tag=True):
    """Tell the source, after the commit, that what `token` names was kept."""

    token: str


class Said(msgspec.Struct, frozen=True, tag=True):
    """What the source says of one thing whose rows are all in: a receipt."""

    receipt: dict[str, Any]


class Rejected(msgspec.Struct, frozen=True):
    """A row that cannot be kept: what is wrong with it, and where it stood. `row`: its columns, or the text of its line.

    It is part of its unit like any row, and ends none."""

    row: Any
    reason: str
    column: str | None = None
    file: str | None = None
    line: int | None = None


class DiscardUnit(msgspec.Struct, frozen=True, tag=True):
    """Drop the rows since the last mark."""


Action = SetCheckpoint | PutLedger | Ack | Said | Rejected | DiscardUnit


def _change(action: SetCheckpoint, values: Values, fed: list[str]) -> Checkpoints:
    """What an action comes to, for the tables that were fed."""
    key = action.key
    found = seen(values, fed)
    if not action.gone:
        if found is not None and same(found.value, action.value) and (fed or len(values) == 1):
            return Checkpoints()
        return Checkpoints(set={key: CheckpointValue(value=action.value, tbls=fed)})
    if found is None:
        return Checkpoints()
    others = any(not set(v.tbls) <= set(fed) for v in values)
    return Checkpoints(forget={key: fed}) if fed and others else Checkpoints(delete=[key])


class Due:
    """Changes whose rows are all in the writer: the next commit takes them."""

    def __init__(self) -> None:
        self._checkpoints: dict[str, SetCheckpoint] = {}
        self._ledgers: dict[str, dict[str, PutLedger]] = {}
        self._acks: dict[str, None] = {}
        self.said: list[dict[str, Any]] = []

    def add(self, actions: Iterable[object]) -> None:
        for action in actions:
            if isinstance(action, SetCheckpoint):
                self._checkpoints[action.key] = action
            elif isinstance(action, PutLedger):
                self._ledgers.setdefault(action.name, {})[action.key] = action
            elif isinstance(action, Ack):
                self._acks[action.token] = None
            elif isinstance(action, Said):
                self.said.append(action.receipt)

    def __bool__(self) -> bool:
        return bool(self._checkpoints or self._ledgers or self._acks)

    def clear(self) -> None:
        self._checkpoints, self._ledgers, self._acks, self.said = {}, {}, {}, []

    def acks(self) -> list[str]:
        """The tokens, in the order in which they were first said."""
        return list(self._acks)

    def checkpoints(self, state: State, tbls: Iterable[str] = ()) -> Checkpoints:
        """What differs from the committed values, as the tables that were fed see them; without tables, for all."""
        fed = sorted(set(tbls))
        return joined(_change(a, state.values(k), fed) for k, a in self._checkpoints.items())

    def ledgers(self, committed: Mapping[str, Mapping[str, Any]]) -> dict[str, LedgerChange]:
        """What differs from the committed entries, by ledger."""
        out = {}
        for name, actions in self._ledgers.items():
            have = committed.get(name, {})
            put = {k: a.value for k, a in actions.items() if not a.gone and (k not in have or have[k] != a.value)}
            gone = [k for k, a in actions.items() if a.gone and k in have]
            if put or gone:
                out[name] = LedgerChange(put=put, delete=gone)
        return out
