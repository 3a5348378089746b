"""What a flow tells whoever watches, and what its task's record will say, while it runs and at its end."""

from __future__ import annotations

from collections.abc import Mapping

from anchovies.engine.context import RunTask
from anchovies.engine.pipe import Pipe
from anchovies.engine.services import Services

PROGRESS_SECONDS = 0.2


class Telling:
    """Of one flow. `root`: the pipe of the table that is read now."""

    def __init__(self, services: Services, task: RunTask, pipes: Mapping[str, Pipe], root: Pipe) -> None:
        self.root = root
        self._s, self._task, self._pipes = services, task, pipes
        self._position: str | None = None
        self._last = services.clock.monotonic()

    def say(self, *, bytes_read: int = 0, position: str | None = None, warning: str | None = None) -> None:
        """`context().progress(…)`, from any thread."""
        if warning:
            self.root.result.warnings.append(warning)
            self._s.tell("warning", self.root.tbl.name, message=warning)
        if position is not None:
            self._position = position
        if bytes_read:
            self._task.data["bytes_read"] = self._task.data.get("bytes_read", 0) + bytes_read
        self.progress()

    def progress(self, *, force: bool = False) -> None:
        """How far each table is, now and then."""
        now = self._s.clock.monotonic()
        if not force and now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        for name, pipe in self._pipes.items():
            read = self._task.data.get("bytes_read", 0) if pipe is self.root else 0
            position = self._position if pipe is self.root else None
            self._s.tell("progress", name, rows=pipe.result.rows, bytes=read, position=position)

    def limit(self, said: str | None) -> None:
        """A limit of the batch has cut it."""
        if said is not None:
            self._task.with_(limit=said)
            self.say(warning=said)
