"""Datastores in buckets do what a datastore must do: S3 on moto, Azure Blob on Azurite, Google Cloud Storage on our fake."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from anchovies.core.errors import ConfigError
from anchovies.store.base import Store
from anchovies.store.keys import PASSED, Home
from anchovies.store.open import open_store
from anchovies.testing.buckets import Bucket, bucket, missing
from anchovies.testing.datastore import DatastoreSuite

_numbers = count()


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """One for all tests of a class; they hand its kind down."""
    if why := missing(request.param):
        pytest.skip(why)
    with bucket(request.param) as running:
        yield running


class InBucket(DatastoreSuite):
    """A prefix of its own for each test."""

    @pytest.fixture
    def store(self, server: Bucket) -> Iterator[Store]:
        made = server.below(f"some/where {next(_numbers)}")
        store = open_store(made.url, made.env)
        yield store
        store.close()


@pytest.mark.server
@pytest.mark.parametrize("server", ["s3"], indirect=True)
class TestMoto(InBucket):
    pass


@pytest.mark.server
@pytest.mark.parametrize("server", ["az"], indirect=True)
class TestAzurite(InBucket):
    pass


@pytest.mark.parametrize("server", ["gs"], indirect=True)
class TestGcsFake(InBucket):
    pass


S3RVER = [pytest.param("s3rver", marks=pytest.mark.server)]


@pytest.mark.parametrize("server", S3RVER, indirect=True)
def test_a_store_that_lets_every_writer_win_is_refused(server: Bucket) -> None:
    made = server.below(f"refused {next(_numbers)}")
    store = open_store(made.url, made.env)
    with pytest.raises(ConfigError, match="lets a second writer replace") as e:
        store.create(Home("me", "sales").format, b"{}")
    assert made.url in str(e.value) and "If-None-Match" in str(e.value.hint)
    assert list(store.list("me/")) == [], "nothing of a log was begun"
    store.close()


@pytest.mark.parametrize("server", ["gs"], indirect=True)
def test_a_store_is_tried_once(server: Bucket) -> None:
    made = server.below(f"tried {next(_numbers)}")
    store = open_store(made.url, made.env)
    store.create(Home("me", "sales").format, b"{}")
    assert [e.key for e in store.list("")] == [PASSED, Home("me", "sales").format]
    store.close()


KINDS = [pytest.param("s3", marks=pytest.mark.server), pytest.param("az", marks=pytest.mark.server), "gs"]


@pytest.mark.parametrize("server", KINDS, indirect=True)
def test_a_bucket_that_is_not_there_is_named(server: Bucket) -> None:
    wrong = Bucket(f"{server.url}-elsewhere/x", server.endpoint, server.attributes)
    store = open_store(wrong.url, wrong.env)
    with pytest.raises(ConfigError, match=f"{wrong.url}: there is no such bucket") as e:
        store.create("u/a", b"x")
    assert e.value.hint
    store.close()
