"""An operator on trial: what it reads or loads, run after run, over a datastore in memory that a test can look into.

`Subject` says what is tested and how its world moves; `Trial` runs it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from anchovies.core.config import Config, config_from
from anchovies.core.ids import SystemIds
from anchovies.core.registry import resolve_operator
from anchovies.core.schema import batch_to_rows
from anchovies.core.secret import Secret
from anchovies.core.settings import Settings, resolve
from anchovies.engine.api import connection_variables
from anchovies.engine.events import Event
from anchovies.engine.session import SessionRun
from anchovies.engine.verify import Verifier
from anchovies.engine.watch import Watch
from anchovies.sdk.connection import Connection
from anchovies.sdk.operator import Operator
from anchovies.sdk.result import SessionResult
from anchovies.store.base import Store
from anchovies.store.datafile import read_batches
from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.store.memory import MemoryStore

USER = "tester"
Rows = dict[str, Counter[str]]
_numbers = itertools.count()


@dataclass
class Subject:
    """What a suite tests, made anew for every run of it.

    `operator`: a class, or what `-op` takes. `cnxns`: connection id → its attributes, `default` the default one. `tbls`: as in
    `config.yaml`. `settings`: others, by name.
    """

    operator: type[Operator] | str
    cnxns: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    tbls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    #: makes the source bring more rows
    grow: Callable[[], object] | None = None
    #: makes a part of the source unreadable, and returns what mends it
    spoil: Callable[[], Callable[[], object]] | None = None
    #: tables without a checkpoint: read in full by every run
    whole: Collection[str] = ()
    #: sink → what the outside has seen of its rows so far
    observe: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    #: texts that may be found nowhere, beside the secret attributes of the connections
    secrets: Collection[str] = ()
    #: puts away what making it has left
    close: Callable[[], object] = lambda: None

    @property
    def cls(self) -> type[Operator]:
        return resolve_operator(self.operator)

    def hidden(self) -> list[str]:
        """Every secret that it was given."""
        found = [str(s) for s in self.secrets]
        for cnxn_id, cls in self.cls.connection_classes().items():
            if isinstance(cls, type) and issubclass(cls, Connection):
                kinds = {n: kind for name, (kind, spec) in cls.attributes().items() for n in (name, *spec.aliases)}
                given = self.cnxns.get(cnxn_id, {})
                found += [str(v) for k, v in given.items() if kinds.get(k.lower()) is Secret]
        return found


class Brisk(SystemIds):
    """No pause before something is tried again."""

    def jitter(self) -> float:
        return 0.0


@dataclass
class Outcome:
    """What became of one session, and what was told meanwhile."""

    result: SessionResult
    error: BaseException | None
    events: list[Event]

    @property
    def ok(self) -> bool:
        return self.result.exit_code == 0


class Trial:
    """One anchovy over one datastore, run after run. `store` is the datastore as nobody disturbs it."""

    def __init__(self, subject: Subject, store: MemoryStore | None = None, id: str = "tested") -> None:
        self.subject = subject
        self.name = f"trial-{next(_numbers)}"
        self.store = store or MemoryStore.named(self.name)
        self.home = Home(USER, id)

    def env(self) -> dict[str, str]:
        """What the subject says, and nothing of whoever runs the test."""
        return connection_variables(self.subject.cnxns)

    def settled(self, **more: object) -> tuple[Settings, Config, dict[str, str]]:
        """The settings, the configuration and the environment of a run."""
        env, config = self.env(), config_from({"tbls": dict(self.subject.tbls)}, "the subject")
        said = {"id": self.home.id, "user": self.home.user, "datastore": self.store.url, **self.subject.settings, **more}
        return resolve(said, env, config), config, env

    def run(self, operator: type[Operator] | None = None, store: Store | None = None, **settings: object) -> Outcome:
        """One session. `operator`, `store`: in place of the subject's own, where a test ends it on its way."""
        events: list[Event] = []
        made = self.settled(**settings)
        run = SessionRun(operator or self.subject.cls, *made, events.append, store or self.store, ids=Brisk())
        return Outcome(Watch(run).run(signals=False), run.error, events)

    # what lies there

    def rows(self) -> Rows:
        """Committed rows of each table, as often as they are there."""
        found: Rows = {}
        reader = Reader(self.store, self.home)
        for record in reader.records(0, ""):
            for file in record.change.files:
                rows = (row for batch in read_batches(self.store, file) for row in batch_to_rows(batch))
                found.setdefault(file.table, Counter()).update(map(canonical, rows))
        return found

    def checkpoints(self) -> dict[str, Any]:
        return {k: v.value for k, v in Reader(self.store, self.home).state().checkpoints.items()}

    def commits(self) -> int:
        return Reader(self.store, self.home).state().slot

    def objects(self) -> dict[str, bytes]:
        """Everything that lies there, but for leases, which every run rewrites."""
        return {e.key: self.store.get(e.key) for e in self.store.list("") if not e.key.endswith("/lease.json")}

    def broken(self) -> list[str]:
        """What `anchovy verify` finds wrong."""
        found = Verifier(self.store).verify(self.home)
        return [f"{line.what}: {line.broken}" for line in found.lines if not line.ok]


def canonical(row: Mapping[str, Any]) -> str:
    """A row as text: columns sorted, nulls left out, because a column that comes later is null before."""
    return repr(sorted((k, v) for k, v in row.items() if v is not None))


def difference(want: Rows, have: Rows) -> str:
    """What is missing and what is too many, in words; empty where nothing is."""
    said = []
    for tbl in sorted({*want, *have}):
        wanted, there = want.get(tbl, Counter()), have.get(tbl, Counter())
        for what, rows in (("missing", wanted - there), ("too many", there - wanted)):
            if rows:
                first = next(iter(rows))
                said.append(f"{tbl}: {sum(rows.values())} of {sum(wanted.values())} rows {what}, such as {first:.200}")
    return "; ".join(said)
