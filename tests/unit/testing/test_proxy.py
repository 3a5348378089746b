"""The proxy: each rule at its byte, on its side, for its connection, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from anchovies.testing.proxy import Proxy, Rule

TEXT = bytes(range(256)) * 400
WORD = b"answer!"


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says back each line that it hears whole, until it hears the end."""
    door = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client, client.makefile("rb") as heard:
            try:
                for line in heard:
                    client.sendall(line)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                client = door.accept()[0]
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield door.getsockname()[1]
    door.shutdown(socket.SHUT_RDWR)
    door.close()


def talk(proxy: Proxy, text: bytes = TEXT) -> tuple[bytes, str]:
    """What comes back, and how it ended: `end`, or the name of the error."""
    got = b""
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as s:

        def say() -> None:
            try:
                s.sendall(text)
                s.shutdown(socket.SHUT_WR)
            except OSError:
                return

        speaker = threading.Thread(target=say)
        speaker.start()
        try:
            while data := s.recv(65_536):
                got += data
            how = "end"
        except OSError as e:
            how = type(e).__name__
        speaker.join()
    return got, how


def test_without_rules_it_is_not_there(echo: int) -> None:
    with Proxy(echo) as proxy:
        assert [talk(proxy), talk(proxy, b"x")] == [(TEXT, "end"), (b"x", "end")]
        assert (proxy.connections, proxy.fired) == (2, [])


@pytest.mark.parametrize("at", [0, 1, 255, 70_000])
@pytest.mark.parametrize(("do", "how"), [("reset", "ConnectionResetError"), ("cut", "end"), ("half-close", "end")])
def test_the_answer_ends_at_a_byte(echo: int, do: str, how: str, at: int) -> None:
    with Proxy(echo, rules=[Rule(do, "down", at)]) as proxy:  # type: ignore[arg-type]
        got, ended = talk(proxy)
        # a reset takes with it what its reader has not read yet
        assert got == TEXT[: len(got)] and (len(got) <= at if do == "reset" else len(got) == at)
        assert ended in (how, "ConnectionResetError") if do == "cut" else ended == how
        assert proxy.fired == [(do, 1)]
        assert talk(proxy) == (TEXT, "end"), "a rule counts once, if nothing else is said"


def test_what_the_server_hears_ends_at_a_byte(echo: int) -> None:
    with Proxy(echo, rules=[Rule("half-close", "up", 1000, times=None)]) as proxy:
        assert [talk(proxy), talk(proxy)] == [(TEXT[:1000], "end")] * 2


def test_only_one_connection(echo: int) -> None:
    with Proxy(echo, rules=[Rule("half-close", at=3, connection=2, times=None)]) as proxy:
        assert [len(talk(proxy)[0]) for _ in range(3)] == [len(TEXT), 3, len(TEXT)]


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_bytes_count_from_what_the_other_side_said(echo: int, piece: int) -> None:
    """The word may come in pieces; the second time it is said counts."""
    with Proxy(echo, rules=[Rule("half-close", "down", 4, after=WORD, nth=2)]) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), 5) as s:
            s.sendall(b"one " + WORD + b"\n")
            assert s.recv(100) == b"one " + WORD + b"\n"
            text = b"two " + WORD + b" more\n"
            for i in range(0, len(text), piece):
                s.sendall(text[i : i + piece])
            assert (s.recv(100), s.recv(100)) == (text[:4], b"")
        assert proxy.fired == [("half-close", 1)]


def test_a_stall_is_over_some_time(echo: int) -> None:
    with Proxy(echo, rules=[Rule("stall", "down", 10, seconds=0.3)]) as proxy:
        began = time.monotonic()
        assert talk(proxy) == (TEXT, "end")
        assert time.monotonic() - began >= 0.3
    with Proxy(echo, rules=[Rule("stall", "up", 0)]) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 5) as s:
        s.sendall(b"x\n")
        s.settimeout(0.2)
        with pytest.raises(TimeoutError):
            s.recv(1)


def test_a_throttle_slows(echo: int) -> None:
    with Proxy(echo, rules=[Rule("throttle", "down", 0, rate=20_000)]) as proxy:
        began = time.monotonic()
        assert talk(proxy, TEXT[:6000]) == (TEXT[:6000], "end")
        assert time.monotonic() - began >= 0.25


def test_nobody_listens_for_a_while(echo: int) -> None:
    with Proxy(echo) as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            talk(proxy)
        proxy.admit()
        assert talk(proxy) == (TEXT, "end")


def test_all_are_dropped(echo: int) -> None:
    with Proxy(echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 5) as s:
        s.sendall(b"x\n")
        assert s.recv(2) == b"x\n"
        proxy.drop()
        with pytest.raises(ConnectionResetError):
            s.recv(1)


def test_the_bytes_of_a_request_count_from_a_word_of_its_own(echo: int) -> None:
    with Proxy(echo, rules=[Rule("cut", "up", 3, after=WORD, nth=2, own=True)]) as proxy:
        got, ended = talk(proxy, b"one answer!\ntwo answer!\nand no more\n" * 2)
        # the second word was passed on, and two bytes of the next; how much was answered by then is a race
        assert b"one answer!\ntwo answer!\n".startswith(got) and (ended == "end" or not got)
        assert proxy.fired == [("cut", 1)]
        assert talk(proxy, b"answer! answer!\n") == (b"answer! answer!\n", "end")
