"""A folder served by both SFTP servers, and a downloader for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from anchovies.plugins.files import collect
from anchovies.plugins.sftp import CsvDownloader, SftpConnection
from anchovies.sdk import Tbl
from anchovies.testing.context import FakeContext
from anchovies.testing.servers import SftpServer, asyncssh_server, openssh_server, why_no_openssh


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "PAUSE", 0.01)


@pytest.fixture(scope="session")
def client_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key file; its public half lies beside it, `.pub`."""
    path = tmp_path_factory.mktemp("key") / "id"
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(path))
    key.write_public_key(f"{path}.pub")
    path.chmod(0o600)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that is served: two small tables."""
    root = tmp_path / "root"
    (root / "sales").mkdir(parents=True)
    (root / "sales" / "a.tsv").write_text("x\ty\n1\tö\n")
    (root / "sales" / "b.tsv").write_text('x\ty\n2\t"a\nb"\n')
    for folder in (root, *root.parents):
        if folder.owner() == root.owner() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
        if folder.name.startswith("pytest-of"):
            break
    return root


@pytest.fixture(params=["asyncssh", pytest.param("openssh", marks=pytest.mark.server)])
def server(request: pytest.FixtureRequest, root: Path, client_key: Path) -> Iterator[SftpServer]:
    """Both servers, by key."""
    line = Path(f"{client_key}.pub").read_text()
    if request.param == "openssh" and (why := why_no_openssh()):
        pytest.skip(why)
    start = asyncssh_server if request.param == "asyncssh" else openssh_server
    with start(root, authorized_key=line) as running:
        yield running


@contextmanager
def downloader(**attributes: Any) -> Iterator[CsvDownloader]:
    cnxn = SftpConnection(**attributes)
    operator = CsvDownloader()
    operator.connections = {"default": cnxn}
    try:
        cnxn.ensure_open()
        yield operator
    finally:
        cnxn.close()


class Reader:
    """Reads tables of one server; remembers, between reads, what was read."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.ctx = FakeContext()
        self.operator: CsvDownloader | None = None

    def connect(self, **attributes: Any) -> Reader:
        self.operator = self._stack.enter_context(downloader(**attributes))
        return self

    def read(self, path: str = "/sales/*.tsv", **properties: Any) -> list[dict[str, Any]]:
        assert self.operator is not None
        return self.ctx.run(self.operator.files(Tbl("sales", properties={"path": path, **properties})))


@pytest.fixture
def reader() -> Iterator[Reader]:
    with ExitStack() as stack:
        yield Reader(stack)
