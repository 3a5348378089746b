"""What a storm does to PostgreSQL and MariaDB: sessions that are ended, and a server that crashes and comes back."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from typing import Any

from anchovies.testing.mariadb import Server
from anchovies.testing.postgres import Cluster

#: Whoever is in the middle of something first: a session that waits for its next order loses nothing.
VICTIM = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'anchovies' AND pid <> pg_backend_pid()
ORDER BY (state = 'idle'), random() LIMIT 1
"""


PROCESS = """
SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND user = 'root'
ORDER BY command = 'Sleep', rand() LIMIT 1
"""


class PostgresTrouble:
    """Ends a backend of ours every `every` seconds or so; `pg_ctl restart -m immediate` every `restart` seconds."""

    def __init__(self, cluster: Cluster, seed: int, every: float = 0.15, restart: float = 9.0) -> None:
        self._cluster, self._random = cluster, random.Random(seed)  # noqa: S311
        self._every, self._restart = every, restart
        self._next = time.monotonic() + every
        self._crash = time.monotonic() + restart
        self._running: subprocess.Popen[bytes] | None = None
        self._session: Any = None

    def tick(self) -> Counter[str]:
        now = time.monotonic()
        if self._running is not None:
            return self._back()
        if now >= self._crash:
            self._hang_up()
            self._running = self._cluster.restart()
            return Counter({"immediate restarts": 1})
        if now < self._next:
            return Counter()
        self._next = now + self._random.uniform(0.2, 1.8) * self._every
        return Counter({"backend kills": self._end_one()})

    def _back(self) -> Counter[str]:
        """The server is on its way."""
        assert self._running is not None
        if (code := self._running.poll()) is not None:
            assert code == 0, "the server did not come back"
            self._running, self._crash = None, time.monotonic() + self._random.uniform(0.5, 1.5) * self._restart
        return Counter()

    def _end_one(self) -> int:
        import psycopg

        try:
            if self._session is None:
                self._session = psycopg.connect(self._cluster.url, autocommit=True, connect_timeout=5)
            return sum(bool(row[0]) for row in self._session.execute(VICTIM).fetchall())
        except psycopg.OperationalError:
            self._hang_up()
            return 0

    def _hang_up(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def over(self) -> None:
        self._hang_up()
        if self._running is not None:
            assert self._running.wait(60) == 0, "the server did not come back"
            self._running = None


class MariaTrouble:
    """The same to MariaDB: KILL, and kill -9 of the server."""

    def __init__(self, server: Server, seed: int, every: float = 0.15, restart: float = 9.0) -> None:
        self._server, self._random = server, random.Random(seed)  # noqa: S311
        self._every, self._restart = every, restart
        self._next = time.monotonic() + every
        self._crash = time.monotonic() + restart
        self._down = False

    def tick(self) -> Counter[str]:
        now = time.monotonic()
        if self._down:
            self._down = not self._server.is_ready()
            self._crash = now + self._random.uniform(0.5, 1.5) * self._restart
            return Counter()
        if now >= self._crash:
            self._server.restart()
            self._down = True
            return Counter({"immediate restarts": 1})
        if now < self._next:
            return Counter()
        self._next = now + self._random.uniform(0.2, 1.8) * self._every
        return Counter({"backend kills": self._end_one()})

    def _end_one(self) -> int:
        import pymysql

        try:
            with pymysql.connect(host="127.0.0.1", port=self._server.port, user="root") as me, me.cursor() as cursor:
                if not cursor.execute(PROCESS):
                    return 0
                cursor.execute(f"KILL {int(cursor.fetchone()[0])}")
        except pymysql.MySQLError:
            return 0  # it had ended by itself
        return 1

    def over(self) -> None:
        self._server.ready()
        self._down = False
