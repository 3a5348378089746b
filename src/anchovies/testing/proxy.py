"""A TCP proxy in front of a local server that breaks connections at an exact byte: `with Proxy(port, rules=[…]) as proxy: …`."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

Do = Literal["reset", "cut", "half-close", "stall", "throttle"]
Side = Literal["up", "down"]
"""`up`: what the client says; `down`: what the server answers."""
BLOCK = 65_536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close() sends RST instead of FIN


@dataclass
class Rule:
    """What is done when byte number `at` (from 0) of one side is about to be passed on; that byte stays behind.

    `reset` and `cut` end the connection on both sides (RST, FIN); `half-close` ends this direction only; `stall` holds it for
    `seconds`; `throttle` passes on `rate` bytes a second from there. With `after`, bytes are counted from the moment the *other*
    side has said that, for the `nth` time in all: the answer to a request, byte by byte; with `own`, from behind these words of
    the side itself: a request from some word of it on. `connection` (from 1): only that one. `times`: how often
    in all; None: always.
    """

    do: Do
    side: Side = "down"
    at: int = 0
    connection: int | None = None
    after: bytes = b""
    nth: int = 1
    own: bool = False
    times: int | None = 1
    seconds: float = 3600.0
    rate: int = 1000
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    @property
    def spent(self) -> bool:
        return self.times is not None and self.fired >= self.times


class _Link:
    """One connection: two sockets, what was passed on, and where the bytes of each rule begin to count."""

    def __init__(self, number: int, client: socket.socket, server: socket.socket) -> None:
        self.number = number
        self.client, self.server = client, server
        self.passed: dict[Side, int] = {"up": 0, "down": 0}
        self.tail: dict[Side, bytes] = {"up": b"", "down": b""}
        self.base: dict[int, int] = {}
        self.done: set[int] = set()
        self.rate: dict[Side, int] = {}
        self.ended = False
        self.flowing = 2

    def ends(self, side: Side) -> tuple[socket.socket, socket.socket]:
        return (self.client, self.server) if side == "up" else (self.server, self.client)

    def end(self, reset: bool = False) -> None:
        self.ended = True
        for s in (self.client, self.server):
            with suppress(OSError):
                if reset:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                # a thread that still reads would hold the socket open; SHUT_RD wakes it and tells the other end nothing
                s.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            s.close()


class Proxy:
    """Listens on 127.0.0.1:`port`, passes on to `target`. `connections` counts them, `fired` names the rules that came true.

    `rules` may change while it runs. `refuse()` closes the door, so that clients meet "connection refused"; `admit()` opens it
    again at the same port; `drop()` resets all that are open.
    """

    def __init__(self, target: int, host: str = "127.0.0.1", rules: Iterable[Rule] = ()) -> None:
        self.target = (host, target)
        self.rules = list(rules)
        self.connections = 0
        self.fired: list[tuple[str, int]] = []
        self.port = 0
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._ended = threading.Event()
        self._door: socket.socket | None = None

    def __enter__(self) -> Proxy:
        self.admit()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self.refuse()
        self.drop()

    def admit(self) -> None:
        """Listen (again)."""
        door = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port, self._door = door.getsockname()[1], door
        threading.Thread(target=self._accept, args=(door,), name="proxy-door", daemon=True).start()

    def refuse(self) -> None:
        """Stop listening."""
        door, self._door = self._door, None
        if door is not None:
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            door.close()

    def drop(self) -> None:
        """Reset every connection."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.end(reset=True)

    def _accept(self, door: socket.socket) -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, 10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self.connections += 1
                link = _Link(self.connections, client, server)
                self._links.append(link)
            if self._ended.is_set():  # it came while the others were dropped
                self.drop()
                return
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for side in ("up", "down"):
                threading.Thread(target=self._pump, args=(link, side), name=f"proxy-{side}", daemon=True).start()

    def _pump(self, link: _Link, side: Side) -> None:
        source, sink = link.ends(side)
        try:
            while data := source.recv(BLOCK):
                self._listen(link, side, data)
                if not self._pass(link, side, data):
                    return
            if not link.ended:
                sink.shutdown(socket.SHUT_WR)
                self._flowed(link)
        except OSError:
            link.end()

    def _flowed(self, link: _Link) -> None:
        """One direction is through; after the second the connection is over."""
        with self._lock:
            link.flowing -= 1
            over = link.flowing == 0
            if over and link in self._links:
                self._links.remove(link)
        if over:
            link.end()

    def _listen(self, link: _Link, side: Side, data: bytes) -> None:
        """Rules that wait for a word of this side begin to count, before the word is passed on."""
        with self._lock:
            for rule in self.rules:
                if (rule.side == side) is rule.own and rule.after and rule.connection in (None, link.number):
                    self._begin(rule, link, side, data)
            link.tail[side] = (link.tail[side] + data)[-256:]

    def _begin(self, rule: Rule, link: _Link, side: Side, data: bytes) -> None:
        before = link.tail[side][1 - len(rule.after) :] if len(rule.after) > 1 else b""
        text, behind = before + data, 0
        for _ in range(text.count(rule.after)):
            behind = text.index(rule.after, behind) + len(rule.after)
            rule.seen += 1
            if rule.seen >= rule.nth:
                link.base.setdefault(id(rule), link.passed[rule.side] + (behind - len(before) if rule.own else 0))

    def _pass(self, link: _Link, side: Side, data: bytes) -> bool:
        """Pass `data` on as far as the rules let it. False: there is nothing more to pass on this way."""
        while data:
            rule, room = self._next(link, side, len(data))
            if not self._send(link, side, data[:room]):
                return False
            data = data[room:]
            if rule is not None and not self._do(rule, link, side):
                return False
        return True

    def _next(self, link: _Link, side: Side, length: int) -> tuple[Rule | None, int]:
        """The rule that comes true within the next bytes, and how many may pass before."""
        found: tuple[Rule | None, int] = (None, length)
        with self._lock:
            for rule in self.rules:
                base = link.base.get(id(rule)) if rule.after else 0
                if rule.side != side or base is None or rule.spent or id(rule) in link.done:
                    continue
                room = base + rule.at - link.passed[side]
                if rule.connection in (None, link.number) and 0 <= room < found[1]:
                    found = (rule, room)
            if found[0] is not None:
                found[0].fired += 1
                link.done.add(id(found[0]))
                self.fired.append((found[0].do, link.number))
        return found

    def _send(self, link: _Link, side: Side, data: bytes) -> bool:
        sink, rate = link.ends(side)[1], link.rate.get(side)
        piece = max(1, rate // 20) if rate else BLOCK
        for i in range(0, len(data), piece):
            part = data[i : i + piece]
            with self._lock:
                link.passed[side] += len(part)
            sink.sendall(part)
            if rate and self._ended.wait(len(part) / rate):
                return False
        return True

    def _do(self, rule: Rule, link: _Link, side: Side) -> bool:
        if rule.do in ("reset", "cut"):
            link.end(reset=rule.do == "reset")
            return False
        if rule.do == "half-close":
            link.ends(side)[1].shutdown(socket.SHUT_WR)
            return False
        if rule.do == "throttle":
            link.rate[side] = rule.rate
            return True
        return self._hold(link, rule.seconds)

    def _hold(self, link: _Link, seconds: float) -> bool:
        """Say nothing for a while. False: the client (or the test) has gone meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._ended.wait(min(0.05, max(0.0, until - time.monotonic()))) or link.client.fileno() < 0:
                return False
        return True
