"""A bucket as a datastore, over obstore's sync API: its async one aborts the process at exit."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from anchovies.plugins._buckets.errors import Translator, Verb
from anchovies.sdk.datastore import Entry, FatalError, NotFound, Store, check_key

T = TypeVar("T")
AT_ONCE = 16
_WHOLE = 64 << 20  # up to here an object is one request
_PART = 16 << 20


class BucketStore(Store):
    """Objects below `prefix` of a bucket. `client` is a store of obstore's. Thread-safe.

    A `create` is one request and never multipart, so that it lands as a whole or not at all. obstore tries again by itself, and
    then finds our own object: AlreadyExists stays a question.
    """

    def __init__(self, url: str, prefix: str, client: Any, settings: str) -> None:
        self.url = url
        self._client = client
        self._root = f"{prefix}/" if prefix else ""
        self._meaning = Translator(url, settings)
        self._turn = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def create(self, key: str, data: bytes) -> None:
        import obstore

        path = self._path(key)
        self._do("create", key, lambda: obstore.put(self._client, path, data, mode="create", use_multipart=False))

    def put(self, key: str, data: bytes) -> None:
        import obstore

        path, whole = self._path(key), len(data) <= _WHOLE
        self._do("write", key, lambda: obstore.put(self._client, path, data, use_multipart=not whole, chunk_size=_PART))

    def get(self, key: str) -> bytes:
        import obstore

        path = self._path(key)
        return self._do("read", key, lambda: obstore.get(self._client, path).bytes().to_bytes())

    def get_many(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        """Some requests at a time; never more than a few answers are held."""
        todo, running = iter(keys), deque[Future[bytes | None]]()
        try:
            while True:
                while len(running) < AT_ONCE and (key := next(todo, None)) is not None:
                    running.append(self._workers().submit(self._get_or_none, key))
                if not running:
                    return
                yield running.popleft().result()
        finally:
            for left in running:
                left.cancel()

    def _get_or_none(self, key: str) -> bytes | None:
        try:
            return self.get(key)
        except NotFound:
            return None

    def _workers(self) -> ThreadPoolExecutor:
        with self._turn:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(AT_ONCE, "bucket")
            return self._pool

    def delete(self, key: str) -> None:
        import obstore

        path = self._path(key)
        try:
            self._do("delete", key, lambda: obstore.delete(self._client, path))
        except NotFound:
            return

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        """obstore lists folders, we list texts: below a folder that the prefix ends in, all of it; else one level of the folder
        above, and what lies in those folders of it whose name begins so. Not every server knows `offset`, so we
        look ourselves."""
        head, mark, _ = prefix.rpartition("/")
        if head:
            check_key(head)
        last = ""
        found = self._below(prefix, start_after) if prefix == head + mark else self._beside(head + mark, prefix, start_after)
        for entry in found:
            if entry.key <= last:
                raise FatalError(
                    f"{self.url} lists its objects out of order ({entry.key!r} behind {last!r})",
                    hint="directory buckets and hierarchical namespaces cannot be datastores: take an ordinary bucket",
                )
            last = entry.key
            if entry.key > start_after:
                yield entry

    def _below(self, folder: str, start_after: str) -> Iterator[Entry]:
        import obstore

        offset = self._root + start_after if start_after > folder else None
        where = (self._root + folder).rstrip("/") or None
        pages = iter(self._do("list", folder, lambda: obstore.list(self._client, where, offset=offset)))
        while (page := self._do("list", folder, lambda: next(pages, None))) is not None:
            yield from map(self._entry, page)

    def _beside(self, folder: str, prefix: str, start_after: str) -> Iterator[Entry]:
        import obstore

        where = (self._root + folder).rstrip("/") or None
        level = self._do("list", prefix, lambda: obstore.list_with_delimiter(self._client, where))
        objects = {e.key: e for e in map(self._entry, level["objects"])}
        folders = [f"{p[len(self._root) :]}/" for p in level["common_prefixes"]]
        for name in sorted([*objects, *folders]):
            if name in objects:
                yield from [objects[name]] if name.startswith(prefix) else []
            elif name.startswith(prefix):
                yield from self._below(name, start_after)

    def _entry(self, meta: Any) -> Entry:
        return Entry(meta["path"][len(self._root) :], meta["size"], meta["last_modified"].timestamp())

    def close(self) -> None:
        with self._turn:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _path(self, key: str) -> str:
        check_key(key)
        return self._root + key

    def _do(self, verb: Verb, key: str, do: Callable[[], T]) -> T:
        """`do()`; whatever it raises comes out as one of our errors. A panic of the library is no Exception."""
        try:
            return do()
        except Exception as e:
            failed: BaseException = e
        except BaseException as e:
            if type(e).__name__ != "PanicException":
                raise
            failed = e
        raise self._meaning(failed, verb, key) from None
