"""A server may ask for any file of a client at any time. Ours never opens one."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from socket import create_server, socket
from typing import Any

import pymysql
import pytest

from anchovies.plugins.sql.databases.maria_wire import NAME, connection_class
from anchovies.sdk import FatalError

GREETING = (
    b"\x0a5.5.5-10.11.6-MariaDB\x00" + struct.pack("<I", 1) + b"12345678\x00" + struct.pack("<H", 0xF7FE) + b"\x21"
    + struct.pack("<H", 2) + struct.pack("<H", 0x81BF) + b"\x15" + b"\x00" * 10 + b"123456789012\x00mysql_native_password\x00"
)  # fmt: skip
OK = b"\x00\x00\x00\x02\x00\x00\x00"


def send(to: socket, number: int, data: bytes) -> None:
    to.sendall(struct.pack("<I", len(data))[:3] + bytes([number]) + data)


def read(of: socket) -> bytes:
    head = b""
    while len(head) < 4:
        if not (more := of.recv(4 - len(head))):
            return b""
        head += more
    size, data = int.from_bytes(head[:3], "little"), b""
    while len(data) < size:
        data += of.recv(size - len(data))
    return data


@contextmanager
def rogue(wants: bytes, got: list[bytes]) -> Iterator[int]:
    """A server that answers the first statement that is not SET by asking for a file, and keeps what it gets."""
    with create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                send(peer, 0, GREETING)
                read(peer)
                send(peer, 2, OK)
                while read(peer)[1:4].upper() == b"SET":
                    send(peer, 1, OK)
                send(peer, 1, b"\xfb" + wants)
                while data := read(peer):
                    got.append(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(10)


@pytest.mark.parametrize("offered", [False, True])
def test_a_server_that_asks_for_a_file_gets_none(tmp_path: Path, offered: bool) -> None:
    (tmp_path / "secret").write_bytes(b"hunter2")
    got: list[bytes] = []
    with rogue(str(tmp_path / "secret").encode(), got) as port:
        connection = connection_class()(host="127.0.0.1", port=port, user="u", local_infile=True)
        if offered:
            connection.offer(iter([memoryview(b"rows")]))
        with pytest.raises(FatalError, match="nobody has offered"):
            connection.query("SELECT 1")
    assert got == []


def suppressed(connection: Any) -> None:
    with suppress(pymysql.MySQLError, OSError):
        connection.query("LOAD")


def test_a_server_gets_the_rows_that_were_offered() -> None:
    got: list[bytes] = []
    with rogue(NAME.encode(), got) as port, closing(connection_class()(host="127.0.0.1", port=port, user="u")) as connection:
        connection.offer(iter([memoryview(b"rows"), memoryview(b"more")]))
        done = threading.Thread(target=lambda: suppressed(connection))
        done.start()
        while len(got) < 2:
            done.join(0.01)
        connection._force_close()
        done.join(10)
    assert got[:2] == [b"rows", b"more"]
