"""A bucket that is away: a run ends with a clear error, inside its execution timeout and grace; one that comes back loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from anchovies.store.open import open_store
from anchovies.testing.buckets import Bucket, bucket, missing
from anchovies.testing.proxy import Proxy, Rule
from anchovies.testing.testbed import World

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(200)]
N = 40
#: for the processes, in seconds: shorter than eight attempts of a client that finds the door closed
AWAY = 1.5


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    if why := missing("s3"):
        pytest.skip(why)
    with bucket("s3") as running:
        yield running


@pytest.fixture
def proxy(server: Bucket) -> Iterator[Proxy]:
    with Proxy(server.port) as running:
        yield running


@pytest.fixture
def world(server: Bucket, proxy: Proxy, tmp_path: Path, seed: int) -> Iterator[World]:
    """Its processes reach the bucket through the proxy; we do without it."""
    there = server.below(tmp_path.name)
    env = there.through(f"http://127.0.0.1:{proxy.port}").env
    urls = {"sqlite": f"sqlite:///{tmp_path}/x.sqlite"}
    with closing(open_store(there.url, there.env)) as store:
        made = World(tmp_path, seed, urls, datastore=there.url, env=env, opened=lambda: store)
        yield made
        made.close()


def whole(world: World, proxy: Proxy) -> None:
    """What undisturbed runs make of it."""
    proxy.rules = []
    for start in (lambda: world.download(n=N, lease=False), lambda: world.upload("sqlite")):
        run = start()
        assert run.wait() == 0 and run.result()["status"] == "ok", run.said
    world.check_log(N)
    world.check_database("sqlite", N)


def some_commits(world: World, code: Callable[[], int | None]) -> None:
    end = time.monotonic() + 60
    while world.slots() < 3:
        assert time.monotonic() < end and code() is None
        time.sleep(0.02)


def test_nobody_is_there(world: World, proxy: Proxy) -> None:
    proxy.refuse()
    run = world.download("-t", "60", n=N)
    assert run.wait(100) == 1, run.said
    told = run.result()
    assert (told["status"], told["err_type"], told["commits"]) == ("failed", "StoreUnavailable", 0)
    assert "connection refused" in str(told) and world.datastore in str(told) and "ENDPOINT" in told["hint"]
    proxy.admit()
    assert not list(world.store.list("")), "nothing was begun"
    whole(world, proxy)


@pytest.mark.parametrize("middle", [False, True], ids=["from the start", "in the middle"])
def test_nobody_answers(world: World, proxy: Proxy, middle: bool) -> None:
    """Requests go out and nothing comes back: the time that the run was given ends it."""
    silence = Rule("stall", "down", 0, times=None)
    if not middle:
        proxy.rules = [silence]
    run = world.download("-t", "4", "--grace", "2", n=N, pace=0.2)
    if middle:
        some_commits(world, lambda: run.code)
        proxy.rules = [silence]
    assert run.wait(100) == 3, run.said
    told = run.result()
    assert (told["status"], told["err_type"]) == ("timeout", "AnchovyExecutionTimeout") and told["hint"]
    assert proxy.fired
    proxy.drop()
    whole(world, proxy)


@pytest.mark.parametrize("middle", [False, True], ids=["from the start", "in the middle"])
def test_it_comes_back(world: World, proxy: Proxy, middle: bool) -> None:
    """Tries with pauses of full jitter outlast it: the run itself ends well."""
    if not middle:
        proxy.refuse()
    run = world.download("-t", "60", n=N, pace=0.1)
    if middle:
        some_commits(world, lambda: run.code)
        proxy.refuse()
        proxy.drop()
    time.sleep(AWAY)
    assert run.code is None, run.said
    proxy.admit()
    assert run.wait(100) == 0, run.said
    assert run.result()["status"] == "ok"
    whole(world, proxy)
