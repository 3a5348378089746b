"""What the parts of one batch share: a plain value that the session makes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from anchovies.core.clock import Clock
from anchovies.core.errors import AnchovyError, Fenced, StaleSession
from anchovies.core.faultpoint import fault
from anchovies.core.ids import Ids
from anchovies.core.reshape import kept_types
from anchovies.core.settings import Settings
from anchovies.core.shape import join_types
from anchovies.core.tbl import Tbl
from anchovies.core.tblconfig import tbl_from_json
from anchovies.core.types import ColType
from anchovies.engine.blame import authors_line
from anchovies.engine.context import Outside, Overlay
from anchovies.engine.events import Event, Listener
from anchovies.engine.limits import StopSignal
from anchovies.engine.outbox import Outbox
from anchovies.engine.parts import Parts
from anchovies.engine.routes import Routes
from anchovies.sdk.operator import Operator
from anchovies.sdk.session import Batch, Session
from anchovies.sdk.worker import Worker
from anchovies.store.base import Store
from anchovies.store.buffers import Buffer, buffer_named
from anchovies.store.keys import Home
from anchovies.store.lease import Remembered
from anchovies.store.log import Log
from anchovies.store.record import Change, Record


class Services(msgspec.Struct):
    """Everything a flow or a load needs of its batch."""

    store: Store
    home: Home
    log: Log
    operator: Operator
    routes: Routes
    connections: Mapping[str, Any]
    settings: Settings
    session: Session
    batch: Batch
    stop: StopSignal
    clock: Clock
    ids: Ids
    listener: Listener
    outside: Outside
    outbox: Outbox
    commits: int = 0
    mask_key: bytes | None = None  # of the tables of this batch, where one is hashed
    most_rows: int | None = None  # a preview's: stop reading a source after about so many
    on_commit: Callable[[Record], None] = lambda record: None
    remembered: Remembered = Remembered()  # what the runs before have left, then what this one leaves: in the lease object
    seen: dict[str, int] = msgspec.field(default_factory=dict)  # up to which slot this batch has read its upstreams' logs
    lag: Callable[[], dict[str, int]] = dict  # how many commits of each upstream were read of and are not loaded
    woken_by: set[str] = msgspec.field(default_factory=set)  # the upstreams that are known to have moved
    redact: Callable[[Any], Any] = lambda value: value  # masks what is known as a secret, in what is kept beside rows
    parts: Parts | None = None  # only where a class of a person's turns checkpoint values
    running: set[Overlay] = msgspec.field(default_factory=set)  # of the flows that run now
    turn: Any = msgspec.field(default_factory=threading.RLock)  # whoever commits, or acknowledges, does it alone
    acknowledge: Callable[[], None] = lambda: None  # hands committed tokens to the operator; a preview's does nothing

    @property
    def worker(self) -> Worker:
        """Which of the workers that share the anchovy this is."""
        return Worker(self.settings.worker_num, self.settings.workers)

    @property
    def buffer(self) -> Buffer:
        """The format of new data files; looked up when there are rows, because it loads pyarrow."""
        return buffer_named(self.settings.data_buffer_cls)

    @property
    def commit_bytes(self) -> int:
        return int(self.settings.commit_bytes)

    @property
    def commit_seconds(self) -> float:
        return float(self.settings.commit_seconds)

    def tell(self, kind: Any, tbl: str | None = None, **data: Any) -> None:
        self.listener(Event(kind, tbl, data))

    def known_types(self, tbl: Tbl) -> dict[str, ColType]:
        """Column types of all commits so far; what the configuration declares wins. What was discovered may add to them and widen
        them, but where the schema is not to change it is held against them like the rows themselves."""
        published = self.log.state.tables.get(tbl.name)
        known = tbl_from_json(published).types if published else {}
        if not known:
            return tbl.types
        known = {**kept_types(tbl, known), **{n: t for n, t in tbl.types.items() if n in tbl.declared}}
        return join_types(known, tbl.types, from_text=tbl.autodiscover) if tbl.schema == "evolve" else known

    def publish(self, change: Change, keys: frozenset[str]) -> Record:
        """Hop 5: one record. Raises Fenced, StaleSession, CommitUnknown. What is due at the source then: `acknowledge`.

        What the flows beside ours have looked at counts as well: whoever commits first reads on in the log for all of them."""
        if self.stop.timed_out:
            self.stop.check()
        with self.turn:
            if pending := self.outbox.carried(change.ack_pending):
                change = replace(change, ack_pending=pending)
            fault("commit.before")
            record = self.log.append(change, keys=keys.union(*(o.looked_at() for o in list(self.running))))
            fault("commit.after")
            self.commits += 1
            self.outbox.committed()
            self.on_commit(record)
        for tbl in dict.fromkeys(f.table for f in change.files):
            mine = [f for f in change.files if f.table == tbl]
            self.tell("committed", tbl, rows=sum(f.rows for f in mine), bytes=sum(f.size for f in mine), slot=record.slot)
        return record

    def lost(self, error: BaseException) -> bool:
        """Whether another session owns the log now, so that nothing of this batch may be committed."""
        return isinstance(error, Fenced | StaleSession)


def phrase(error: BaseException) -> str:
    """An error in one line: its own words, with the class's name where it is not one of ours."""
    text = str(error).strip() or type(error).__name__
    where = authors_line(error)
    return text if isinstance(error, AnchovyError) else f"{type(error).__name__}: {text}{f' ({where})' if where else ''}"
