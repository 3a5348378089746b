"""A MariaDB connection whose `LOAD DATA LOCAL` sends what it was offered, and nothing else.

The protocol lets the *server* say which file of the client it wants to have, at any time. The driver would open it. Here no file
is ever opened: a server that asks gets the rows that were offered to this very statement, or nothing and an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from anchovies.sdk import FatalError

_PACKET = 1 << 20
NAME = "anchovies"


@cache
def connection_class() -> Any:
    """The class, once the driver is loaded."""
    from pymysql.connections import Connection
    from pymysql.protocol import MysqlPacket

    class Feeding(Connection):  # type: ignore[misc]
        _offered: Iterator[memoryview] | None = None
        _asked = False  # a statement is on its way: only the first packet after it can ask for a file, a row may look the same

        def offer(self, rows: Iterator[memoryview]) -> str:
            """The name by which the next statement asks for these bytes."""
            self._offered = rows
            return NAME

        def withdraw(self) -> None:
            self._offered = None

        def warnings(self) -> int:
            """How many the last statement has left."""
            return int(self._result.warning_count) if self._result is not None else 0

        def _execute_command(self, command: Any, sql: Any) -> None:
            self._asked = True
            super()._execute_command(command, sql)

        def _read_packet(self, packet_type: Any = MysqlPacket) -> Any:
            asked, self._asked = self._asked, False
            packet = super()._read_packet(packet_type)
            if not asked or not packet.is_load_local_packet():
                return packet
            offered, self._offered = self._offered, None
            if offered is None or packet.get_all_data()[1:] != NAME.encode():
                self._force_close()
                raise FatalError("the database asked for a file of this machine, which nobody has offered; it got nothing")
            try:
                for block in offered:
                    for at in range(0, len(block), _PACKET):
                        self.write_packet(bytes(block[at : at + _PACKET]))
            except BaseException:
                self._force_close()  # or the server would keep what has come so far, as if it were all
                raise
            self.write_packet(b"")
            return super()._read_packet(packet_type)

    return Feeding
