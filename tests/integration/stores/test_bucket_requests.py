"""What runs ask of a bucket, counted on its wire: the protocol's figures, which the code is held to in tests/unit, are those of
requests as a cloud bills them. No client library asks twice, or for something else beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import anchovies
from anchovies.sdk import Downloader, context, source
from anchovies.testing.buckets import Bucket, bucket, missing
from anchovies.testing.counting import CountingProxy

KINDS = [pytest.param("s3", marks=pytest.mark.server), pytest.param("az", marks=pytest.mark.server), "gs"]
IDLE = {"get lease.json": 1, "put lease.json": 2, "get _format.json": 1, "list snap/": 1, "get snap/": 1, "get log/": 1}


class Rows(Downloader):
    """One row for each of `todo` that was not read yet, a commit each if asked for."""

    todo = 1

    @source("t")
    def t(self, **kwds: Any) -> Any:
        import pyarrow as pa

        cursor = context().checkpoint("n")
        for n in range(cursor.get(0), self.todo):
            yield pa.table({"n": [n]})  # Arrow data are taken one by one
            cursor.set(n + 1)


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    if why := missing(request.param):
        pytest.skip(why)
    with bucket(request.param) as made:
        yield made


@pytest.fixture
def wire(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingProxy]:
    """The way to a new datastore, which the environment names."""
    there = server.below(f"some/prefix-{uuid4().hex}")
    with CountingProxy(there) as proxy:
        monkeypatch.setenv("ACHVY_DATASTORE", there.url)
        for name, value in there.through(proxy.endpoint).env.items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def run(wire: CountingProxy, tmp_path: Path) -> Callable[..., Any]:
    """A run of the downloader, or with `up` of an uploader behind it; what it asked is counted from its start."""

    def once(todo: int = 1, up: bool = False, **more: Any) -> Any:
        wire.clear()
        if up:
            db = {"db": {"url": f"sqlite:///{tmp_path}/x.sqlite"}}
            return anchovies.run("sql.Uploader", id="up", user="t", upstream=["a"], cnxns=db, **more)
        return anchovies.run(type("Rows", (Rows,), {"todo": todo}), id="a", user="t", **more)

    return once


def test_idle_runs(wire: CountingProxy, run: Callable[..., Any]) -> None:
    run()
    assert wire.asked[-1][1] == "t/a/$log/lease.json", "the first run is heard as well"
    assert run().commits == 0
    assert (wire.by_kind(), wire.requests, wire.writes) == (IDLE, 7, 2)
    for _ in range(2):
        run(up=True)
    assert run(up=True).commits == 0
    assert (wire.by_kind(), wire.requests, wire.writes) == ({**IDLE, "get log/": 2}, 8, 2)


@pytest.mark.parametrize("commits", [1, 5])
def test_a_commit_is_two_requests(wire: CountingProxy, run: Callable[..., Any], commits: int) -> None:
    """And what a session that commits costs beside them."""
    run()
    run(1 + commits, commit_bytes=1 if commits > 1 else 1 << 30)
    asked = wire.by_kind()
    assert asked.pop("put data/") == commits
    assert asked.pop("create log/") == commits + (commits > 1), "several: one more says that the task is complete"
    around = {"create snap/": 1, "put $heads/": 1, "put $checkpoints/": 1, "put $task_logs/": 1, "put $results/": 1}
    assert asked == {**IDLE, **around, "list snap/": 2}


def test_a_new_bucket_is_tried_once(wire: CountingProxy, run: Callable[..., Any]) -> None:
    def trial() -> list[str]:
        return [verb for verb, key in wire.asked if key.startswith("$heads/") or verb == "delete"]

    run()
    assert trial() == ["get", "create", "create", "get", "list", "delete", "put"]
    run(3)
    assert trial() == []
