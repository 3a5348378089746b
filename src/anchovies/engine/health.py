"""`/healthz`, `/metrics` and `/status` of a service that was given a port. Only then is this file imported.

Anybody who can reach the port can read them, so they say nothing that a secret could be in, and the port is open on this machine
only unless `--host` says otherwise. Slow or many clients take at most eight threads, each for ten seconds.
"""

from __future__ import annotations

import errno
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from anchovies import __version__
from anchovies.core.clock import iso
from anchovies.core.errors import ConfigError
from anchovies.engine.board import Now
from anchovies.engine.metrics import CONTENT_TYPE, Who, exposition

HERE = "127.0.0.1"
MOST_CLIENTS = 8
PATIENCE = 10.0  # seconds that one client may take altogether
LOOK = 0.25


class Said(msgspec.Struct, frozen=True):
    """What the session lets out."""

    who: Who
    session: str
    datastore: str
    now: Callable[[], Now]
    stopping: Callable[[], bool]
    masked: Callable[[Any], Any]

    def healthz(self) -> tuple[int, str, bytes]:
        """200 while the service runs, whether its batches go well or not; 503 when it is stopping."""
        n = self.now()
        said = {"status": "stopping" if self.stopping() else "ok", "failures_in_a_row": n.streak}
        return (503 if self.stopping() else 200), "application/json", _json(said)

    def metrics(self) -> tuple[int, str, bytes]:
        return 200, CONTENT_TYPE, exposition(self.now(), self.who).encode()

    def status(self) -> tuple[int, str, bytes]:
        return 200, "application/json", _json(self.masked(self._status()))

    def _status(self) -> dict[str, Any]:
        n = self.now()
        phase = "stopping" if self.stopping() else "running" if n.running is not None else "waiting"
        return {
            "anchovy_id": self.who.id,
            "anchovy_user": self.who.user,
            "operator": self.who.operator,
            "version": __version__,
            "session_id": self.session,
            "datastore": self.datastore,
            "phase": phase,
            "batch": n.running,
            "batches": n.batches,
            "failed_batches": n.failed,
            "failures_in_a_row": n.streak,
            "started_at": _when(n.started),
            "batch_began_at": _when(n.began),
            "batch_ended_at": _when(n.ended),
            "last_success_at": _when(n.succeeded),
            "batch_seconds": n.duration,
            "err_msg": n.error,
            "slot": n.slot,
            "wakes": n.wakes,
            "reloads": n.reloads,
            "tables": {name: msgspec.structs.asdict(t) for name, t in n.tables.items()},
            "upstreams": {u: {"lag_commits": lag.commits, "lag_seconds": n.behind(u)} for u, lag in n.lags.items()},
        }


def _when(seconds: float | None) -> str | None:
    return None if seconds is None else iso(round(seconds * 1_000_000))


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


class HealthServer:
    """Listens from when it is made until `close()`. Raises ConfigError where the port cannot be had."""

    def __init__(self, host: str | None, port: int, said: Said) -> None:
        host = host or HERE
        try:
            self._server = _Server(host, port, said)
        except (OSError, OverflowError) as e:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {_why(e)}", hint="give another --port (ACHVY_PORT) or --host (ACHVY_HOST)"
            ) from e
        self._thread = threading.Thread(target=self._server.serve_forever, args=(LOOK,), name="health", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _why(e: Exception) -> str:
    if isinstance(e, OverflowError):
        return "a port is a number up to 65535"
    return "the port is in use" if getattr(e, "errno", None) == errno.EADDRINUSE else str(getattr(e, "strerror", None) or e)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that hangs must not hold up the end of a service
    request_queue_size = 16
    allow_reuse_port = False  # or a second service would share the port unnoticed

    def __init__(self, host: str, port: int, said: Said) -> None:
        self.said = said
        self._since: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without the look at the host's name that the base class takes: it may ask a name server, for seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "anchovies", self.server_address[1]

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whoever comes when eight are being served is sent away."""
        with self._lock:
            if len(self._since) >= MOST_CLIENTS:
                return False
            self._since[request] = time.monotonic()
            return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Now and then: the line of who takes too long is cut."""
        now = time.monotonic()
        with self._lock:
            slow = [request for request, since in self._since.items() if now - since > PATIENCE]
        for request in slow:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE
    server_version, sys_version = "anchovies", ""

    def do_GET(self) -> None:
        said = self.server.said
        answer = {"/healthz": said.healthz, "/metrics": said.metrics, "/status": said.status}.get(self.path.partition("?")[0])
        code, kind, body = answer() if answer else (404, "text/plain", b"/healthz, /metrics, /status\n")
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said of requests: a scraper comes every few seconds."""
