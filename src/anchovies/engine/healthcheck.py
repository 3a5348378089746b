"""Is an anchovy well? Each check is one line: configuration, datastore, connections, and the heartbeat or the last run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from anchovies.core.clock import Clock, SystemClock
from anchovies.core.config import Config
from anchovies.core.declared import hostname
from anchovies.core.env import connections_from
from anchovies.core.errors import AnchovyError
from anchovies.core.ids import SystemIds
from anchovies.core.retry import Retry
from anchovies.core.settingkinds import show_duration
from anchovies.core.settings import Settings
from anchovies.core.tblconfig import tbl_from_config
from anchovies.engine.handles import handle_of
from anchovies.engine.loop import LEAST, LONGEST
from anchovies.engine.services import phrase
from anchovies.sdk.operator import Operator, Uploader
from anchovies.store.base import Store
from anchovies.store.keys import Home
from anchovies.store.lease import TTL, Doing, Lease, LeaseInfo, read
from anchovies.store.open import open_store
from anchovies.store.record import Writer

SPARE = 60.0  # seconds by which a pause may be longer than it was meant to be


class Check(msgspec.Struct, frozen=True):
    """One of them: what was looked at, whether it is well, and that in words."""

    name: str
    ok: bool
    text: str
    hint: str | None = None


class Asked(msgspec.Struct, frozen=True):
    """How it is looked at. `live`: only whether a service's process lives, whatever its batches come to; `patience`: seconds for
    each connection; `max_age`: seconds since the last run, or batch, that went well."""

    live: bool = False
    patience: float = 10.0
    max_age: float | None = None


def checks(
    operator: type[Operator] | None, settings: Settings, config: Config, env: Mapping[str, str], asked: Asked
) -> Iterator[Check]:
    """Each check as soon as it is known. Nothing raises: what does is a check that is not well."""
    yield tried("configuration", lambda: _configuration(operator, config))
    clock, home = SystemClock(), Home(settings.user, settings.id)
    seen: list[tuple[LeaseInfo, float | None]] = []
    yield tried("datastore", lambda: _datastore(open_store(settings.datastore, env, asked.patience), home, settings, seen))
    if operator is not None and not asked.live:
        for cnxn_id, factory in operator.connection_classes().items():
            given = connections_from(env).get(cnxn_id.lower(), {})
            yield _in_time(f"connection {cnxn_id}", lambda f=factory, i=cnxn_id, g=given: _connection(f, i, g), asked.patience)  # type: ignore[misc]
    for info, age in seen:
        yield _running(info, age, settings, asked, clock)


def tried(name: str, do: Callable[[], str]) -> Check:
    """What `do()` says, or what it raises."""
    try:
        return Check(name, True, do())
    except Exception as e:
        return Check(name, False, phrase(e), e.hint if isinstance(e, AnchovyError) else None)


def _in_time(name: str, do: Callable[[], str], seconds: float) -> Check:
    """In a thread of its own, which is left to itself where it takes too long."""
    found: list[Check] = []
    thread = threading.Thread(target=lambda: found.append(tried(name, do)), name=name, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else Check(name, False, f"no answer within {show_duration(seconds)}", "--timeout gives it more")


def _configuration(operator: type[Operator] | None, config: Config) -> str:
    if operator is not None and not issubclass(operator, Uploader):
        for name, raw in config.tbls.items():
            tbl_from_config(name, raw, operator.tbl_properties)
    said = f"{config.path or 'no file'}, {len(config.tbls)} table{'' if len(config.tbls) == 1 else 's'}"
    if operator is None:
        return f"{said}; no operator was named, so its connections are not checked"
    return f"{said}, {operator.__name__}"


def _datastore(store: Store, home: Home, settings: Settings, seen: list[tuple[LeaseInfo, float | None]]) -> str:
    """Reads the lease; where there is one, an object is written beside it, timed, and deleted."""
    ids, clock = SystemIds(), SystemClock()
    who = Writer(host=hostname(), pid=os.getpid(), session="healthcheck", batch=0, version="")
    retry = Retry(clock, ids, attempts=3)
    lane = int(settings.worker_num)
    info = retry.call(lambda: read(store, home, lane))
    if not info.session:
        retry.call(lambda: next(iter(store.list(f"{home.root}/")), None))
        seen.append((info, None))
        return f"{store.url}, nothing of {home.user}/{home.id} is in it yet"
    age = retry.call(Lease(store, home, clock, ids, who, retry, lane).age)
    seen.append((info, age))
    return f"{store.url}, read and written"


def _connection(factory: Any, cnxn_id: str, given: Mapping[str, Any]) -> str:
    handle_of(cnxn_id, factory, given).check()
    return getattr(factory, "__name__", type(factory).__name__)


def _running(info: LeaseInfo, age: float | None, settings: Settings, asked: Asked, clock: Clock) -> Check:
    """Of what runs, or ran last."""
    if info.session and not info.free:
        return _alive(info, age, settings, asked)
    if settings.service:
        ended = f"; it ended {info.result.get('ended')} ({info.result.get('status')})" if info.result else ""
        return Check("service", False, f"no service runs{ended}", "start it: anchovy start -S …")
    if not info.session:
        return Check("last run", asked.max_age is None, "it has never run")
    return _last_run(info, asked, clock)


def _last_run(info: LeaseInfo, asked: Asked, clock: Clock) -> Check:
    status, ended = info.result.get("status"), str(info.result.get("ended", ""))
    rows = info.result.get("rows", 0)
    if status not in ("ok", None):
        return Check("last run", False, f"{status}, {ended}: {info.result.get('error') or 'no message'}")
    try:
        since = clock.now_us() / 1_000_000 - datetime.fromisoformat(ended).timestamp()
    except ValueError:
        return Check("last run", asked.max_age is None, "when it ended is not known")
    text = f"ok, {show_duration(round(max(0.0, since)))} ago, {rows:,} rows"
    late = asked.max_age is not None and since > asked.max_age
    return Check("last run", not late, text, f"older than {show_duration(asked.max_age or 0)}" if late else None)


def _alive(info: LeaseInfo, age: float | None, settings: Settings, asked: Asked) -> Check:
    name = "service" if settings.service or info.doing else "run"
    who = f"session {info.session} on {info.host} (pid {info.pid})"
    if age is None:
        return Check(name, True, f"{who}; this datastore does not tell when it beat last")
    if age >= TTL:
        return Check(name, False, f"no heartbeat for {show_duration(round(age))} of {who}", "it died or hangs; start it again")
    if info.doing is None:
        return Check(name, True, f"running since {info.since}, {who}")
    return _doing(info.doing, age, who, asked)


def _doing(d: Doing, age: float, who: str, asked: Asked) -> Check:
    """Of a service that beats: its loop goes round, and its batches go well."""
    for_ = max(0.0, d.at - d.moved) + age  # by its own clock, and the store's
    where = f"batch {d.batches + 1} runs" if d.running else "it pauses"
    text = f"{where} since {show_duration(round(for_))}; {d.batches:,} batches so far, {who}"
    if not d.running and for_ > max(LEAST, d.interval) * LONGEST + SPARE:
        return Check("service", False, f"its loop stands still: {text}", "stop it and start it again")
    if asked.live:
        return Check("service", True, text)
    well = f"{show_duration(round(d.at - d.succeeded + age))} ago" if d.succeeded else "never"
    if d.streak:
        failed = f"{d.streak} batch{'es' if d.streak > 1 else ''} failed in a row, the last that went well: {well}"
        return Check("service", False, f"{failed}. {d.error}")
    if asked.max_age is not None and (not d.succeeded or d.at - d.succeeded + age > asked.max_age):
        return Check("service", False, f"the last batch that went well: {well}", f"older than {show_duration(asked.max_age)}")
    return Check("service", True, text)
