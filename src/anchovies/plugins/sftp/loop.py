"""The one thread in which asyncssh lives, and the way into it from everywhere else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from typing import Any, TypeVar

from anchovies.sdk import ConfigError, RetryableError, batch

T = TypeVar("T")
_GLANCE = 0.2  # seconds between two looks at whether the batch was told to stop


class LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_not_twice)
        self._thread = threading.Thread(target=self._loop.run_forever, name="sftp", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T], timeout: float, what: str) -> T:
        """The result of `work`. Raises RetryableError if it takes longer than `timeout` seconds, and whatever ends the batch."""
        return await_result(self.submit(asyncio.wait_for(work, bounded(timeout))), timeout, what)

    def stop(self) -> None:
        """End what is under way, and the thread."""
        with suppress(NotYet):
            self.submit(_cancel_all()).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()


def _not_twice(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncssh reads ahead in many tasks: when a connection breaks, the first says so to us, the rest would to the terminal."""
    if "never retrieved" not in context["message"]:
        loop.default_exception_handler(context)


async def _cancel_all() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.sleep(0.01)  # transports close their sockets one turn of the loop later


def await_result(future: Future[T], timeout: float, what: str) -> T:
    """Wait for the loop's answer, with an eye on the batch."""
    try:
        while True:
            try:
                return future.result(_GLANCE)
            except NotYet:
                if future.done():
                    raise
                _check()
    except NotYet:
        raise RetryableError(f"{what}: no answer within {timeout:g} s", hint="TIMEOUT sets how long to wait") from None
    except BaseException:
        future.cancel()
        raise


def bounded(timeout: float) -> float:
    """`timeout`, or what is left of the batch's time if that is less."""
    try:
        left = batch().time_left()
    except ConfigError:
        left = None  # outside of a run: `anchovy plugin sftp trust`, a check
    return timeout if left is None else max(0.01, min(timeout, left))


def _check() -> None:
    try:
        now = batch()
    except ConfigError:
        return
    now.check()
