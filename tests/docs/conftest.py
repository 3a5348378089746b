"""The servers behind the addresses that the documentation's examples use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anchovies.testing import mariadb, postgres
from anchovies.testing.servers import asyncssh_server

SALES = {
    "monday.tsv": ["1 1 100 12.50 2026-11-16", "1 2 100 3.00 2026-11-16", "2 1 101 7.25 2026-11-16"],
    "tuesday.tsv": ["2 1 102 7.75 2026-11-17", "3 1 103 20.00 2026-11-17"],
}
HEADER = "order_num line_item_num trans_num total updated_at"


def _files(folder: Path) -> None:
    (folder / "sales").mkdir()
    for name, rows in SALES.items():
        (folder / "sales" / name).write_text("".join("\t".join(row.split()) + "\n" for row in [HEADER, *rows]))


@pytest.fixture(scope="session")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the pages say of SFTP servers → what is really there."""
    folder = tmp_path_factory.mktemp("sftp")
    _files(folder)
    with asyncssh_server(folder, "user", "password") as server:
        yield {"SHA256:<its fingerprint>": server.fingerprint, "sftp.example.com:22": server.uri_host}


@pytest.fixture(scope="session")
def database() -> Iterator[dict[str, str]]:
    """The same for a PostgreSQL server that listens on TCP, and one of MariaDB."""
    if reason := postgres.missing("tcp"):
        pytest.skip(reason)
    if reason := mariadb.missing():
        pytest.skip(reason)
    with postgres.postgres("tcp") as url, mariadb.mariadb() as port:
        yield {
            "postgresql://postgres@db.example.com:5432/postgres": url,
            "mysql://root@db.example.com:3306/mysql": f"mysql://root@127.0.0.1:{port}/mysql",
        }
