"""What every uploader must do, as tests. An author's is tested by a subclass that says how to make one:

class TestMine(UploaderSuite):
    def make(self, folder):
        file = folder / "target"  # what it loads into: a file, a table, a fake of the server
        return Target(Mine, cnxns={"default": {"path": str(file)}}, contents=lambda: {"items": read(file)})

`make` is called for each run that begins from nothing, with an empty folder. See `anchovies.testing.uploads.Target`.
`--anchovy-chaos` ends the operator at every place instead of a few.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.env import Redactor
from anchovies.core.errors import ConfigError, RetryableError
from anchovies.engine import look
from anchovies.sdk.stream import Counts, Load, Position, PositionMoved
from anchovies.testing.breaking import breaking
from anchovies.testing.chaosruns import ChaosRuns, assert_ok
from anchovies.testing.downloader import assert_nothing_stays_open
from anchovies.testing.endings import replaced
from anchovies.testing.uploads import Target, Upload

Method = Callable[..., Any]


class UploaderSuite:
    """Subclass it, name it `Test…`, and override `make`."""

    def make(self, folder: Path) -> Target:
        """An uploader with a target of its own, which may lie in `folder` (empty)."""
        raise ConfigError("the suite does not know what to test", hint="override make(self, folder) and return a Target")

    @pytest.fixture
    def upload(self, anchovy_chaos: ChaosRuns) -> Iterator[Callable[..., Upload]]:
        """`upload()`: the uploader before a new target, and an upstream that has committed."""
        yield lambda **how: Upload(anchovy_chaos.world(self.make), **how)

    # once and again

    def test_it_loads_everything_once(self, upload: Callable[..., Upload]) -> None:
        u = upload()
        assert_ok(u.run(), "the first load")
        u.assert_loaded("after the first load")
        commits, there = u.commits(), u.there()
        assert_ok(u.run(), "the second load")
        assert u.there() == there, "nothing came, but the second run changed the target"
        assert u.commits() == commits, "nothing came, but the second run committed something"
        assert not u.broken()

    def test_it_goes_on_where_it_stopped(self, upload: Callable[..., Upload]) -> None:
        u = upload(whole=False)
        assert_ok(u.run(), "the first load")
        u.assert_loaded("after all commits but one")
        u.bring()
        assert_ok(u.run(), "the load of the last commit")
        u.assert_loaded("after the last commit")

    def test_a_target_that_stands_elsewhere_is_believed(self, upload: Callable[..., Upload]) -> None:
        """A renamed uploader, or one whose own log was lost: the position belongs to the target."""
        u = upload()
        if not u.transactional:
            return  # its position lies in its own log
        assert_ok(u.run(), "the first load")
        u.home = type(u.home)(u.home.user, "renamed")
        assert_ok(u.run(), "the load by another name")
        u.assert_loaded("after an uploader of another name came")

    # when it fails

    def test_an_end_at_any_request_or_row_loses_and_doubles_nothing(self, anchovy_chaos: ChaosRuns) -> None:
        anchovy_chaos.loads(self.make)

    @pytest.mark.parametrize("nth", [1, 2, 3])
    def test_a_load_that_breaks_off_changes_nothing(self, upload: Callable[..., Upload], nth: int) -> None:
        """Its rows stop coming in the middle: no row of it, and no position, stays in the target."""
        u = upload()
        if not u.transactional:
            return
        assert not u.run(breaking(u.subject.cls, nth)).ok, "the rows broke off, and it said nothing"
        there = {t: rows for t, rows in u.there().items() if rows}
        assert not there, f"a load that failed left rows behind: {there}"
        assert_ok(u.run(), "the load after it")
        u.assert_loaded("after a load that had broken off")

    def test_a_lost_answer_loads_nothing_twice(self, upload: Callable[..., Upload]) -> None:
        """It loaded, and the connection broke before it could say so: the target knows."""
        u = upload()
        if not u.transactional:
            return
        assert_ok(u.run(_loading(u, _answer_lost())), "the load whose answer was lost")
        u.assert_loaded("after an answer was lost")

    def test_a_load_that_begins_elsewhere_is_refused(self, upload: Callable[..., Upload]) -> None:
        u = upload()
        if not u.transactional:
            return
        said: list[str] = []
        assert_ok(u.run(_loading(u, _twice(said))), "the run")
        assert said and set(said) == {"refused"}, (
            "a load whose start is not where the target stands was taken: check the position in the load's own transaction, and"
            " raise PositionMoved"
        )
        u.assert_loaded("after the same loads came twice")

    def test_a_sink_that_fails_gets_its_rows_again(self, upload: Callable[..., Upload]) -> None:
        u = upload()
        if u.transactional:
            return
        assert not u.run(breaking(u.subject.cls, 2)).ok, "its sink failed, and the run said that all went well"
        assert_ok(u.run(), "the run after it")
        u.assert_loaded("after a sink had failed in the middle")

    # what must not happen

    def test_plan_changes_nothing(self, upload: Callable[..., Upload]) -> None:
        u = upload()
        objects = u.objects()
        settings, config, env = u.settled(upstream=["upstream"])
        assert look.plan(u.subject.cls, settings, config, env), "plan has nothing to say of any table"
        assert u.objects() == objects, "a look wrote into the datastore"
        assert not any(u.there().values()), "a look loaded rows"
        assert_ok(u.run(), "the run after it")
        u.assert_loaded("after a look")

    def test_secrets_stay_secret(self, upload: Callable[..., Upload]) -> None:
        u = upload()
        secrets = u.subject.hidden()
        if not secrets:
            return
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            outcome = u.run()
        told = {"output": said.getvalue(), "the result": repr(outcome.result)}
        told |= {f"event {e.kind}": repr({k: v for k, v in e.data.items() if k != "error"}) for e in outcome.events}
        told |= {f"object {key}": data.decode("latin-1") for key, data in u.objects().items()}
        leak = Redactor(secrets)
        found = [where for where, text in told.items() if leak(text) != text]
        assert not found, f"a secret of its connections shows in: {', '.join(found)}"

    def test_nothing_stays_open(self, upload: Callable[..., Upload]) -> None:
        def runs() -> None:
            assert_ok(upload().run(), "the load")
            u = upload()
            u.run(breaking(u.subject.cls, 1))

        assert_nothing_stays_open(runs)


def _loading(u: Upload, do: Callable[[Callable[[Any], Counts], Load], Counts]) -> type[Any]:
    """The uploader, with `do(its load, what it shall load)` in place of its load."""

    def wrap(method: Method) -> Method:
        return lambda self, load: do(method.__get__(self), load)

    return replaced(u.subject.cls, {"load": wrap})


def _answer_lost() -> Callable[[Callable[[Any], Counts], Load], Counts]:
    lost: list[Position] = []

    def do(real: Callable[[Any], Counts], load: Load) -> Counts:
        counts = real(load)
        if not lost:
            lost.append(load.end)
            raise RetryableError("the connection broke before the answer came, because a test wants it")
        return counts

    return do


def _twice(said: list[str]) -> Callable[[Callable[[Any], Counts], Load], Counts]:
    def do(real: Callable[[Any], Counts], load: Load) -> Counts:
        counts = real(load)
        try:
            real(load)
            said.append("taken")
        except PositionMoved:
            said.append("refused")
        return counts

    return do
