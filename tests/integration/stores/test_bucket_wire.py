"""Buckets behind a wire that breaks at an exact byte: each request has the right outcome, or is StoreUnavailable; never a wrong one.

An object that was created is whole or not there; a list is whole or an error; AlreadyExists is only ever said of what is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import count, product
from typing import Any

import pytest

from anchovies.core.errors import AlreadyExists, NotFound, StoreUnavailable
from anchovies.store.base import Store
from anchovies.store.open import open_store
from anchovies.testing.buckets import Bucket, bucket, missing
from anchovies.testing.proxy import Proxy, Rule, Side

REAL = [pytest.mark.server, pytest.mark.slow]
KINDS = [pytest.param("s3", marks=REAL), pytest.param("az", marks=REAL), pytest.param("gs", marks=pytest.mark.slow)]
OLD, NEW = b"old" * 100_000, b"new" * 110_000
LISTED = [f"u/listed/{n:04d}" for n in range(150)]
FAR = 150_000
HEADERS, BODY, ANSWER, STATUS = ("up", 10), ("up", FAR), ("down", 0), ("down", 15)
MIDDLE = ("down", FAR)
TIMEOUT = "0.7"
_numbers = count()


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    if why := missing(request.param):
        pytest.skip(why)
    with bucket(request.param) as running:
        yield running


@dataclass
class Case:
    """One request to `key`, which `direct` reaches without the wire, and what the wire does to it."""

    direct: Store
    key: str
    rule: Rule

    def broken(self, there: Bucket, do: Callable[[Store, Case], str]) -> str:
        """What `do` saw through a proxy with the rule."""
        with Proxy(there.port, rules=[self.rule]) as proxy:
            made = there.through(f"http://127.0.0.1:{proxy.port}")
            with closing(open_store(made.url, {**made.env, "ACHVY_CNXN__DATASTORE__TIMEOUT": TIMEOUT})) as store:
                try:
                    found = do(store, self)
                except StoreUnavailable as e:
                    found = "unavailable"
                    assert e.hint
            assert proxy.fired, f"{self.rule}: it was never met"
        return found

    def held(self) -> bytes | None:
        try:
            return self.direct.get(self.key)
        except NotFound:
            return None


# each does its request and judges what it brought


def create(store: Store, case: Case) -> str:
    try:
        store.create(case.key, NEW)
    except AlreadyExists:
        assert case.held() == NEW, "it was said to be there"
        return "a question"
    assert case.held() == NEW
    return "right"


def create_second(store: Store, case: Case) -> str:
    case.direct.put(case.key, OLD)
    try:
        store.create(case.key, NEW)
    except AlreadyExists:
        assert case.held() == OLD
        return "right"
    raise AssertionError("it says that it created what was there")


def put(store: Store, case: Case) -> str:
    case.direct.put(case.key, OLD)
    store.put(case.key, NEW)
    assert case.held() == NEW
    return "right"


def get(store: Store, case: Case) -> str:
    case.direct.put(case.key, OLD)
    assert store.get(case.key) == OLD
    return "right"


def get_many(store: Store, case: Case) -> str:
    case.direct.put(case.key, OLD)
    assert list(store.get_many([case.key, f"{case.key}-missing"])) == [OLD, None]
    return "right"


def listing(store: Store, case: Case) -> str:
    assert [e.key for e in store.list("u/listed/")] == LISTED
    return "right"


def delete(store: Store, case: Case) -> str:
    case.direct.put(case.key, OLD)
    store.delete(case.key)
    assert case.held() is None
    return "right"


SENT, READ = (HEADERS, BODY, ANSWER, STATUS), (HEADERS, ANSWER, STATUS, MIDDLE)
#: the request, where it is broken, and what may be there afterwards whatever was said
REQUESTS: dict[str, tuple[Callable[[Store, Case], str], tuple[tuple[str, int], ...], tuple[bytes | None, ...]]] = {
    "create": (create, SENT, (None, NEW)),
    "create what is there": (create_second, SENT, (OLD,)),
    "put": (put, SENT, (OLD, NEW)),
    "get": (get, READ, (OLD,)),
    "get many": (get_many, READ, (OLD,)),
    "list": (listing, (HEADERS, ANSWER, STATUS, ("down", 9_000)), (None,)),
    "delete": (delete, (HEADERS, ANSWER, STATUS), (OLD, None)),
}
BREAKS: list[dict[str, Any]] = [
    *({"do": do, "times": times} for do, times in product(("reset", "cut", "half-close"), (1, None))),
    {"do": "stall", "times": None},
    {"do": "throttle", "times": None, "rate": 5_000},
    {"do": "throttle", "times": None, "rate": 4_000_000},
]


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("server", KINDS, indirect=True, scope="module")
def test_a_request_is_right_or_unavailable(server: Bucket, request_: str, notes: list[str]) -> None:
    do, places, after = REQUESTS[request_]
    there = server.below(f"wire {next(_numbers)}")
    with closing(open_store(there.url, there.env)) as direct, ThreadPoolExecutor(8) as pool:
        if do is listing:
            list(pool.map(lambda key: direct.put(key, b"x" * 10), LISTED))

        def play(place: tuple[Side, int], how: dict[str, Any]) -> tuple[str, str]:
            case = Case(direct, f"u/case/{next(_numbers)}", Rule(side=place[0], at=place[1], **how))
            told = f"{how} at {place}"
            try:
                found = case.broken(there, do)
                assert case.held() in after, "half of it is there"
            except Exception as e:
                return told, f"wrong: {type(e).__name__}: {str(e)[:300]}"
            # what broke off in the middle may be fetched in pieces
            if how["do"] in ("reset", "cut", "stall") and how["times"] is None and place != MIDDLE and found != "unavailable":
                return told, f"wrong: {found}, though nothing can have been heard"
            return told, found

        futures = [pool.submit(play, place, how) for place in places for how in BREAKS]  # type: ignore[arg-type]
        ended = [f.result() for f in futures]
    outcomes = Counter(found for _, found in ended)
    wrong = [x for x in ended if x[1].startswith("wrong")]
    assert not wrong, "\n".join(map(str, wrong))
    assert {"right", "unavailable"} <= set(outcomes)
    notes.append(f"{there.url.split(':')[0]}, {request_} over a broken wire: {len(ended)} times, {dict(outcomes)}")
