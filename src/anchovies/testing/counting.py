"""A datastore that counts what it is asked, each verb as one request of a bucket; and the wire of a real bucket, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

from anchovies.store.base import Entry, OsLock, Store
from anchovies.testing.buckets import Bucket
from anchovies.testing.proxy import Proxy, Side, _Link

READS, WRITES = ("get", "list"), ("create", "put", "delete")


class _Asked:
    """What was asked since `clear()`: `asked` has (verb, key) of all requests, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    @property
    def requests(self) -> int:
        return len(self.asked)

    @property
    def writes(self) -> int:
        return sum(verb in WRITES for verb, _ in self.asked)

    def clear(self) -> None:
        self.asked = []

    def by_kind(self) -> dict[str, int]:
        """How often each (`get lease.json`, `list snap/`, `put data`): the verb and what the key is of, without the anchovy."""
        return dict(Counter(f"{verb} {_what(key)}" for verb, key in self.asked))


class CountingStore(_Asked, Store):
    """`inner`, and what it was asked.

    It has no locks and no local files, as a bucket has none; `settle` costs a bucket nothing and is not counted.
    """

    def __init__(self, inner: Store) -> None:
        super().__init__()
        self.inner = inner
        self.url = inner.url

    def create(self, key: str, data: bytes) -> None:
        self.asked.append(("create", key))
        self.inner.create(key, data)

    def get(self, key: str) -> bytes:
        self.asked.append(("get", key))
        return self.inner.get(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        self.asked.append(("list", prefix))
        return self.inner.list(prefix, start_after)

    def put(self, key: str, data: bytes) -> None:
        self.asked.append(("put", key))
        self.inner.put(key, data)

    def delete(self, key: str) -> None:
        self.asked.append(("delete", key))
        self.inner.delete(key)

    def try_lock(self, key: str) -> OsLock | None:
        return None


class CountingProxy(_Asked, Proxy):
    """The wire to `bucket`, and every request that went through it, whoever sent it: `bucket.through(proxy.endpoint)`.

    It reads the requests of S3, Azure Blob and Google's XML interface, whose verbs are the same. But for one: Azure's client
    deletes by a POST whose body says what; that is `("delete", "")`.
    """

    def __init__(self, bucket: Bucket) -> None:
        _Asked.__init__(self)
        Proxy.__init__(self, bucket.port)
        place = bucket.url.partition("://")[2]
        self._root = "/".join(["", *bucket.endpoint.split("/")[3:], place]) + "/"
        self._prefix = place.partition("/")[2]
        self._heard: dict[int, bytes] = {}
        self._body: dict[int, int] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _listen(self, link: _Link, side: Side, data: bytes) -> None:
        super()._listen(link, side, data)
        if side == "up":
            with self._lock:
                self._follow(link.number, data)

    def _follow(self, number: int, data: bytes) -> None:
        """Heads of requests, one behind the other, each with a body of the length that it says."""
        text = self._heard.get(number, b"") + data
        body = self._body.get(number, 0)
        while text:
            body, text = max(0, body - len(text)), text[body:]
            head, end, rest = text.partition(b"\r\n\r\n")
            if not end:
                break
            body, text = self._ask(head.decode("latin-1")), rest
        self._heard[number], self._body[number] = text, body

    def _ask(self, head: str) -> int:
        """Count one request; how long its body is."""
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        url = urlsplit(target)
        path = unquote(url.path)
        key, verb = path.removeprefix(self._root), {"POST": "delete"}.get(method, method.lower())
        if key == path:  # of the bucket, not of an object
            prefix = parse_qs(url.query).get("prefix", [""])[0]
            key, verb = prefix.removeprefix(self._prefix).lstrip("/"), "list" if verb == "get" else verb
        elif headers.get("if-none-match") == "*" or headers.get("x-goog-if-generation-match") == "0":
            verb = "create"
        self.asked.append((verb, key))
        return int(headers.get("content-length", 0))


def _what(key: str) -> str:
    """`u/a/$log/log/0000000000/0000000000000007.json` → `log/`; `u/$heads/a` → `$heads/`; `u/a/$log/lease.json` as its name."""
    parts = key.split("/")[1:]
    inside = parts if parts and parts[0].startswith("$") else parts[1:]
    inside = inside[1:] if inside[:1] == ["$log"] else inside
    return inside[0] if len(inside) == 1 else f"{inside[0]}/" if inside else key
