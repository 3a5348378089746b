"""`--full-refresh`: forget what a batch would go on from, as an edit that stands in the log."""

from __future__ import annotations

from fnmatch import fnmatchcase

from anchovies.core.settings import Settings
from anchovies.store.checkpoints import Values, joined
from anchovies.store.log import Log
from anchovies.store.record import Change, Checkpoints, LedgerChange, Note


def forget_checkpoints(log: Log, settings: Settings, who: str) -> None:
    """Delete the checkpoints and ledgers of the tables that `-e/-d` pick; a hook's, which fed no table, only without `-e`."""
    state = log.state
    checkpoints = joined(_without(key, state.values(key), settings) for key in state.checkpoints)
    ledgers = {name: LedgerChange(delete=list(v)) for name, v in state.ledgers.items() if _is_picked(name, settings)}
    if checkpoints != Checkpoints() or ledgers:
        log.edit(Change(checkpoints=checkpoints, ledgers=ledgers, note=Note(who=who, why="--full-refresh")))
        log.load()


def _without(key: str, values: Values, settings: Settings) -> Checkpoints:
    """What makes the tables that were picked forget a key; the others keep their values."""
    tbls = sorted(t for v in values for t in v.tbls)
    picked = [t for t in tbls if _is_picked(t, settings)]
    if picked == tbls and (tbls or not settings.enabled):
        return Checkpoints(delete=[key])
    return Checkpoints(forget={key: picked}) if picked else Checkpoints()


def _is_picked(tbl: str, settings: Settings) -> bool:
    wanted = not settings.enabled or any(fnmatchcase(tbl, p) for p in settings.enabled)
    return wanted and not any(fnmatchcase(tbl, p) for p in settings.disabled)
