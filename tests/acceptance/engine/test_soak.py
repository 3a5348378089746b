"""A service that ran many batches has as much memory, as many threads and as many descriptors as after a few.

`SOAK_BATCHES=10000` makes it that many.
"""

from __future__ import annotations

import gc
import os
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest

import anchovies
from anchovies.core.config import load_config
from anchovies.core.settings import resolve
from anchovies.engine.events import Event
from anchovies.engine.limits import stopped_by
from anchovies.engine.session import SessionRun
from anchovies.engine.watch import Watch
from anchovies.sdk import Connection, Downloader, Tbl, Uploader, batch, cached, context, on_task, sink, source
from anchovies.store.open import open_store

BATCHES = int(os.environ.get("SOAK_BATCHES", "600"))
PAGE = os.sysconf("SC_PAGE_SIZE")


class Weight(msgspec.Struct):
    batch: int
    resident: float  # MB
    objects: int
    threads: int
    descriptors: int

    @classmethod
    def now(cls, number: int) -> Weight:
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6
        return cls(number, resident, len(gc.get_objects()), threading.active_count(), len(os.listdir("/proc/self/fd")))


class Door(Connection):
    def open(self) -> None: ...


class Everything(Downloader):
    """A commit in every tenth batch, a failure in every fiftieth, and of all else a little."""

    door: Door

    @cached(ttl=0.01)
    def names(self) -> Any:
        yield "a"

    def discover_tbls(self) -> Any:
        return [Tbl("a"), Tbl("b")]

    @on_task("xopen")
    def begin(self) -> None:
        context().checkpoint("hook").get()
        if batch().id % 100 == 0:
            context().checkpoint("hook").set(batch().id)

    @source("a")
    def a(self) -> Any:
        assert self.door is not None
        assert self.names() == ("a",)
        if batch().id % 10 == 0:
            yield {"n": batch().id}
            context().checkpoint("n").set(batch().id)

    @source("b")
    def b(self) -> Any:
        if batch().id % 50 == 0:
            raise RuntimeError(f"batch {batch().id}")
        return iter(())


class Follow(Uploader):
    @sink()
    def take(self, stream: Any) -> None:
        assert list(stream)


class Rows(Downloader):
    @source("t")
    def t(self) -> Any:
        cursor = context().checkpoint("n")
        yield {"n": cursor.get(0)}
        cursor.set(cursor.get(0) + 1)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("operator", [Everything, Follow])
def test_many_batches_weigh_no_more_than_a_few(operator: type, tmp_path: Path, port: int, notes: list[str]) -> None:
    """Its configuration changes, it is asked how it is, its upstream commits, all the time."""
    url, file = str(tmp_path / "home"), tmp_path / "config.yaml"
    upstream = ["up"] if operator is Follow else []
    given = {
        "id": "a",
        "user": "me",
        "datastore": url,
        "service": True,
        "upstream": upstream,
        "port": port,
        "config_file": str(file),
    }
    weights: list[Weight] = []

    def commit() -> None:
        if upstream:
            anchovies.run(Rows, id="up", user="me", datastore=url)

    def read() -> Any:
        config = load_config(given, {})
        return resolve(given, {}, config), config

    def listen(event: Event) -> None:
        if event.kind != "batch_ended":
            return
        number = event.data["batch"]
        if number % (BATCHES // 10) == 0:
            file.write_text(f"config: {{interval: 0, cache_ttl: {number}}}\n")
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).close()
            commit()
            weights.append(Weight.now(number))
        if number == BATCHES:
            run.stop.set(stopped_by(15, "SIGTERM"))

    commit()
    file.write_text("config: {interval: 0}\n")
    settings, config = read()
    run = SessionRun(operator, settings, config, {}, listen, open_store(url))
    run.reread = read
    run.ids.jitter = lambda: 0.0  # type: ignore[method-assign]
    result = Watch(run).run(signals=False)
    assert (result.status, result.batches) == ("ok", BATCHES)
    assert run.board.now().reloads >= 8
    few, many = weights[1], weights[-1]
    notes.append(f"soak of {operator.__name__}: {few} → {many}")
    assert (many.threads, many.descriptors) == (few.threads, few.descriptors), weights
    assert many.objects - few.objects < 500, weights
    assert many.resident - few.resident < 16, weights  # what looking after a log imports, once, weighs 8
