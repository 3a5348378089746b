"""`--full-refresh`: forget what a batch would go on from, as an edit that stands in the log."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from anchovies.core.settings import Settings
from anchovies.store.log import Log
from anchovies.store.record import Change, Checkpoints, LedgerChange, Note


def forget_checkpoints(log: Log, settings: Settings, who: str) -> None:
    """Delete the checkpoints and ledgers of the tables that `-e/-d` pick; a hook's, which fed no table, only without `-e`."""
    state = log.state
    checkpoints = [k for k, v in state.checkpoints.items() if _picked(v.tbls, settings)]
    ledgers = {name: LedgerChange(delete=list(v)) for name, v in state.ledgers.items() if _picked([name], settings)}
    if checkpoints or ledgers:
        note = Note(who=who, why="--full-refresh")
        log.edit(Change(checkpoints=Checkpoints(delete=checkpoints), ledgers=ledgers, note=note))
        log.load()


def _picked(tbls: Iterable[str], settings: Settings) -> bool:
    tbls = list(tbls)
    if not tbls:
        return not settings.enabled
    wanted = [t for t in tbls if not settings.enabled or any(fnmatchcase(t, p) for p in settings.enabled)]
    return any(not any(fnmatchcase(t, p) for p in settings.disabled) for t in wanted)
