"""The past of an anchovy: what its log came to after a slot that lies behind, from the log alone."""

from __future__ import annotations

import msgspec

from anchovies.core.clock import SystemClock
from anchovies.core.errors import ConfigError
from anchovies.core.ids import SystemIds
from anchovies.core.retry import Retry
from anchovies.store.base import Store
from anchovies.store.history import History
from anchovies.store.keys import Home
from anchovies.store.record import DataFile
from anchovies.store.state import State, fold


class Past(msgspec.Struct, frozen=True):
    """`then`: the fold of slots 1 to the one asked for; `now`: of the whole log. `files`: by table, what was live then, in the
    order of the log. Those of slots up to `now.retired` were given up since, and may be gone."""

    then: State
    now: State
    files: dict[str, list[DataFile]]


def past(store: Store, home: Home, slot: int, retry: Retry | None = None) -> Past:
    """The past after `slot` (0: before the first). Reads every record up to there: no snapshot is newer than its own slot, and
    one that is older is not needed. Raises ConfigError for a slot that the log does not have yet."""
    history = History(store, home, retry or Retry(SystemClock(), SystemIds()))
    now, _ = history.load()
    if not 0 <= slot <= now.slot:
        raise ConfigError(
            f"{home.root} has no slot {slot}",
            hint=f"its log goes from 1 to {now.slot}; `anchovy checkpoint history` lists what each did" if now.slot else None,
        )
    state, live = State(store=now.store), list[tuple[int, DataFile]]()
    for record in history.records(0):
        if record.slot > slot:
            break
        state = fold(state, record)
        live += [(record.slot, f) for f in record.change.files]
    files: dict[str, list[DataFile]] = {}
    for at, file in live:
        if at > state.retired.get(file.table, 0):
            files.setdefault(file.table, []).append(file)
    return Past(state, now, files)
