"""What a service says of itself over HTTP: right figures in the format of Prometheus, nothing secret, no threads that pile up."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anchovies.core.config import Config
from anchovies.core.errors import ConfigError
from anchovies.core.settings import resolve
from anchovies.engine import health
from anchovies.engine.board import Board
from anchovies.engine.events import Event
from anchovies.engine.health import HealthServer, Said
from anchovies.engine.limits import stopped_by
from anchovies.engine.metrics import Who, exposition
from anchovies.engine.session import SessionRun
from anchovies.engine.watch import Watch
from anchovies.sdk import Downloader, Uploader, batch, context, sink, source
from anchovies.store.keys import Home
from anchovies.store.lease import LeaseInfo
from anchovies.store.lease import read as read_lease


class Hands:
    """A clock that is set by hand."""

    at = 1_000.0

    def now_us(self) -> int:
        return round(self.at * 1_000_000)

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def board(clock: Hands) -> Board:
    return Board(clock)


WHO = Who("prod", "sales", "shop:Orders")


@pytest.fixture
def serve(board: Board) -> Iterator[Callable[..., HealthServer]]:
    made: list[HealthServer] = []

    def start(stopping: bool = False, masked: Any = lambda value: value) -> HealthServer:
        said = Said(WHO, "s-1", "/home", board.now, lambda: stopping, masked)
        made.append(HealthServer(None, 0, said))
        return made[-1]

    yield start
    for server in made:
        server.close()


def get(server: HealthServer, path: str, method: str = "GET") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.headers["Content-Type"], e.read().decode()


SAMPLE = re.compile(
    r'(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>(?:[a-zA-Z_]\w*="(?:\\[\\n"]|[^\\"\n])*",?)*)\})? (?P<value>-?[0-9.e+-]+)'
)


def parsed(text: str) -> dict[str, float]:
    """Samples by name and labels. The format is held to its words: HELP and TYPE once before each family, samples together."""
    assert text.endswith("\n")
    found: dict[str, float] = {}
    families: dict[str, str] = {}
    current = helped = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
            assert helped not in families
        elif line.startswith("# TYPE "):
            _, _, current, kind = line.split(" ")
            assert current == helped
            assert kind in ("counter", "gauge")
            assert (kind == "counter") == current.endswith("_total")
            families[current] = kind
        else:
            m = SAMPLE.fullmatch(line)
            assert m is not None, line
            assert m["name"] == current
            key = f"{m['name']}{{{m['labels'] or ''}}}"
            assert key not in found
            found[key] = float(m["value"])
    return found


MINE = 'user="prod",anchovy="sales"'


def test_figures(board: Board, clock: Hands) -> None:
    board.hear(Event("batch_started", None, {"batch": 1}))
    for tbl, rows in (("t", 3), ("t", 4), ("u", 1)):
        board.hear(Event("committed", tbl, {"rows": rows, "bytes": 10 * rows, "slot": 1}))
    board.hear(Event("progress", "t", {"rows": 100, "bytes": 100}))
    clock.at += 2.5
    board.ended(None, 7, {})
    board.hear(Event("batch_started", None, {"batch": 2}))
    board.hear(Event("task_ended", "u", {"status": "ERR", "rejected": 2}))
    board.hear(Event("reloaded", None, {}))
    board.hear(Event("woken", None, {}))
    clock.at += 1
    board.ended("u failed", 8, {})
    found = parsed(exposition(board.now(), WHO))
    assert {k.removesuffix(f"{{{MINE}}}"): v for k, v in found.items() if k.endswith(f"{{{MINE}}}")} == {
        "anchovy_start_time_seconds": 1000,
        "anchovy_batches_total": 2,
        "anchovy_batch_failures_total": 1,
        "anchovy_batch_failures_in_a_row": 1,
        "anchovy_batch_running": 0,
        "anchovy_batch_duration_seconds": 1,
        "anchovy_last_batch_timestamp_seconds": 1003.5,
        "anchovy_last_success_timestamp_seconds": 1002.5,
        "anchovy_wakes_total": 1,
        "anchovy_reloads_total": 1,
        "anchovy_slot": 8,
    }
    names = ("rows", "bytes", "commits", "failures", "rejected")
    for tbl, values in {"t": (7, 70, 2, 0, 0), "u": (1, 10, 1, 1, 2)}.items():
        for name, value in zip(names, values, strict=True):
            assert found[f'anchovy_table_{name}_total{{{MINE},tbl="{tbl}"}}'] == value
    assert found["process_open_fds{}"] > 2
    assert found["process_resident_memory_bytes{}"] > 1_000_000
    assert found["process_threads{}"] >= 1


def test_what_is_not_known_yet_is_left_out(board: Board) -> None:
    found = parsed(exposition(board.now(), WHO))
    assert not [k for k in found if "last_" in k or "lag" in k or "table" in k or "duration" in k]


def test_labels_are_escaped(board: Board) -> None:
    name = 'a "b"\\c\nd'
    board.hear(Event("committed", name, {"rows": 1, "bytes": 1}))
    found = parsed(exposition(board.now(), WHO))
    assert found[f'anchovy_table_rows_total{{{MINE},tbl="a \\"b\\"\\\\c\\nd"}}'] == 1


def test_lag(board: Board, clock: Hands) -> None:
    seen = []
    for lag in (0, 3, 5, 0):
        clock.at += 10
        board.ended(None, 1, {"prod/up": lag})
        clock.at += 1
        found = parsed(exposition(board.now(), WHO))
        seen.append(tuple(found[f'anchovy_lag_{n}{{{MINE},upstream="prod/up"}}'] for n in ("commits", "seconds")))
    assert seen == [(0, 0), (3, 12), (5, 23), (0, 0)]


def test_over_http(board: Board, serve: Any) -> None:
    server = serve()
    assert get(server, "/healthz") == (200, "application/json", '{\n  "status": "ok",\n  "failures_in_a_row": 0\n}\n')
    code, kind, text = get(server, "/metrics?x=1")
    assert (code, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert parsed(text)[f'anchovy_info{{{MINE},operator="shop:Orders",version="{health.__version__}"}}'] == 1
    code, kind, text = get(server, "/status")
    status = json.loads(text)
    assert (code, status["anchovy_id"], status["phase"], status["batches"]) == (200, "sales", "waiting", 0)
    assert get(server, "/nothing")[0] == 404
    assert get(server, "/status", "HEAD") == (200, "application/json", "")
    for method in ("POST", "PUT", "DELETE"):
        assert get(server, "/status", method)[0] == 501


def test_a_service_that_stops_is_not_ready(serve: Any) -> None:
    server = serve(stopping=True)
    assert get(server, "/healthz")[0] == 503
    assert json.loads(get(server, "/status")[2])["phase"] == "stopping"


def test_what_is_shown_is_masked(board: Board, serve: Any) -> None:
    server = serve(masked=lambda said: {**said, "err_msg": said["err_msg"].replace("hunter2", "***")})
    board.ended("wrong password hunter2", 0, {})
    assert json.loads(get(server, "/status")[2])["err_msg"] == "wrong password ***"
    assert "hunter2" not in get(server, "/metrics")[2] + get(server, "/healthz")[2]


def test_slow_clients_take_no_more_than_eight_threads_and_not_for_long(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE", 1.0)
    server = serve()
    before = threading.active_count()
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(30)]
    for client in slow:
        client.settimeout(20)
        client.sendall(b"GET /healthz HT")
    time.sleep(0.3)
    assert threading.active_count() <= before + health.MOST_CLIENTS
    end = time.monotonic() + 30
    while slow and time.monotonic() < end:  # a byte now and then: none of them is ever silent for long
        slow = [client for client in slow if _dribbles(client)]
        time.sleep(0.1)
    assert not slow, "they would have stayed for ever"
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() == before
    assert get(server, "/healthz")[0] == 200


def _dribbles(client: socket.socket) -> bool:
    """Whether the server still listens to it."""
    try:
        client.sendall(b"x")
    except OSError:
        client.close()
        return False
    return True


def test_it_is_open_on_this_machine_only(serve: Any) -> None:
    assert serve()._server.server_address[0] == "127.0.0.1"


def _service(place: Any, operator: type, listener: Any = lambda event: None, env: Any = None, **more: Any) -> SessionRun:
    given = {"id": "a", "user": "tester", "datastore": place.url, "service": True, "interval": 0, **more}
    return SessionRun(operator, resolve(given, env or {}, Config()), Config(), env or {}, listener, place.store)


@pytest.mark.parametrize(("host", "port"), [(None, "taken"), ("999.1.1.1", 1), ("127.0.0.1", 70000)])
def test_where_it_cannot_listen_nothing_runs(place: Any, host: str | None, port: Any) -> None:
    class Never(Downloader):
        @source("t")
        def t(self) -> Any:
            raise AssertionError

    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1] if port == "taken" else port
        run = _service(place, Never, host=host, port=number)
        result = Watch(run).run(signals=False)
    assert (result.exit_code, result.err_type, result.batches) == (2, "ConfigError", 0)
    assert f":{number}" in str(result.err_msg)
    assert "--port" in str(result.hint)
    assert read_lease(place.store, Home("tester", "a")).free


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


def test_a_service_with_a_port(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked in the middle of its third batch, and gone with it; its heartbeat says the same."""
    monkeypatch.setattr("anchovies.store.lease.BEAT", 0.0)
    port, seen, env = _free_port(), {}, {"ACHVY_CNXN__API__PASSWORD": "hunter2hunter2"}

    class Three(Downloader):
        @source("t")
        def t(self) -> Any:
            if batch().id == 2:
                raise RuntimeError("no hunter2hunter2 here")
            if batch().id == 3:
                for path in ("healthz", "metrics", "status"):
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                        seen[path] = answer.read().decode()
                seen["lease"] = _beat(place)
                run.stop.set(stopped_by(15, "SIGTERM"))
            yield {"n": batch().id}
            context().checkpoint("n").set(batch().id)

    run = _service(place, Three, port=port, env=env)
    run.ids.jitter = lambda: 0.0  # type: ignore[method-assign]
    result = Watch(run).run(signals=False)
    assert (result.exit_code, result.batches) == (0, 3)
    figures = parsed(seen["metrics"])
    mine = 'user="tester",anchovy="a"'
    assert figures[f"anchovy_batches_total{{{mine}}}"] == 2
    assert figures[f"anchovy_batch_failures_in_a_row{{{mine}}}"] == 1
    assert figures[f'anchovy_table_rows_total{{{mine},tbl="t"}}'] == 1
    assert figures[f'anchovy_table_failures_total{{{mine},tbl="t"}}'] == 1
    status = json.loads(seen["status"])
    assert (status["phase"], status["batch"], status["failed_batches"]) == ("running", 3, 1)
    assert "no *" in status["err_msg"]
    doing = seen["lease"].doing
    assert (doing.batches, doing.streak, doing.running) == (2, 1, True)
    assert "no *" in doing.error
    assert not [text for text in seen.values() if "hunter2" in str(text)]
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
    assert read_lease(place.store, Home("tester", "a")).doing is None


