"""What fails and how far it reaches: batch_policy, allow_failure, max_failures, the hooks that are told, what stays committed."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from anchovies.core.config import Config, config_from
from anchovies.core.errors import ConfigError, FatalError, Stopped
from anchovies.core.settings import resolve
from anchovies.engine.events import Event, silent
from anchovies.engine.limits import stopped_by
from anchovies.engine.loop import Loop
from anchovies.engine.session import SessionRun
from anchovies.sdk import Downloader, Stream, batch, context, on_task, sink, source

told: list[tuple[str, str | None, str | None, str]] = []


class Three(Downloader):
    """`a` and `c` are well, `b` fails `where`; all set a checkpoint after each of two units."""

    where = ""
    error: Any = RuntimeError("as it was told to")

    def fail(self, where: str) -> None:
        if where == self.where:
            raise self.error

    def units(self, name: str) -> Any:
        done = context().checkpoint(name)
        for n in range(done.get(0), 2):
            yield [{"n": n}]
            done.set(n + 1)
            self.fail(f"{name} {n}")

    @source("a")
    def a(self) -> Any:
        yield from self.units("a")

    @source("b")
    def b(self) -> Any:
        self.fail("b at once")
        yield from self.units("b")

    @source("c")
    def c(self) -> Any:
        yield from self.units("c")

    @sink("b")
    def look(self, stream: Stream) -> None:
        if self.where == "b sink":
            next(iter(stream))
            raise self.error
        list(stream)

    @on_task("tbl", tbl="b")
    def before(self) -> None:
        self.fail("b hook")

    @on_task("error")
    def failed(self, error: BaseException, tbl: Any, table: str | None, task: Any, **kwds: Any) -> None:
        assert (tbl and tbl.name) == table == task.tbl
        told.append((task.type, table, None, type(error).__name__))


def session(place: Any, operator: type, tbls: Any = None, listener: Any = silent, **settings: Any) -> SessionRun:
    told.clear()
    given = {"id": "a", "user": "tester", "datastore": place.url, **settings}
    config = config_from({"tbls": tbls}, "tbls") if tbls else Config()
    run = SessionRun(operator, resolve(given, {}, config), config, {}, listener, place.store)
    run.work()
    return run


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("policy", ["continue", "raise"])
@pytest.mark.parametrize(("error", "code"), [(RuntimeError("no"), 1), (ConfigError("no"), 2), (FatalError("no"), 1)])
@pytest.mark.parametrize("where", ["b at once", "b hook", "b 0", "b sink"])
def test_every_combination(place: Any, allow: bool, policy: str, error: Exception, code: int, where: str) -> None:
    cls = type("Three", (Three,), {"where": where, "error": error})
    run = session(place, cls, {"a": {}, "b": {"allow_failure": allow}}, batch_policy=policy)
    result = run.result
    name = type(error).__name__
    stops = policy == "raise" and not allow
    assert result.exit_code == (0 if allow else code)
    assert result.status == ("ok" if allow else "failed")
    assert {t.tbl: t.status for t in result.tables} == {"a": "ok", "b": "failed"} | ({} if stops else {"c": "ok"})
    assert next(t for t in result.tables if t.tbl == "b").err_type == name
    batch_hook = [] if allow else [("ERROR", None, None, name if stops else "TableFailures")]
    assert told == [("ERROR", "b", None, name), *batch_hook]
    assert (len(place.rows("a")), len(place.rows("b")), len(place.rows("c"))) == (2, 0, 0 if stops else 2)
    assert place.checkpoint("b") is None
    assert place.checkpoint("a") == 2


def test_what_was_committed_before_a_failure_stays_and_the_next_run_goes_on_from_there(place: Any) -> None:
    class Plain(Three):
        where = "b 0"
        look = None

    assert session(place, Plain).result.exit_code == 1
    assert (place.rows("b"), place.checkpoint("b")) == ([{"n": 0}], 1)
    Plain.where = ""
    assert session(place, Plain).result.exit_code == 0
    assert (place.rows("b"), place.checkpoint("b")) == ([{"n": 0}, {"n": 1}], 2)


@pytest.mark.parametrize("settings", [{}, {"batch_policy": "raise"}])
def test_a_batch_that_fails_in_its_tables_and_again_in_xclose_is_told_of_once(place: Any, settings: Any) -> None:
    class Twice(Three):
        where = "b at once"

        @on_task("xclose")
        def after(self) -> None:
            raise RuntimeError("this too")

    session(place, Twice, **settings)
    assert [t for t in told if t[1] is None] == [("ERROR", None, None, "RuntimeError" if settings else "TableFailures")]


# ---- max_failures


class Failing(Downloader):
    """Fails in the batches that `bad` names."""

    bad: Any = ()

    @source("t")
    def t(self) -> Any:
        yield {"n": batch().id}
        if batch().id in self.bad:
            raise RuntimeError(f"batch {batch().id} went wrong")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "backoff", lambda self: 0.0)


def service(place: Any, bad: Any, most: int, **settings: Any) -> SessionRun:
    ended = itertools.count(1)

    def listen(event: Event) -> None:
        if event.kind == "batch_ended" and next(ended) == most:
            runs[0].stop.set(stopped_by(15, "SIGTERM"))

    given = {"id": "a", "user": "tester", "datastore": place.url, "service": True, "interval": 0, **settings}
    cls = type("Failing", (Failing,), {"bad": bad})
    runs = [SessionRun(cls, resolve(given, {}, Config()), Config(), {}, listen, place.store)]
    runs[0].work()
    return runs[0]


@pytest.mark.usefixtures("hasty")
def test_a_service_gives_up_after_so_many_failed_batches_in_a_row(place: Any) -> None:
    run = service(place, range(100), 50, max_failures="3 batches")
    result = run.result
    assert (result.status, result.exit_code, result.batches) == ("failed", 1, 3)
    assert isinstance(run.error, FatalError)
    assert (
        "3 batches in a row failed, so the service gives up (max_failures); the last: t: RuntimeError: batch 3" in result.err_msg
    )
    assert not any("tried again" in w and "batch 3" in w for w in result.warnings)


@pytest.mark.usefixtures("hasty")
def test_a_batch_that_is_well_begins_the_count_anew(place: Any) -> None:
    run = service(place, (1, 2, 4, 5, 7, 8), 9, max_failures=3)
    assert isinstance(run.error, Stopped)
    assert (run.result.exit_code, run.result.batches) == (0, 9)


@pytest.mark.usefixtures("hasty")
def test_without_a_budget_a_service_never_gives_up(place: Any) -> None:
    assert service(place, range(100), 12).result.batches == 12


@pytest.mark.usefixtures("hasty")
def test_one_batch_is_a_budget_as_well(place: Any) -> None:
    result = service(place, (1,), 5, max_failures="1 batch").result
    assert (result.exit_code, result.batches) == (1, 1)
    assert result.err_msg.startswith("1 batch failed")


@pytest.mark.parametrize("wrong", ["0", "-1", "3 batchs", "three", "1.5", 0, True])
def test_a_budget_is_a_number_of_batches(place: Any, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="max.failures: expected a number of batches, 1 or more"):
        resolve({"max_failures": wrong}, {}, Config())


def test_the_budget_of_a_configuration() -> None:
    settings = resolve({}, {}, config_from({"config": {"max_failures": "3 batches"}}, "config.yaml"))
    assert settings.max_failures == 3
    assert next(s.shown for s in settings if s.setting.name == "max_failures") == "3 batches"
