"""What every downloader must do, as tests. An author's is tested by a subclass that says how to make one:

class TestMine(DownloaderSuite):
    def make(self, folder):
        ...  # what it reads: files below `folder`, a fake of the server
        return Subject(Mine, cnxns={"default": {"path": str(folder)}}, grow=...)

`make` is called for each run that begins from nothing, with an empty folder. See `anchovies.testing.trial.Subject`.
`--anchovy-chaos` ends the operator at every place instead of a few.
"""

from __future__ import annotations

import functools
import gc
import io
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.env import Redactor
from anchovies.core.errors import ConfigError
from anchovies.engine import look
from anchovies.engine.calls import call
from anchovies.sdk.markers import SourceSpec, specs_of
from anchovies.testing.chaosruns import SMALL, ChaosRuns, assert_ok, once
from anchovies.testing.endings import Asking, Cut, cut_short, replaced, streaming_sinks
from anchovies.testing.trial import Subject, Trial, difference

ROWS = 12  # handed to a streaming sink one by one
PATIENCE = 2.0  # seconds in which what a session had open has to close


class DownloaderSuite:
    """Subclass it, name it `Test…`, and override `make`."""

    def make(self, folder: Path) -> Subject:
        """A subject over a world of its own, which may lie in `folder` (empty)."""
        raise ConfigError("the suite does not know what to test", hint="override make(self, folder) and return a Subject")

    @pytest.fixture
    def trial(self, anchovy_chaos: ChaosRuns) -> Iterator[Callable[[], Trial]]:
        """`trial()`: the operator over a new world and an empty datastore."""
        yield lambda: Trial(anchovy_chaos.world(self.make))

    # once and again

    def test_it_brings_rows(self, trial: Callable[[], Trial]) -> None:
        t = trial()
        assert_ok(t.run(), "the first run")
        assert sum(sum(rows.values()) for rows in t.rows().values()), "the source of the test has no rows: give it some"
        assert not t.broken()

    def test_a_second_run_keeps_nothing_new(self, trial: Callable[[], Trial]) -> None:
        t = trial()
        assert_ok(t.run(), "the first run")
        rows, checkpoints, objects = t.rows(), t.checkpoints(), set(t.objects())
        assert_ok(t.run(), "the second run")
        wrong = difference(rows, once(rows, t.rows(), t.subject.whole))
        assert not wrong, f"nothing moved, but the second run kept rows: {wrong}"
        assert t.checkpoints() == checkpoints, "nothing moved, but a checkpoint did"
        if not t.subject.whole:
            assert set(t.objects()) == objects, "a run that finds nothing leaves nothing behind"

    def test_what_comes_later_comes_once(self, trial: Callable[[], Trial]) -> None:
        t, fresh = trial(), trial()
        if t.subject.grow is None or fresh.subject.grow is None:
            pytest.skip("Subject(grow=…) is not given: a callable that brings more rows to the source")
        assert_ok(t.run(), "the first run")
        before = t.rows()
        t.subject.grow()
        assert_ok(t.run(), "the run after the source has grown")
        fresh.subject.grow()
        assert_ok(fresh.run(), "a fresh run over the grown source")
        assert fresh.rows() != before, "grow() brought nothing new"
        whole = {tbl: rows for tbl, rows in fresh.rows().items() if tbl not in t.subject.whole}
        wrong = difference(whole, {tbl: rows for tbl, rows in t.rows().items() if tbl not in t.subject.whole})
        assert not wrong, f"read in two goes, and in one, the rows differ: {wrong}"

    def test_two_fresh_runs_bring_the_same(self, trial: Callable[[], Trial]) -> None:
        one, two = trial(), trial()
        assert_ok(one.run(), "the first")
        assert_ok(two.run(**SMALL), "the second, with a commit at every mark")
        wrong = difference(one.rows(), two.rows())
        assert not wrong, f"two runs over equal sources: {wrong}"
        assert one.checkpoints() == two.checkpoints()

    def test_tables_side_by_side_bring_the_same(self, trial: Callable[[], Trial]) -> None:
        one, side = trial(), trial()
        assert_ok(one.run(), "one table after the other")
        assert_ok(side.run(threads=4, **SMALL), "four tables at once (--threads 4)")
        wrong = difference(one.rows(), side.rows())
        assert not wrong, f"read side by side, the rows differ: {wrong}"

    def test_two_workers_bring_what_one_brings(self, trial: Callable[[], Trial]) -> None:
        one, shared = trial(), trial()
        assert_ok(one.run(), "one worker")
        for number in range(2):
            assert_ok(shared.run(workers=2, worker_num=number), f"worker {number} of 2")
        wrong = difference(one.rows(), shared.rows())
        assert not wrong, f"shared by two workers, the rows differ: {wrong}. Each split wants a checkpoint of its own"

    # when it fails

    def test_a_failure_at_any_yield_loses_and_doubles_nothing(self, anchovy_chaos: ChaosRuns) -> None:
        anchovy_chaos.yields(self.make)

    def test_a_source_that_asks_for_another_try_gets_it(self, anchovy_chaos: ChaosRuns) -> None:
        anchovy_chaos.hiccups(self.make)

    def test_a_kill_at_any_request_loses_and_doubles_nothing(self, anchovy_chaos: ChaosRuns) -> None:
        anchovy_chaos.requests(self.make)

    def test_a_source_that_breaks_off_is_taken_back(self, trial: Callable[[], Trial]) -> None:
        t, fresh = trial(), trial()
        if t.subject.spoil is None:
            pytest.skip("Subject(spoil=…) is not given: a callable that breaks a part of the source and returns what mends it")
        assert_ok(fresh.run(), "the run over a whole source")
        want = fresh.rows()
        mend = t.subject.spoil()
        t.run(**SMALL)
        extra = {tbl: rows - want.get(tbl, Counter()) for tbl, rows in t.rows().items()}
        assert not any(extra.values()), f"rows of what was broken were kept: {difference({}, extra)}"
        mend()
        assert_ok(t.run(**SMALL), "the run after it was mended")
        wrong = difference(want, once(want, t.rows(), t.subject.whole))
        assert not wrong, f"after it was mended: {wrong}"

    # chains and sinks

    def test_streaming_sinks_keep_nothing_back(self, trial: Callable[[], Trial]) -> None:
        for name in streaming_sinks(trial().subject.cls):
            seen = _progress(trial(), name, ROWS)
            for limit, so_far in sorted((n, passed) for n, passed in seen.items() if n >= 0):
                at_end = _progress(trial(), name, limit).get(-1)
                assert so_far == at_end, (
                    f"{name} says streaming=True, but of {limit} rows it had not passed everything on when it asked for the next:"
                    f" {_short(so_far)}, and {_short(at_end)} when it was ended there. Leave streaming out, or yield at once"
                )

    # what must not happen

    def test_preview_and_plan_store_nothing(self, trial: Callable[[], Trial]) -> None:
        t, fresh = trial(), trial()
        assert_ok(fresh.run(), "a run without a look before it")
        settings, config, env = t.settled()
        for _ in range(2):
            assert look.preview(t.subject.cls, settings, config, env, 5), "preview shows no table"
            look.plan(t.subject.cls, settings, config, env)
        assert not t.objects(), "a look wrote into the datastore"
        assert_ok(t.run(), "the run after the looks")
        wrong = difference(fresh.rows(), t.rows())
        assert not wrong, f"looking changed what a run brings: {wrong}"

    def test_secrets_stay_secret(self, trial: Callable[[], Trial]) -> None:
        t = trial()
        secrets = [s for s in t.subject.hidden() if "://" not in s or Redactor([s])(s) != s]  # a URL may hold none
        if not secrets:
            return  # its connections take none
        said, cut = io.StringIO(), Cut(1, "after", error=lambda: RuntimeError(f"login failed with {' '.join(secrets)}"))
        with redirect_stdout(said), redirect_stderr(said):
            outcomes = [t.run(cut_short(t.subject.cls, cut)), t.run()]
        leak = Redactor(secrets)
        told = {
            "output": said.getvalue(),
            "rows": repr(t.rows()),
            **{f"object {k}": v.decode("latin-1") for k, v in t.objects().items()},
        }
        for n, outcome in enumerate(outcomes):
            told[f"result {n}"] = repr(outcome.result)
            told |= {f"event {e.kind}": repr({k: v for k, v in e.data.items() if k != "error"}) for e in outcome.events}
        found = [where for where, text in told.items() if leak(text) != text or any(s in text for s in secrets if len(s) > 3)]
        assert not found, f"a secret of its connections shows in: {', '.join(found)}"

    def test_nothing_stays_open(self, trial: Callable[[], Trial]) -> None:
        def runs() -> None:
            assert_ok(trial().run(), "the run")
            t = trial()
            t.run(cut_short(t.subject.cls, Cut(1)))

        assert_nothing_stays_open(runs)


