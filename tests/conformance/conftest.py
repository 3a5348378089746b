"""`subject`: `sql.Uploader` over every database, one after the other; `subject_of` makes more of them in a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anchovies.plugins.sql import DbConnection, Uploader
from anchovies.testing.sqlsubject import KINDS, SERVERS, Subject, server_urls


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sql_kind" in metafunc.fixturenames:
        metafunc.parametrize("sql_kind", KINDS)


def uploader(url: str) -> Uploader:
    operator = Uploader()
    operator.connections = {"db": DbConnection(id="db", url=url)}
    return operator


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], str]]:
    with server_urls() as urls:
        yield urls


@pytest.fixture
def subject_of(servers: Callable[[str], str], tmp_path: Path) -> Callable[[str], Subject]:
    """A new subject by its kind: a schema of its own, in one database a test."""

    def make(kind: str) -> Subject:
        url = servers(kind) if kind in SERVERS else f"{kind}:///{tmp_path}/target.db"
        return Subject(kind, url, str(tmp_path), uploader)

    return make


@pytest.fixture
def subject(sql_kind: str, subject_of: Callable[[str], Subject]) -> Iterator[Subject]:
    found = subject_of(sql_kind)
    yield found
    found.close()
