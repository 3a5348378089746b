"""Edits of checkpoints by hand: each a record of the log that says who and why. They fence nobody; a batch that depends on what
they change begins again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from anchovies import __version__
from anchovies.core import values
from anchovies.core.clock import Clock, SystemClock
from anchovies.core.declared import hostname, login
from anchovies.core.errors import ConfigError, RetryableError
from anchovies.core.ids import Ids, SystemIds
from anchovies.core.suggest import did_you_mean
from anchovies.core.tblconfig import tbl_from_json
from anchovies.store.base import Store
from anchovies.store.checkpoints import Values, joined, keys_of, mirror, same, seen, shown, towards, with_value
from anchovies.store.keys import Home
from anchovies.store.ledgers import NOTHING
from anchovies.store.log import NOBODY, Log
from anchovies.store.past import past
from anchovies.store.record import Change, Checkpoints, CheckpointValue, LedgerChange, Note, Writer
from anchovies.store.state import State, touched
from anchovies.store.tasklog import write_mirrors

LEDGER = "ledger:"
"""Before the name of a ledger: a large set of what was seen (files, ids)."""
MOST_ROUNDS = 10  # a running session may set new keys between our look and our record
_WAYS = (
    """write JSON: 42, '"text"', '["a", "b"]'; a date is '{"$date": "2026-11-22"}'; $datetime, $decimal, $uuid, $bytes as well"""
)


class Turn(msgspec.Struct, frozen=True):
    """One key before and after; None: it is not there. A whole ledger is the number of its entries."""

    key: str
    was: Any
    now: Any


class Edited(msgspec.Struct, frozen=True):
    """What an edit did. `slot` None: nothing had to change, so nothing was written."""

    slot: int | None
    who: str
    why: str
    turns: list[Turn]


def who_edits(env: Mapping[str, str]) -> str:
    return f"{login(env)}@{hostname()}"


def edit_log(store: Store, home: Home, clock: Clock, ids: Ids) -> Log:
    """A hold on a log for somebody who is no session."""
    writer = Writer(host=hostname(), pid=os.getpid(), session=ids.session(clock.now_us()), batch=0, version=__version__)
    lane, workers = NOBODY
    return Log(store, home, clock=clock, ids=ids, writer=writer, lane=lane, workers=workers)


class Editor:
    """Edits what one anchovy remembers. The anchovy may be running."""

    def __init__(self, store: Store, home: Home, note: Note, clock: Clock | None = None, ids: Ids | None = None) -> None:
        self._store, self._home, self._note = store, home, note
        self._log = edit_log(store, home, clock or SystemClock(), ids or SystemIds())

    def set(self, key: str, text: str, tbls: Iterable[str] = ()) -> Edited:
        """Set a checkpoint to a value that is written as JSON, for all tables that it fed, or for `tbls` only."""
        value, mine = parse_value(text), sorted(set(tbls))
        if key.startswith(LEDGER):
            raise ConfigError(f"{key}: entries of a ledger are put by sources", hint="take one out with `checkpoint delete`")

        def wanted(state: State) -> Change:
            have = state.values(key)
            _check_tables(state, mine)
            if mine:
                want = have if _stand_at(have, mine, value) else with_value(have, CheckpointValue(value=value, tbls=mine))
            else:
                want = _for_all(have, value)
            return Change(checkpoints=towards(key, have, want))

        return self._edit(wanted)

    def delete(self, keys: Iterable[str], tbls: Iterable[str] = ()) -> Edited:
        """Forget checkpoints (of `tbls` only, if there are any), whole ledgers (`ledger:<table>`), entries
        (`ledger:<table>:<entry>`). Raises ConfigError for a key that is not there."""
        self._log.load()
        picked, mine = [_pick(self._log.state, key) for key in keys], sorted(set(tbls))
        if mine and any(key.startswith(LEDGER) for key, _ in picked):
            raise ConfigError("a ledger has no value a table", hint="leave out --tbl, or name checkpoints only")

        def wanted(state: State) -> Change:
            _check_tables(state, mine)
            if not mine:
                return _without(state, picked)
            forget = {key: mine for key, _ in picked if seen(state.values(key), mine)}
            return Change(checkpoints=Checkpoints(forget=forget))

        return self._edit(wanted)

    def delete_all(self) -> Edited:
        """Forget everything: the next run reads its source in full."""
        return self._edit(lambda state: _without(state, [(k, None) for k in remembered(state)]))

    def rewind(self, slot: int, *, rows_again: bool = False) -> Edited:
        """Remember what was remembered after `slot`. Rows stay as they are; those of later slots come again from the source.

        Raises ConfigError for a slot that is not there, and, without `rows_again`, where rows would be appended a second time.
        """
        then = past(self._store, self._home, slot).then

        def wanted(state: State) -> Change:
            change = _towards(state, then)
            if not rows_again and (doubled := _appended_again(state, then, change)):
                raise ConfigError(
                    f"{', '.join(doubled)}: rows that came after slot {slot} would be read and appended again",
                    hint="a table with a key (unique_by, set_by) takes them as the same rows; "
                    "--rows-again if they may come twice, or were removed downstream",
                )
            return change

        return self._edit(wanted)

    def _edit(self, wanted: Callable[[State], Change]) -> Edited:
        """Append what `wanted` asks for, until the state at our own record leaves nothing to ask."""
        before = state = self._log.load()
        slot, keys = None, set[str]()
        for _ in range(MOST_ROUNDS):
            change = wanted(state)
            if change == Change():
                break
            keys |= touched(change)
            slot = self._log.edit(replace(change, note=self._note)).slot
            state = self._log.state
        else:
            raise RetryableError("a running session sets new checkpoints as fast as they are edited", hint="stop it first")
        turns = [t for t in _turns(before, state) if t.key in keys]
        if slot is not None:
            self._log.finish()
            self._mirror(turns, state)
        return Edited(slot, self._note.who, self._note.why, turns)

    def _mirror(self, turns: list[Turn], state: State) -> None:
        keys = [t.key for t in turns if not t.key.startswith(LEDGER)]
        write_mirrors(self._store, self._home, {}, {k: mirror(k, state.values(k)) for k in keys})


def parse_value(text: str) -> Any:
    """The plain JSON of a value that a person wrote. Raises ConfigError that says how values are written."""
    try:
        plain = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        raise ConfigError(f"{values.short(text)} is not JSON", hint=_WAYS) from None
    if plain is None:
        raise ConfigError("null is no value of a checkpoint", hint="forget it with `checkpoint delete`")
    if (tag := _unread_tag(plain)) is not None:
        raise ConfigError(f"{values.short(tag)} is no value of that kind", hint=_WAYS)
    return values.encode(values.decode(plain))


def _unread_tag(plain: Any) -> Any:
    """A tagged object (`{"$date": …}`) in `plain` that means nothing."""
    if isinstance(plain, list):
        return next((found for v in plain if (found := _unread_tag(v)) is not None), None)
    if not isinstance(plain, dict):
        return None
    if len(plain) == 1 and (key := next(iter(plain))).startswith("$") and not key.startswith("$$"):
        return plain if isinstance(values.decode(plain), dict) else None
    return _unread_tag(list(plain.values()))


def remembered(state: State) -> list[str]:
    """The keys of all checkpoints and ledgers."""
    return [*sorted(state.checkpoints), *(f"{LEDGER}{name}" for name in sorted(state.ledgers))]


def _pick(state: State, key: str) -> tuple[str, str | None]:
    """(key of a checkpoint or ledger, entry of the ledger). Raises ConfigError with the nearest name."""
    known = remembered(state)
    if key in known:
        return key, None
    for name in state.ledgers:
        head = f"{LEDGER}{name}:"
        if key.startswith(head):
            if (entry := key[len(head) :]) in state.ledgers[name]:
                return head[:-1], entry
            raise ConfigError(
                f"the ledger {name!r} has no entry {entry!r}", hint=did_you_mean(entry, state.ledgers[name], else_list=None)
            )
    raise ConfigError(f"there is no checkpoint {key!r}", hint=did_you_mean(key, known, else_list="checkpoints"))


def _check_tables(state: State, tbls: Iterable[str]) -> None:
    """Raises ConfigError for a table that nothing is known of."""
    known = {*state.totals, *state.tables, *(t for k in state.checkpoints for v in state.values(k) for t in v.tbls)}
    for tbl in tbls:
        if tbl not in known:
            raise ConfigError(f"there is no table {tbl!r}", hint=did_you_mean(tbl, known, else_list="tables"))


def _for_all(values: Values, value: Any) -> Values:
    """One value for all tables that have one, and for those that have none if there was one for them."""
    own = sorted(t for v in values for t in v.tbls)
    found = [CheckpointValue(value=value, tbls=own)] if own else []
    return found if own and all(v.tbls for v in values) else [*found, CheckpointValue(value=value)]


def _stand_at(values: Values, tbls: Iterable[str], value: Any) -> bool:
    """Whether each of the tables has this value of its own."""
    own = {t: v.value for v in values for t in v.tbls}
    return all(t in own and same(own[t], value) for t in tbls)


def _without(state: State, picked: Iterable[tuple[str, str | None]]) -> Change:
    gone: list[str] = []
    ledgers: dict[str, list[str]] = {}
    for key, entry in picked:
        if not key.startswith(LEDGER):
            gone += [key] if key in state.checkpoints else []
            continue
        have = state.ledgers.get(name := key.removeprefix(LEDGER), NOTHING)
        ledgers.setdefault(name, []).extend(e for e in ([entry] if entry is not None else list(have)) if e in have)
    changes = {name: LedgerChange(delete=list(dict.fromkeys(entries))) for name, entries in ledgers.items() if entries}
    return Change(checkpoints=Checkpoints(delete=list(dict.fromkeys(gone))), ledgers=changes)


def _towards(state: State, then: State) -> Change:
    """What makes the memory of `state` that of `then`."""
    keys = dict.fromkeys([*then.checkpoints, *state.checkpoints])
    checkpoints = joined(towards(k, state.values(k), then.values(k)) for k in keys)
    ledgers = {}
    for name in sorted({*state.ledgers, *then.ledgers}):
        have, want = dict(state.ledgers.get(name, NOTHING)), dict(then.ledgers.get(name, NOTHING))
        change = LedgerChange(
            put={k: v for k, v in want.items() if k not in have or have[k] != v}, delete=[k for k in have if k not in want]
        )
        if change != LedgerChange():
            ledgers[name] = change
    return Change(checkpoints=checkpoints, ledgers=ledgers)


def _appended_again(state: State, then: State, change: Change) -> list[str]:
    """Tables without a key whose rows would come a second time, as far as the log knows what they are made of."""
    fed = [v.tbls for k in keys_of(change.checkpoints) for s in (state, then) for v in s.values(k)]
    tables = {t for tbls in fed for t in tbls} | set(change.ledgers)
    if any(not tbls for tbls in fed):
        tables |= set(state.totals)  # nobody knows what a hook's checkpoint feeds
    later = [t for t in sorted(tables) if t in state.totals and state.totals[t].slot > then.slot]
    return [t for t in later if t not in state.tables or tbl_from_json(state.tables[t]).write_mode == "append"]


def _turns(before: State, after: State) -> list[Turn]:
    turns = []
    for key in sorted({*before.checkpoints, *after.checkpoints}):
        old, new = before.values(key), after.values(key)
        if old != new:
            turns.append(Turn(key, shown(old), shown(new)))
    for name in sorted({*before.ledgers, *after.ledgers}):
        was, now = before.ledgers.get(name, NOTHING), after.ledgers.get(name, NOTHING)
        if was is not now and was != now:
            turns.append(Turn(f"{LEDGER}{name}", len(was) or None, len(now) or None))
    return turns
