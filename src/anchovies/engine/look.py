"""`preview` and `plan`: what would be kept, what would be done. Both read; neither stores anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from anchovies.core.config import Config
from anchovies.core.errors import ConfigError
from anchovies.core.reshape import KEY_VARIABLE, as_yielded, mask_key
from anchovies.core.settings import Settings
from anchovies.core.tbl import Tbl
from anchovies.core.tblconfig import tbl_from_json
from anchovies.core.words import count
from anchovies.engine import splits
from anchovies.engine.batch import BatchRun
from anchovies.engine.context import RunTask
from anchovies.engine.events import silent
from anchovies.engine.feeds import Feed, Upstream, find_feeds, find_upstreams, pick_tables, transactional
from anchovies.engine.graph import Part, draw
from anchovies.engine.services import Services
from anchovies.engine.session import SessionRun
from anchovies.engine.tables import plan_tables
from anchovies.engine.work import work_of
from anchovies.sdk.context import entered
from anchovies.sdk.operator import Operator, Uploader
from anchovies.store.base import Store
from anchovies.store.follow import Reader
from anchovies.store.memory import MemoryStore
from anchovies.store.open import open_store

Sentences = list[tuple[str, list[str]]]


@contextmanager
def looking(
    operator: type[Operator], settings: Settings, config: Config, env: Mapping[str, str], store: Store
) -> Iterator[tuple[Services, BatchRun]]:
    """An operator with its connections and a loaded log, outside of any session."""
    run = SessionRun(operator, settings, config, env, silent, store)
    services, connections = run.prepare()
    batch = BatchRun(services, run.tasklog, operator.__name__)
    try:
        with entered(batch.context(RunTask("LOOK", None, run.clock)), whole_process=True):
            run.log.load()
            yield services, batch
    finally:
        connections.close()
        run.parts.close(lambda wrong: None)


def preview(
    operator: type[Operator], settings: Settings, config: Config, env: Mapping[str, str], rows: int = 10
) -> list[tuple[Tbl, Any]]:
    """The first rows of each table as they would be kept: (table, pyarrow Table). Raises what a run would."""
    if issubclass(operator, Uploader):
        raise ConfigError("preview shows what a downloader would keep", hint="for an uploader ask `anchovy plan`")
    store = MemoryStore()
    with looking(operator, settings, config, env, store) as (services, batch):
        services.most_rows = rows
        batch.phase("startup")
        work_of(services, config, env).batch(batch)
        if batch.outcome.failures:
            raise batch.outcome.failures[0][1]
        run_home = Reader(store, services.home)
        return _kept(services, run_home, rows)


def _kept(services: Services, reader: Reader, rows: int) -> list[tuple[Tbl, Any]]:
    """What the throw-away datastore holds of each active table."""
    arrow = import_module("anchovies.core.arrow")
    datafile = import_module("anchovies.store.datafile")
    state = reader.state()
    files = [f for record in reader.records(0, "") for f in reader.files_of(record)]
    out = []
    for name, tbl in services.batch.tbls.items():
        seen = tbl_from_json(state.tables[name]) if name in state.tables else tbl
        batches = [
            arrow.conform(b, seen.types) for f in files if f.table == name for b in datafile.read_batches(services.store, f)
        ]
        out.append((seen, arrow.table_of(batches, seen.types).slice(0, rows)))
    return out


def plan(operator: type[Operator], settings: Settings, config: Config, env: Mapping[str, str]) -> Sentences:
    """What the next run would do: (table, sentences). Reads; stores nothing."""
    with looking(operator, settings, config, env, open_store(settings.datastore, env)) as (services, _):
        if isinstance(services.operator, Uploader):
            upstreams = find_upstreams(services, config)
            return [(f.name, _load_plan(services, f)) for f in find_feeds(services, config, upstreams, env)]
        found = plan_tables(services.operator, services.routes, config, services.settings)
        mask_key((t.tbl for part in found.parts for t in part.tables), env.get(KEY_VARIABLE))
        services.batch.tbls = {n: found.tbls[n] for n in found.active}
        parts = {t.name: part for part in found.parts for t in part.tables}
        return [(n, _read_plan(services, found.tbls[n], parts[n])) for n in found.active]


def graph(operator: type[Operator], settings: Settings, config: Config, env: Mapping[str, str]) -> str:
    """The graph of the next run as text. Reads; stores nothing."""
    with looking(operator, settings, config, env, open_store(settings.datastore, env)) as (services, _):
        if not isinstance(services.operator, Uploader):
            return draw(plan_tables(services.operator, services.routes, config, services.settings))
        upstreams = find_upstreams(services, config)
        return "\n".join(line for u, name in pick_tables(services, config, upstreams) for line in _into(services, u, name))


def _into(services: Services, upstream: Upstream, name: str) -> list[str]:
    """What takes the rows of one upstream table."""
    takers = ["load"] if transactional(services.operator) else [r.method for r in services.routes.sinks(name)]
    return [f"{upstream.source}.{name}", *(f"{'└' if m is takers[-1] else '├'}─ {m}()" for m in takers)]


def _read_plan(services: Services, tbl: Tbl, part: Part) -> list[str]:
    state = services.log.state
    given = {"tbl": as_yielded(tbl), "table": tbl.name, "worker": services.worker}
    given |= {"session": services.session, "batch": services.batch, "task": None}
    said = [*tbl.describe_keys(), *tbl.describe_shape()]
    said += [f"checkpoint {k} = {v.value!r}" for k in state.checkpoints for v in state.values(k) if tbl.name in v.tbls]
    if (entries := len(state.ledgers.get(tbl.name, {}))) > 0:
        said.append(f"{count(entries, 'entry', 'entries')} in its ledger")
    totals = state.totals.get(tbl.name)
    said.append(f"{count(totals.rows, 'row')} kept so far" if totals else "nothing is kept of it yet")
    said += splits.describe(services, part, tbl.name, given)
    return [*said, *services.operator.plan(as_yielded(tbl))]


def _load_plan(services: Services, feed: Feed) -> list[str]:
    said = [f"from {feed.target.source}, into {feed.target.schema}.{feed.name}, write: {feed.target.tbl.write_mode}"]
    said += [*feed.target.tbl.describe_keys(), *feed.target.tbl.describe_shape()]
    operator = services.operator
    assert isinstance(operator, Uploader)
    at = (operator.position(feed.target) if transactional(operator) else None) or feed.known
    files = [f for r in feed.upstream.reader.records(at.slot, at.cid) for f in r.change.files if f.table == feed.name]
    if files:
        rows = count(sum(f.rows for f in files), "row")
        said.append(f"{rows} in {count(len(files), 'file')} to load, from commit {at.slot + 1} on")
    else:
        said.append(f"nothing new since commit {at.slot}")
    return [*said, *operator.plan_load(feed.target)]
