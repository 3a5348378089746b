"""Hops 1 to 5 of one source table and of all tables that are made from its rows: read, gather, write, publish.

Commits are cut at marks only. What `publish` names is exactly: the rows before the marks, and the checkpoint values set by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from anchovies.core.errors import CommitUnknown, ConfigError, FatalError, Fenced
from anchovies.core.tbl import Column, Tbl
from anchovies.core.tblconfig import tbl_to_json
from anchovies.core.types import ColType
from anchovies.engine.actions import DiscardUnit, Due
from anchovies.engine.calls import call
from anchovies.engine.checks import ColumnCheck
from anchovies.engine.consumer import Consumer
from anchovies.engine.context import Overlay, Pending, RunContext, RunTask
from anchovies.engine.gather import Piece, gather
from anchovies.engine.services import Services
from anchovies.engine.writer import TableWriter
from anchovies.sdk.context import entered
from anchovies.sdk.result import TableResult
from anchovies.store.record import Change, DataFile

PROGRESS_SECONDS = 0.2


class Pipe:
    """One table of a flow: its writer (if it is kept), its consumers, its counts."""

    def __init__(self, tbl: Tbl, writer: TableWriter | None, result: TableResult) -> None:
        self.tbl = tbl
        self.writer = writer
        self.result = result
        self.consumers: list[Consumer] = []
        self._check = ColumnCheck(tbl)

    def take(self, batch: pa.RecordBatch, marks: tuple[int, ...] = ()) -> None:
        """Rows of this table: to the writer, then to every consumer."""
        self.result.rows += batch.num_rows
        self._check.look(batch)
        if self.writer is not None:
            self.writer.add(batch, marks)
        for consumer in self.consumers:
            consumer.put(batch)

    def barrier(self) -> None:
        """Everything taken so far has passed all that hangs below; the open unit ends."""
        for consumer in self.consumers:
            consumer.barrier()
        if self.writer is not None:
            self.writer.mark()

    def end(self) -> None:
        for consumer in self.consumers:
            consumer.end()
        if self.writer is not None:
            self.writer.mark()

    def published(self) -> dict[str, Any]:
        """The table as downstream anchovies should see it."""
        types: Mapping[str, ColType] = self.writer.types if self.writer else self.tbl.types
        return tbl_to_json(self.tbl.with_(columns=tuple(Column(n, t) for n, t in types.items())))


@dataclass(slots=True)
class Stage:
    """The root generator of a flow: its method, its context, what it has set since it was last asked."""

    method: str
    ctx: RunContext


class Flow:
    """One root table. `run()` returns when every row is committed, or raises with whole units committed and the rest gone."""

    def __init__(self, services: Services, task: RunTask, root: Tbl, tbls: Mapping[str, Tbl], hooks: Overlay) -> None:
        self._s = services
        self._task = task
        self._tbls = tbls
        self._overlay = Overlay(lambda: services.log.state, hooks)
        self._due = Due()
        self._unmarked = False
        self._last_commit = self._last_told = services.clock.monotonic()
        self.pipes: dict[str, Pipe] = {}
        self._position: str | None = None
        self._name = root.name
        self.root = self._pipe(root)

    # building

    def _pipe(self, tbl: Tbl) -> Pipe:
        if tbl.name in self.pipes:
            raise ConfigError(f"table {tbl.name!r} is made from itself", hint="look at the @source and @sink marks of the chain")
        s = self._s
        kept = s.routes.keeps and tbl.name in s.active and s.stores(tbl.name)
        writer = TableWriter(s.store, tbl.name, s.buffer, s.log.new_data_key, s.known_types(tbl)) if kept else None
        pipe = self.pipes[tbl.name] = Pipe(tbl, writer, TableResult(tbl=tbl.name))
        for route in s.routes.consumers(tbl.name):
            fed = [n for n in route.feeds if n in self._tbls]
            if route.feeds and not fed:
                continue
            ctx = self._context()
            below = [self._pipe(self._tbls[n]) for n in fed]
            method = getattr(s.operator, route.method)
            pipe.consumers.append(Consumer(method, route.streaming, tbl, ctx, list(below), s.stop, **self._given(ctx)))
        return pipe

    def _context(self) -> RunContext:
        s = self._s
        return RunContext(s.session, s.batch, self._task, s.connections, self._overlay, Pending(), self._tell)

    def _given(self, ctx: RunContext) -> dict[str, Any]:
        """What every method of the flow is handed, beside its own table and stream."""
        return {"task": ctx.task, "batch": ctx.batch, "session": ctx.session, "source": self._name, "sink": None, "worker": 0}

    # running

    def run(self) -> None:
        for pipe in self.pipes.values():
            for consumer in pipe.consumers:
                consumer.start()
        try:
            for route in self._s.routes.sources(self.root.tbl.name):
                self._read(Stage(route.method, self._context()))
            for pipe in self.pipes.values():
                pipe.end()
            self._take_settings()
            self._commit(complete=True)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._tell_progress(force=True)
            for pipe in self.pipes.values():
                if pipe.writer is not None:
                    pipe.writer.close()

    def results(self) -> list[TableResult]:
        """What became of each table of the flow, the root first."""
        return [p.result for p in self.pipes.values()]

    def _read(self, stage: Stage) -> None:
        tbl = self.root.tbl
        given = {**self._given(stage.ctx), "tbl": tbl, "table": tbl.name, "stream": None}
        with entered(stage.ctx):
            items = call(getattr(self._s.operator, stage.method), given)
            if items is None:
                items = ()
            if not isinstance(items, Iterable) or isinstance(items, str | bytes | Mapping):
                raise FatalError(
                    f"source {stage.method} returned a {type(items).__name__}", hint="a source yields rows: dicts or Arrow"
                )
            bound = {"max_rows": self._s.most_rows} if self._s.most_rows else {}
            pieces = gather(items, stage.ctx.pending.take, types=tbl.types or None, clock=self._s.clock, **bound)
            try:
                for piece in pieces:
                    self._take(piece)
                    self._s.batch.check()
                    self._tell_progress()
                    if self._s.most_rows is not None and self.root.result.rows >= self._s.most_rows:
                        break
                    if not self._unmarked and self._commit_is_due():
                        self._commit()
            finally:
                _close(pieces)
                _close(items)
        self._due.add(stage.ctx.pending.take())
        if self._streams():
            self.root.barrier()
        self._unmarked = self._unmarked and not self._streams()

    def _take(self, piece: Piece) -> None:
        """Rows up to the last mark, then a look whether a commit is due, then the open rest."""
        batch, marks = piece.batch, piece.marks
        if any(isinstance(a, DiscardUnit) for _, actions in marks for a in actions):
            return self._take_with_discards(batch, marks)
        last = marks[-1][0] if marks else 0
        if batch is not None and last:
            self.root.take(batch.slice(0, last), tuple(o for o, _ in marks if o))
        if marks:
            if not last and self.root.writer is not None:
                self.root.writer.mark()
            for _, actions in marks:
                self._due.add(actions)
            self._unmarked = False
            if self._commit_is_due():
                self._commit()
        if batch is not None and last < batch.num_rows:
            self.root.take(batch.slice(last) if last else batch)
            self._unmarked = bool(self.root.consumers)

    def _take_with_discards(self, batch: pa.RecordBatch | None, marks: Any) -> None:
        if self.root.consumers:
            raise FatalError(
                f"{self.root.tbl.name}: discard() cannot take rows back from custom sinks", hint="drop the sink, or check first"
            )
        done = 0
        for offset, actions in marks:
            if batch is not None and offset > done:
                self.root.take(batch.slice(done, offset - done))
                done = offset
            self._apply(actions)
        if batch is not None and done < batch.num_rows:
            self.root.take(batch.slice(done))

    def _apply(self, actions: Iterable[object]) -> None:
        writer = self.root.writer
        for action in actions:
            if isinstance(action, DiscardUnit):
                self.root.result.rows -= writer.discard() if writer else 0
            else:
                self._due.add([action])
                if writer:
                    writer.mark()

    # publishing

    def _streams(self) -> bool:
        return all(c.streaming for p in self.pipes.values() for c in p.consumers)

    def _commit_is_due(self) -> bool:
        if not self._streams():
            return False  # a sink that may hold rows back has not ended: its marks are not due yet
        raw = sum(p.writer.raw for p in self.pipes.values() if p.writer)
        waited = self._s.clock.monotonic() - self._last_commit
        return (raw >= self._s.commit_bytes) or (waited >= self._s.commit_seconds and (raw > 0 or bool(self._due)))

    def _take_settings(self) -> None:
        """What chains have set: their rows are all in."""
        for pipe in self.pipes.values():
            for consumer in pipe.consumers:
                self._due.add(consumer.taken())

    def _commit(self, *, complete: bool = False) -> None:
        if not complete and any(p.consumers for p in self.pipes.values()):
            self.root.barrier()
            self._take_settings()
        self._last_commit = self._s.clock.monotonic()
        kept = [p for p in self.pipes.values() if p.writer is not None]
        files = [(p, f) for p in kept for f in p.writer.finish()]  # type: ignore[union-attr]
        change = self._change([f for _, f in files], kept, complete)
        if change == Change():
            return
        if complete:
            change = _replace(change, complete=[p.tbl.name for p in kept])
        self._s.publish(change, frozenset(self._overlay.keys))
        self._due.clear()
        for pipe, file in files:
            pipe.result.kept += file.rows
            pipe.result.bytes += file.size
            pipe.result.files += 1
        for pipe in kept:
            pipe.writer.committed()  # type: ignore[union-attr]
            pipe.result.commits += 1

    def _change(self, files: list[DataFile], kept: list[Pipe], complete: bool) -> Change:
        state = self._s.log.state
        names = [p.tbl.name for p in kept]
        tables = (
            {p.tbl.name: p.published() for p in kept if p.published() != state.tables.get(p.tbl.name)}
            if files or complete
            else {}
        )
        receipts = (
            {p.tbl.name: {"rows": p.result.rows, "kept": sum(f.rows for f in files if f.table == p.tbl.name)} for p in kept}
            if files
            else {}
        )
        return Change(
            files=files,
            checkpoints=self._due.checkpoints(state.checkpoints, names),
            ledgers=self._due.ledgers(state.ledgers),
            tables=tables,
            receipts=receipts,
        )

    def _fail(self, error: BaseException) -> None:
        """Keep the whole units that came before the failure, unless nothing may be committed any more."""
        for pipe in self.pipes.values():
            for consumer in pipe.consumers:
                consumer.abandon()
        barred = isinstance(error, CommitUnknown | Fenced) or self._s.stop.timed_out or self._s.lost(error)
        try:
            if not barred and not any(p.consumers for p in self.pipes.values()):
                if self.root.writer is not None:
                    self.root.writer.discard()
                self._commit()
        except Exception as second:
            if error.__context__ is None:
                error.__context__ = second
            raise second from error
        finally:
            keep = isinstance(error, CommitUnknown)
            for pipe in self.pipes.values():
                if pipe.writer is not None:
                    pipe.writer.abandon(keep_files=keep)

    # telling

    def _tell(self, *, bytes_read: int = 0, position: str | None = None, warning: str | None = None) -> None:
        if warning:
            self.root.result.warnings.append(warning)
            self._s.tell("warning", self.root.tbl.name, message=warning)
        if position is not None:
            self._position = position
        if bytes_read:
            self._task.data["bytes_read"] = self._task.data.get("bytes_read", 0) + bytes_read
        self._tell_progress()

    def _tell_progress(self, *, force: bool = False) -> None:
        now = self._s.clock.monotonic()
        if not force and now - self._last_told < PROGRESS_SECONDS:
            return
        self._last_told = now
        for name, pipe in self.pipes.items():
            read = self._task.data.get("bytes_read", 0) if pipe is self.root else 0
            self._s.tell(
                "progress", name, rows=pipe.result.rows, bytes=read, position=self._position if pipe is self.root else None
            )


def _close(items: object) -> None:
    """End a generator now, so that its `finally` blocks run in this thread."""
    close = getattr(items, "close", None)
    if close is not None and isinstance(items, Iterator):
        close()


def _replace(change: Change, **fields: Any) -> Change:
    return Change(**{**{f: getattr(change, f) for f in change.__struct_fields__}, **fields})
