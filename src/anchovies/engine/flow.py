"""Hops 1 to 5 of one part of the graph, a source table and all that is made from its rows: read, gather, write, publish.

Commits are cut at marks only. What `publish` names is exactly: the rows before the marks, and the checkpoint values set by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from anchovies.core.errors import FatalError, RetryableError, SourceError
from anchovies.core.faultpoint import fault
from anchovies.engine import splits
from anchovies.engine.actions import DiscardUnit, Due, Rejected
from anchovies.engine.again import Again
from anchovies.engine.bounds import Bounds
from anchovies.engine.calls import call, close, rows_of
from anchovies.engine.context import Overlay, RunContext, RunTask
from anchovies.engine.fanin import Downstream, FanIn
from anchovies.engine.graph import Node, Part, Table
from anchovies.engine.limits import Halt
from anchovies.engine.outbox import COMMIT_AFTER
from anchovies.engine.pending import Pending
from anchovies.engine.pipe import Pipe
from anchovies.engine.services import Services
from anchovies.engine.telling import Telling
from anchovies.sdk.context import entered
from anchovies.sdk.result import TableResult
from anchovies.store.record import Change, DataFile

if TYPE_CHECKING:
    import pyarrow as pa

    from anchovies.engine.consumer import Consumer
    from anchovies.engine.gather import Piece

LAST_WORDS = 2.0  # seconds that sinks of a failed flow have to return
_END = object()
Files = Mapping[str, list[DataFile]]


class Flow:
    """One part of a batch's graph. `run()` returns when every row is committed, or raises with whole units committed and the rest
    gone."""

    def __init__(self, services: Services, task: RunTask, part: Part) -> None:
        self._s = services
        self._task = task
        self._part = part
        self._overlay = Overlay(lambda: services.log.state, services.outside.overlay, part.fed, shared=services.worker.of > 1)
        self._due = Due()
        self._said: dict[str, list[dict[str, Any]]] = {}  # by root: what its source said of what it has read
        self._halt = Halt(services.batch.check, services.stop.nudges)
        self._unmarked = False  # rows have passed to the sinks after the last mark
        self._publishing = False
        self._last_commit = services.clock.monotonic()
        self.pipes = {t.name: Pipe(t.tbl, services, t.kept) for t in part.tables}
        self._telling = Telling(services, task, self.pipes, self.pipes[part.roots[0].name])
        self._bounds = Bounds(services.settings, self.pipes, part)
        self._meets = {t.name: FanIn(self.pipes[t.name], self._halt, t.flowing) for t in part.tables if t.is_fan_in}
        self._cached = {t.name for t in part.tables if t.cached}
        self._roots = {t.name: self._into(t.name) for t in part.roots}
        self._enter(part.roots[0].name)
        self._consumers = [self._consumer(t, node) for t in part.tables for node in t.takers]
        self._streams = part.streams

    # building

    def _into(self, tbl: str) -> Downstream:
        """Where one feeder's rows of a table go."""
        return self._meets[tbl].port() if tbl in self._meets else self.pipes[tbl]

    def _consumer(self, table: Table, node: Node) -> Consumer:
        s, ctx = self._s, self._context()
        rows = import_module("anchovies.engine.rowpath")
        below = [self._into(made) for made in node.makes]
        below = [rows.Later(b, f"{node.method}, {m}") if m in self._cached else b for b, m in zip(below, node.makes, strict=True)]
        made_by = [table.source, *(n.method for n in table.feeders)]
        given = self._given(ctx, source=", ".join(dict.fromkeys(m for m in made_by if m)), sink=node.method)
        method = getattr(s.operator, node.method)
        consumer = rows.Consumer(method, node.streaming, node.cached, table.tbl, ctx, below, self._halt, **given)
        self.pipes[table.name].consumers.append(consumer)
        return consumer  # type: ignore[no-any-return]

    def _context(self) -> RunContext:
        s = self._s
        mine = (self._overlay, Pending(), self._telling.say, bool(s.routes.acks), s.parts)
        return RunContext(s.session, s.batch, self._task, s.connections, *mine)

    def _given(self, ctx: RunContext, **marks: str | None) -> dict[str, Any]:
        """What every method of the flow is handed, beside its own table and stream. `source`: the methods that made the rows,
        `sink`: the one that takes them."""
        return {"task": ctx.task, "batch": ctx.batch, "session": ctx.session, "worker": self._s.worker, **marks}

    def _enter(self, root: str) -> None:
        """The source of this table is read now."""
        self._name, self.root, self._top = root, self.pipes[root], self._roots[root]
        self._telling.root = self.root
        self._bounds.begin()

    # running

    def run(self) -> None:
        """Everything from the first row to the last commit."""
        for consumer in self._consumers:
            consumer.start()
        self._s.running.add(self._overlay)
        try:
            for root in self._part.roots:
                self._enter(root.name)
                for beside in self._reads(root):
                    self._read(str(root.source), beside)
                self._leave()
            for pipe in self.pipes.values():
                pipe.end()
            self._take_settings()
            self._commit(last=True)
            self._telling.limit(self._bounds.reached)
        except BaseException as e:
            error = self._s.stop.meaning(self._halt.meaning(e))
            self._fail(error)
            if error is not e:
                raise error from None
            raise
        finally:
            self._s.running.discard(self._overlay)
            self._telling.progress(force=True)
            for pipe in self.pipes.values():
                pipe.close()

    def results(self) -> list[TableResult]:
        """What became of each table of the flow, the root first."""
        return [p.result for p in self.pipes.values()]

    def _reads(self, root: Table) -> Iterator[dict[str, Any]]:
        """The calls of a source that fall to this worker, a split each."""
        ctx = self._context()
        given = {**self._given(ctx, source=root.source, sink=None), "tbl": self.root.yielded, "table": root.name}
        with entered(ctx):
            found = list(splits.reads(self._s, self._part, root.name, given))
        self._act(ctx.pending.take())
        for beside in found:
            yield beside
            self._s.batch.check()
            if self._has_enough():
                return

    def _has_enough(self) -> bool:
        """Whether this batch (or preview) has as much of the root as it may have."""
        most = self._s.most_rows
        return self._bounds.is_over or (most is not None and self.root.result.rows >= most)

    def _read(self, method: str, beside: dict[str, Any]) -> None:
        """One source; again, from what it has set, where it asks for that. `beside`: what it is given of its own."""
        self._again = Again(self._s, self._task, self._halt, self._overlay, self._telling.say, self.root)
        while True:
            try:
                return self._read_once(method, beside)
            except RetryableError as e:
                self._again.pause(e, passed_on=self._unmarked)
            self._again.drop(self._consumers)
            if self._due.acks():
                self._commit()  # or what is acknowledged later would come once more

    def _read_once(self, method: str, beside: dict[str, Any]) -> None:
        ctx = self._context()
        ctx.rejects = self.root.reading["rejecting"]
        with entered(ctx):
            items = self._items(method, ctx, beside)
            try:
                first = self._first(items, ctx)
                if first is not _END:
                    self._take_all(chain((first,), items), ctx)
            finally:
                with self._s.stop.guard():
                    close(items)
                fault("source.close.after", SourceError)
        if self._bounds.is_over:
            ctx.pending.take()  # of rows that the next batch reads
        self._act(ctx.pending.take())  # set after the last row, or by another thread
        self._bounds.check_marked(self._name)

    def _leave(self) -> None:
        """The source has no more rows. Where others are read after it, what it gave is whole."""
        if self._due.said:
            self._said[self._name], self._due.said = [*self._said.get(self._name, ()), *self._due.said], []
        if len(self._roots) > 1:
            self._end_unit()
            self._unmarked = False

    def _first(self, items: Iterator[object], ctx: RunContext) -> object:
        """The first item, before pyarrow is loaded for it."""
        try:
            with self._s.stop.nudges, self._again:
                self._halt.check()  # in here: a sink that fails from now on nudges us
                fault("source.first.before", SourceError)
                return next(items, _END)
        except Exception:
            self._act(ctx.pending.take())  # what was set before the failure has no row to wait for
            raise

    def _end_unit(self) -> None:
        """A unit ends here, in all tables: those of other roots count it too, so that it ends once where they meet."""
        for top in self._roots.values():
            top.mark()

    def _items(self, method: str, ctx: RunContext, beside: dict[str, Any]) -> Iterator[object]:
        tbl = self.root.yielded
        given = {**self._given(ctx, source=method, sink=None), "tbl": tbl, "table": tbl.name, "stream": None, **beside}
        with self._s.stop.nudges, self._again:
            items = call(getattr(self._s.operator, method), given)
        return rows_of(items, method)

    def _take_all(self, items: Iterator[object], ctx: RunContext) -> None:
        s = self._s
        bound = {"max_rows": s.most_rows} if s.most_rows else {}
        rows = import_module("anchovies.engine.rowpath")
        pieces = self.root.shaped(rows.gather(items, ctx.pending, clock=s.clock, **self.root.reading, **bound))
        if self._name in self._cached:
            pieces = rows.spooled(pieces, self._name, self._halt.check, s.most_rows)
        try:
            while (piece := self._next(pieces)) is not None:
                self._take(self._bounds.cut(self._name, piece))
                self._halt.check()
                self._telling.progress()
                if self._has_enough():
                    break
                if not self._unmarked and self._commit_is_due():
                    self._commit()
        finally:
            close(pieces)

    def _next(self, pieces: Iterator[Piece]) -> Piece | None:
        with self._s.stop.nudges, self._again:
            self._halt.check()  # in here, as above
            fault("source.next.before", SourceError)
            return next(pieces, None)

    def _take(self, piece: Piece) -> None:
        """Rows up to the last mark, then a look whether a commit is due, then the open rest."""
        batch, marks = piece.batch, piece.marks
        if any(isinstance(a, DiscardUnit | Rejected) for _, actions in marks for a in actions):
            return self._take_in_turn(batch, marks)
        last = marks[-1][0] if marks else 0
        if marks and not marks[0][0]:
            self._end_unit()
        if batch is not None and last:
            self._take_units(batch.slice(0, last), tuple(dict.fromkeys(o for o, _ in marks if o)))
        if marks:
            for _, actions in marks:
                self._due.add(actions)
            self._unmarked = False
            if self._commit_is_due():
                self._commit()
        if batch is not None and last < batch.num_rows:
            self._take_open(batch.slice(last) if last else batch)

    def _take_units(self, batch: pa.RecordBatch, marks: tuple[int, ...]) -> None:
        """Rows, and where units end in them. Where rows meet, nobody may be more than a unit ahead."""
        if not self._meets:
            return self.root.take(batch, marks)
        done = 0
        for mark in marks:
            self._top.take(batch.slice(done, mark - done))
            self._end_unit()
            done = mark

    def _take_in_turn(self, batch: pa.RecordBatch | None, marks: Any) -> None:
        """The same where rows are dropped or rejected between others."""
        done = 0
        for offset, actions in marks:
            if batch is not None and offset > done:
                self._take_open(batch.slice(done, offset - done))
                done = offset
            self._act(actions)
            if not isinstance(actions[-1], Rejected) and not self._unmarked and self._commit_is_due():
                self._commit()
        if batch is not None and done < batch.num_rows:
            self._take_open(batch.slice(done))

    def _act(self, actions: Iterable[object]) -> None:
        for action in actions:
            if isinstance(action, DiscardUnit):
                self._discard()
            elif isinstance(action, Rejected):
                self._top.reject(action)
                self._unmarked = bool(self._consumers)
            else:
                self._end_unit()
                self._due.add([action])
                self._unmarked = False

    def _take_open(self, batch: pa.RecordBatch) -> None:
        self._top.take(batch)
        self._unmarked = bool(self._consumers)

    def _discard(self) -> None:
        if self._consumers:
            raise FatalError(
                f"{self.root.tbl.name}: discard() cannot take rows back from custom sinks", hint="drop the sink, or check first"
            )
        self.root.result.rows -= self.root.discard()

    # publishing

    def _commit_is_due(self) -> bool:
        if not self._streams:
            return False  # a sink that may hold rows back has not ended: its marks are not due yet
        raw = sum(p.raw for p in self.pipes.values())
        waited = self._s.clock.monotonic() - self._last_commit
        much = raw >= self._s.commit_bytes or len(self._due.acks()) >= COMMIT_AFTER
        return much or (waited >= self._s.commit_seconds and (raw > 0 or bool(self._due)))

    def _take_settings(self) -> None:
        """What chains have set: their rows are all in."""
        for consumer in self._consumers:
            self._due.add(consumer.taken())

    def _commit(self, *, last: bool = False) -> None:
        """Everything up to the last mark, in one record. `last`: the task ends well with it, and has read all there is, unless a
        limit has cut it, or other workers read other splits."""
        complete = last and self._bounds.reached is None and not splits.is_shared(self._s, self._part)
        if self._consumers and not last:
            for top in self._roots.values():
                top.barrier()
            self._take_settings()
        self._last_commit = self._s.clock.monotonic()
        kept = {p.tbl.name: p for p in self.pipes.values() if p.kept}
        files = {n: p.finish() for n, p in kept.items()}
        rejects = {n: found for n, p in self.pipes.items() if (found := p.finish_rejects())}
        with self._s.turn:  # what differs from the log is what differs from it when this record is appended
            self._publish(kept, files, rejects, complete)
        self._s.acknowledge()

    def _publish(self, kept: Mapping[str, Pipe], files: Files, rejects: Files, complete: bool) -> None:
        change = replace(self._change(files, complete), rejects=[f for found in rejects.values() for f in found])
        if complete and (change != Change() or any(p.result.files for p in kept.values())):
            change = replace(change, complete=list(kept))
        if change == Change():
            return  # nothing was kept, nothing moved on: then what the source said of it is no news either
        change = replace(change, receipts=self._receipts(files, rejects))
        self._publishing = True
        self._s.publish(change, self._overlay.looked_at())
        self._publishing = False
        self._due.clear()
        self._said.clear()
        for name in {**kept, **rejects}:
            self.pipes[name].committed(files.get(name, ()), rejects.get(name, ()))

    def _change(self, files: Files, complete: bool) -> Change:
        state = self._s.log.state
        brought = {n for n, found in files.items() if found}
        published = {n: self.pipes[n].published() for n in files if complete or brought}
        return Change(
            files=[f for found in files.values() for f in found],
            checkpoints=self._due.checkpoints(state, self._part.fed),
            ledgers=self._due.ledgers(state.ledgers),
            ack_pending=self._due.acks(),
            tables={n: tbl for n, tbl in published.items() if tbl != state.tables.get(n)},
        )

    def _receipts(self, files: Mapping[str, list[DataFile]], rejects: Mapping[str, list[DataFile]]) -> dict[str, dict[str, Any]]:
        """By table: rows that came of the source, kept, rejected; and what the source itself said of what they are made of."""
        found: dict[str, dict[str, Any]] = {}
        for name, mine in files.items():
            if rows := self.pipes[name].due_rows():
                kept, rejected = (sum(f.rows for f in found_) for found_ in (mine, rejects.get(name, ())))
                found[name] = {"rows": rows, "kept": kept, "rejected": rejected}
        for name, said in [*self._said.items(), (self._name, self._due.said)]:
            if said:
                of = found.setdefault(name, {})
                of["sources"] = [*of.get("sources", ()), *self._s.redact(list(said))]
        return found

    def _fail(self, error: BaseException) -> None:
        """Keep the whole units that came before the failure, unless nothing may be committed any more."""
        self._halt.fail(error)
        if self._consumers:
            rows, seconds = import_module("anchovies.engine.rowpath"), 0 if self._s.stop.is_set() else LAST_WORDS
            rows.end_all(self._consumers, self._s.clock, seconds)
        barred = self._publishing or self._consumers or self._s.stop.timed_out or self._s.lost(error)
        try:
            if not barred:
                self._commit()
        except BaseException as second:
            if second is not error:
                raise second from error
        finally:
            unknown = self._publishing and not self._s.lost(error)
            for pipe in self.pipes.values():
                pipe.close(keep_files=unknown)