def _beat(place: Any) -> LeaseInfo:
    end = time.monotonic() + 20
    while (found := read_lease(place.store, Home("tester", "a"))).doing is None or found.doing.batches < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def test_an_uploader_says_how_far_it_is_behind(place: Any) -> None:
    class Rows(Downloader):
        @source("t")
        def t(self) -> Any:
            for n in range(3):
                yield [{"n": n}]
                context().checkpoint("n").set(n)

    class Up(Uploader):
        @sink()
        def take(self, stream: Any) -> None:
            list(stream)
            if batch().id == 1:
                raise RuntimeError("away")

    place.run(Rows, commit_bytes=1)
    lags: list[int] = []

    def listen(event: Event) -> None:
        if event.kind == "batch_started" and event.data["batch"] > 1:
            lags.append(run.board.now().lags["tester/a"].commits)
            if event.data["batch"] == 3:
                run.stop.set(stopped_by(15, "SIGTERM"))

    run = _service(place, Up, listen, id="up", upstream=["a"])
    run.ids.jitter = lambda: 0.0  # type: ignore[method-assign]
    run.work()
    assert lags[0] >= 1
    assert lags[1] == 0


def test_a_host_without_a_port_is_doubtful() -> None:
    found = resolve({"service": True, "host": "0.0.0.0", "id": "a"}, {}, Config())
    assert found.warnings == ("a host is given and no port, so nothing listens: add --port, or ACHVY_PORT",)
    assert not resolve({"service": True, "host": "0.0.0.0", "id": "a"}, {"ACHVY_PORT": "80"}, Config()).warnings


def test_a_number_that_is_no_port() -> None:
    with pytest.raises(ConfigError, match="ACHVY_PORT"):
        resolve({"id": "a"}, {"ACHVY_PORT": "http"}, Config())