def _progress(t: Trial, name: str, limit: int) -> dict[int, Any]:
    """What the sink has passed on whenever it asked for a row, by rows it had by then; -1: when it had ended."""
    seen: dict[int, Any] = {}
    passed = 0
    observe = t.subject.observe.get(name, lambda: None)

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def watched(self: Any, **given: Any) -> Iterator[Any]:
            nonlocal passed
            asking = Asking(given["stream"], limit, lambda n: seen.__setitem__(n, (passed, observe())))
            for item in call(method.__get__(self), {**given, "stream": asking}) or ():
                passed += _rows_of(item)
                yield item
            seen[-1] = (passed, observe())

        def silent(self: Any, **given: Any) -> None:
            for _ in watched(self, **given):
                pass

        made: Any = watched if any(isinstance(s, SourceSpec) for s in specs_of(method)) else silent
        return functools.wraps(method)(made)

    assert_ok(t.run(replaced(t.subject.cls, {name: wrap})), f"a run that looks at {name}")
    return seen


def _rows_of(item: Any) -> int:
    return 1 if isinstance(item, dict) else len(item) if hasattr(item, "__len__") else int(item.num_rows)


def _short(seen: Any) -> str:
    passed, outside = seen if seen is not None else (None, None)
    return f"{passed} rows" + ("" if outside is None else f" and {outside!r:.80}")


def assert_nothing_stays_open(runs: Callable[[], None]) -> None:
    """`runs()` leaves neither a thread nor a file open. The first time may load what stays."""
    runs()
    before = _open()
    runs()
    until = time.monotonic() + PATIENCE
    while (more := _open() - before) and time.monotonic() < until:
        time.sleep(0.02)
    assert not more, f"left open after a session: {', '.join(more)}"


def _open() -> Counter[str]:
    """Threads by name, descriptors by what they are of."""
    gc.collect()
    found = Counter(f"thread {t.name}" for t in threading.enumerate())
    for fd in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            found[f"descriptor of {os.readlink(f'/proc/self/fd/{fd}')}"] += 1
        except OSError:  # the one that listed them
            continue
    return found
