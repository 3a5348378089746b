"""Google Cloud Storage as far as a datastore needs it: the XML API with preconditions on generations, in memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from anchovies.core.clock import SystemClock

_PAGE = 1000


@dataclass(frozen=True)
class _Object:
    data: bytes
    generation: int
    at: datetime

    @property
    def headers(self) -> dict[str, str]:
        last = format_datetime(self.at, usegmt=True)
        return {"ETag": f'"{self.generation}"', "Last-Modified": last, "x-goog-generation": str(self.generation)}


@dataclass
class _Bucket:
    name: str
    objects: dict[str, _Object] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    turn: Any = field(default_factory=threading.Lock)
    count: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def write(self, key: str, data: bytes, expected: str | None) -> _Object | None:
        """The new object; None where the object's generation is not the expected one."""
        with self.turn:
            now = self.objects.get(key)
            if expected is not None and int(expected) != (now.generation if now else 0):
                return None
            at = datetime.fromtimestamp(SystemClock().now_us() / 1_000_000, UTC)
            self.objects[key] = made = _Object(data, next(self.count), at)
            return made


@contextmanager
def gcs_fake(bucket: str) -> Iterator[str]:
    """The endpoint of a server that holds one bucket and asks for no login."""
    held = _Bucket(bucket)
    handler = type("Handler", (_Handler,), {"bucket": held})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="gcs-fake", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # Python's own five make clients wait for a second when many come at once


class _Handler(BaseHTTPRequestHandler):
    """One request: `/bucket?…` lists, `/bucket/key` is an object."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    bucket: _Bucket

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that goes away is no news
            super().handle()

    def log_message(self, *args: object) -> None:
        """Tests have no use for it."""

    def do_GET(self) -> None:
        key, query = self._target()
        if key is None:
            return
        if not key:
            return self._answer(200, _listing(self.bucket, query), {"Content-Type": "application/xml"})
        found = self.bucket.objects.get(key)
        if found is None:
            return self._answer(404, _error("NoSuchKey"))
        self._answer(200, found.data, found.headers)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        body = self._body()
        if body is None:
            return self._answer(400, _error("IncompleteBody"))
        key, query = self._target()
        if key is None:
            return
        if "uploadId" in query:
            self.bucket.parts[query["uploadId"]][int(query["partNumber"])] = body
            return self._answer(200, b"", {"ETag": f'"{query["partNumber"]}"'})
        made = self.bucket.write(key, body, self.headers.get("x-goog-if-generation-match"))
        self._answer(412, _error("PreconditionFailed")) if made is None else self._answer(200, b"", made.headers)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key, query = self._target()
        if key is None:
            return
        if "uploads" in query:
            upload = f"u{next(self.bucket.count)}"
            self.bucket.parts[upload] = {}
            body = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return self._answer(200, body.encode())
        parts = self.bucket.parts.pop(query["uploadId"])
        made = self.bucket.write(key, b"".join(parts[n] for n in sorted(parts)), None)
        assert made is not None
        body = f'<CompleteMultipartUploadResult><ETag>"{made.generation}"</ETag></CompleteMultipartUploadResult>'
        self._answer(200, body.encode(), made.headers)

    def do_DELETE(self) -> None:
        key, query = self._target()
        if key is None:
            return
        self.bucket.parts.pop(query.get("uploadId", ""), None)
        with self.bucket.turn:
            found = None if "uploadId" in query else self.bucket.objects.pop(key, None)
        self._answer(404 if found is None else 204, b"")

    def _body(self) -> bytes | None:
        """None: the client did not say all that it had promised; nothing is kept of that."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _target(self) -> tuple[str | None, dict[str, str]]:
        """The key ("": the bucket) and the query; None when the bucket is not ours, which was answered."""
        parts = urlsplit(self.path)
        bucket, _, key = parts.path.lstrip("/").partition("/")
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        if unquote(bucket) != self.bucket.name:
            self._answer(404, _error("NoSuchBucket"))
            return None, query
        return unquote(key), query

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)


def _error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def _listing(bucket: _Bucket, query: dict[str, str]) -> bytes:
    """A page of the keys behind `start-after` or the token, those below a delimiter put together."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = max(query.get("start-after", ""), query.get("continuation-token", ""))
    with bucket.turn:
        held = {k: o for k, o in bucket.objects.items() if k.startswith(prefix) and k > after}
    folders = {k[: k.index(delimiter, len(prefix)) + 1] for k in held if delimiter and delimiter in k[len(prefix) :]}
    keys = sorted(k for k in held if not (delimiter and delimiter in k[len(prefix) :]))
    page, more = keys[:_PAGE], len(keys) > _PAGE
    body = "".join(_contents(k, held[k]) for k in page)
    body += "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders))
    token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
    head = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
    return f"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult>{head}{body}</ListBucketResult>".encode()


def _contents(key: str, found: _Object) -> str:
    at = found.at.isoformat().replace("+00:00", "Z")
    return (
        f"<Contents><Key>{escape(key)}</Key><Size>{len(found.data)}</Size><LastModified>{at}</LastModified>"
        f'<ETag>"{found.generation}"</ETag></Contents>'
    )
