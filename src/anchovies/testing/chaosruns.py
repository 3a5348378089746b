"""One operator, ended at one place after the other; after each the next run makes everything right: no row lost, none twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

from anchovies.core.errors import RetryableError
from anchovies.sdk.operator import Uploader
from anchovies.store.base import Store
from anchovies.testing.breaking import breaking
from anchovies.testing.endings import Cut, DyingStore, When, cut_short, dying
from anchovies.testing.faults import FaultyStore
from anchovies.testing.trial import Outcome, Rows, Subject, Trial, difference
from anchovies.testing.uploads import Target, Upload

S = TypeVar("S", bound=Subject)
Make = Callable[[Path], S]
WAYS: tuple[When, ...] = ("before", "after")
SMALL: dict[str, Any] = {"commit_bytes": 1}  # a commit at every mark: as many places as there can be


class ChaosRuns:
    """What the fixture `anchovy_chaos` gives. `most`: places of each kind, None for all of them. `every`: in every way."""

    def __init__(self, most: int | None, every: bool, folder: Path) -> None:
        self.most, self.every = most, every
        self.runs = 0
        self._folder = folder
        self._numbers = itertools.count()
        self._made: list[Subject] = []

    def __call__(self, make: Make[Any]) -> None:
        """End what `make(folder)` gives at requests and at yields; `folder` is a new one each time. AssertionError says where."""
        if issubclass(self.world(make).cls, Uploader):
            self.loads(make)
        else:
            self.yields(make)
            self.hiccups(make)
            self.requests(make)

    def world(self, make: Make[S]) -> S:
        """A new subject, in a folder of its own."""
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        made = make(folder)
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()
        self._made = []

    def places(self, total: int) -> list[int]:
        """1..`total`, or as many of them as are wanted, the first and the last among them."""
        most = total if self.most is None else min(self.most, total)
        if most <= 1:
            return list(range(1, total + 1))[-1:]
        return sorted({1 + round(i * (total - 1) / (most - 1)) for i in range(most)})

    # downloaders

    def yields(self, make: Make[Subject]) -> None:
        """Let the sources fail, or the process be killed, at their first, second, … n-th yield."""
        cut, reference = Cut(), Trial(self.world(make))
        assert_ok(reference.run(cut_short(reference.subject.cls, cut), **SMALL), "the undisturbed run")
        want = reference.rows()
        for way, nth in itertools.product(WAYS, self.places(cut.yields)):
            for told in ("failed", "killed"):
                self.runs += 1
                where = f"{told} {way} yield {nth} of {cut.yields}"
                trial = Trial(self.world(make))
                ended = self._end_at_yield(trial, nth, way, kill=told == "killed")
                assert ended, f"{where}: and yet the run said that all went well"
                assert_part(want, trial.rows(), where)
                assert_resumes(trial, want, where)

    def hiccups(self, make: Make[Subject]) -> None:
        """Let the sources raise RetryableError once, at their first, second, … n-th yield: the engine calls them again."""
        cut, reference = Cut(), Trial(self.world(make))
        assert_ok(reference.run(cut_short(reference.subject.cls, cut)), "the undisturbed run")
        want = reference.rows()
        for way, nth in itertools.product(WAYS, self.places(cut.yields)):
            self.runs += 1
            trial = Trial(self.world(make))
            mine = Cut(nth, way, lambda: RetryableError("the source asks to be tried again, because a test wants it"))
            outcome = trial.run(cut_short(trial.subject.cls, mine))
            where = f"RetryableError {way} yield {nth} of {cut.yields}"
            if not outcome.ok:  # a custom sink had rows of the unit that broke off: the next run reads it again
                assert_resumes(trial, want, where)
            wrong = difference(want, once(want, trial.rows(), trial.subject.whole))
            assert not wrong, f"{where}: the source was called again, and {wrong}. Every call begins at its checkpoint"

    def _end_at_yield(self, trial: Trial, nth: int, way: When, *, kill: bool) -> bool:
        """Whether the run did not end well, as it should not if it came to that yield."""
        store = DyingStore(trial.store)
        cut = Cut(nth, way, store.killed if kill else None)
        with dying():
            outcome = trial.run(cut_short(trial.subject.cls, cut), store, **SMALL)
            return not outcome.ok or cut.yields < nth
        return True

    def requests(self, make: Make[Subject]) -> None:
        """Kill the process at the first, second, … n-th request of its datastore; with `every`, let requests fail as well."""
        reference = Trial(self.world(make))
        counted = DyingStore(reference.store)
        assert_ok(reference.run(store=counted, **SMALL), "the undisturbed run")
        want = reference.rows()
        for way, nth in itertools.product(WAYS, self.places(counted.asked)):
            for told, store_of in self._troubles(nth, way):
                self.runs += 1
                trial = Trial(self.world(make))
                with dying():
                    trial.run(store=store_of(trial.store), **SMALL)
                where = f"{told} {way} request {nth} of {counted.asked}"
                assert_part(want, trial.rows(), where, trial.subject.whole)
                assert_resumes(trial, want, where)

    def _troubles(self, nth: int, way: When) -> Iterator[tuple[str, Callable[[Store], Store]]]:
        yield "killed", lambda inner: DyingStore(inner, nth, way)
        if self.every:
            yield "failed", lambda inner: FaultyStore(inner, nth, way)

    # uploaders

    def loads(self, make: Make[Target]) -> None:
        """Kill an uploader at the first, second, … n-th request of its datastore, and let its rows break off at each of them."""
        reference = Upload(self.world(make))
        counted = DyingStore(reference.store)
        assert_ok(reference.run(store=counted), "the undisturbed run")
        for way, nth in itertools.product(WAYS, self.places(counted.asked)):
            for told, store_of in self._troubles(nth, way):
                upload = Upload(self.world(make))
                with dying():
                    upload.run(store=store_of(upload.store))
                self._right(upload, f"{told} {way} request {nth} of {counted.asked}")
        total = sum(sum(rows.values()) for rows in reference.wanted().values())
        for nth, kill in itertools.product(self.places(total), (False, True)):
            upload = Upload(self.world(make))
            store = DyingStore(upload.store)
            with dying():
                upload.run(breaking(upload.subject.cls, nth, store.killed if kill else None), store)
            self._right(upload, f"{'killed' if kill else 'failed'} at row {nth} of {total}")

    def _right(self, upload: Upload, where: str) -> None:
        self.runs += 1
        assert_ok(upload.run(), f"{where}: the run after it")
        upload.assert_loaded(where)


def assert_ok(outcome: Outcome, what: str) -> None:
    """It ended well, and was not skipped."""
    result = outcome.result
    assert result.status == "ok", f"{what}: {result.status}: {result.err_msg or '; '.join(result.warnings)}"


def assert_part(want: Rows, have: Rows, where: str, whole: Collection[str] = ()) -> None:
    """Nothing was kept that is not wanted, nor more often."""
    extra = {t: rows - want.get(t, type(rows)()) for t, rows in have.items() if t not in whole}
    found = {t: rows for t, rows in extra.items() if rows}
    assert not found, f"{where}: rows were kept that should not be, or twice: {difference({}, found)}"


def assert_resumes(trial: Trial, want: Rows, where: str) -> None:
    """The next run brings the rest, and the one after it nothing."""
    assert_ok(trial.run(**SMALL), f"{where}: the run after it")
    wrong = difference(want, once(want, trial.rows(), trial.subject.whole))
    assert not wrong, f"{where}: after the next run, {wrong}. {LAW}"
    assert not trial.broken(), f"{where}: {trial.broken()}"


def once(want: Rows, have: Rows, whole: Collection[str]) -> Rows:
    """Tables that every run reads in full hold everything once a run: they count as if it were one."""
    out = dict(have)
    for tbl in whole:
        found, rows = have.get(tbl), want.get(tbl)
        if found and rows and (times := max(found.values()) // max(rows.values())) > 1:
            out[tbl] = type(rows)({r: n // times for r, n in found.items() if n % times == 0})
    return out


LAW = "A checkpoint is set after the rows that it stands for were yielded, and stands for no more and no less than them"
