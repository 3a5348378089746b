"""The servers behind the addresses that the documentation's examples use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import asyncssh
import pytest

SALES = {
    "monday.tsv": [
        ("1", "1", "100", "12.50", "2026-11-16"),
        ("1", "2", "100", "3.00", "2026-11-16"),
        ("2", "1", "101", "7.25", "2026-11-16"),
    ],
    "tuesday.tsv": [("2", "1", "102", "7.75", "2026-11-17"), ("3", "1", "103", "20.00", "2026-11-17")],
}
HEADER = ("order_num", "line_item_num", "trans_num", "total", "updated_at")


class PasswordServer(asyncssh.SSHServer):
    """Lets in `user` with `password`, as the examples do."""

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("user", "password")


def _files(folder: Path) -> None:
    (folder / "sales").mkdir()
    for name, rows in SALES.items():
        (folder / "sales" / name).write_text("".join("\t".join(row) + "\n" for row in [HEADER, *rows]))


async def _serve(folder: Path, key: asyncssh.SSHKey, told: Future[tuple[int, asyncio.Event]]) -> None:
    def factory(channel: asyncssh.SSHServerChannel) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=str(folder))

    stop = asyncio.Event()
    async with asyncssh.listen(
        "127.0.0.1", 0, server_factory=PasswordServer, server_host_keys=[key], sftp_factory=factory
    ) as server:
        told.set_result((server.get_port(), stop))
        await stop.wait()


@pytest.fixture(scope="session")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the pages say → what is really there."""
    folder = tmp_path_factory.mktemp("sftp")
    _files(folder)
    key = asyncssh.generate_private_key("ssh-ed25519")
    loop, told = asyncio.new_event_loop(), Future[tuple[int, asyncio.Event]]()
    thread = threading.Thread(target=loop.run_until_complete, args=[_serve(folder, key, told)])
    thread.start()
    port, stop = told.result(30)
    yield {"SHA256:sftp.example.com": key.get_fingerprint(), "sftp.example.com:22": f"127.0.0.1:{port}"}
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()
