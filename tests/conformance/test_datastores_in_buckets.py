"""Datastores in buckets do what a datastore must do, on every server that the registries have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from anchovies.store.base import Store
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
@pytest.mark.parametrize("server", ["seaweed"], indirect=True)
class TestSeaweed(InBucket):
    pass


@pytest.mark.server
@pytest.mark.parametrize("server", ["az"], indirect=True)
class TestAzurite(InBucket):
    pass


@pytest.mark.parametrize("server", ["gs"], indirect=True)
class TestGcsFake(InBucket):
    pass
