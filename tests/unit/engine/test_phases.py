"""Phases and hooks: their order, what they are handed, what they set, what runs after failures."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from typing import Any

import pytest

from anchovies.core.errors import ConfigError
from anchovies.engine.outcome import TableFailures
from anchovies.sdk import Connection, Downloader, Tbl, attr, batch, context, on_task, session, source

said: list[str] = []


class Hooked(Downloader):
    """Says what runs, in `said`. `fails` names phases, or tables, that raise."""

    fails: tuple[str, ...] = ()

    def say(self, what: str) -> None:
        said.append(what)
        if what in self.fails:
            raise RuntimeError(what)

    @on_task("startup")
    def on_startup(self, **kwds: Any) -> None:
        self.say("startup")

    @on_task("xopen")
    def on_xopen(self) -> None:
        self.say("xopen")

    @on_task("tbl")
    def on_every(self, tbl: Tbl, table: str) -> None:
        assert tbl.name == table
        self.say(f"tbl {table}")

    @on_task("tbl", tbl="b")
    def on_b(self, table: str) -> None:
        self.say("only b")

    @on_task("xclose")
    def on_xclose(self) -> None:
        self.say("xclose")

    @on_task("error")
    def on_error(self, error: BaseException, table: str | None) -> None:
        self.say(f"error {table} {error}")

    @on_task("shutdown")
    def on_shutdown(self) -> None:
        self.say("shutdown")

    @source("a")
    def a(self) -> Any:
        self.say("source a")
        yield {"n": 1}

    @source("b")
    def b(self) -> Any:
        self.say("source b")
        yield {"n": 1}


def run(place: Any, *fails: str, **settings: Any) -> list[str]:
    said.clear()
    cls = type("Hooked", (Hooked,), {"fails": fails})
    if fails:
        with pytest.raises((RuntimeError, TableFailures)):
            place.run(cls, **settings)
    else:
        place.run(cls, **settings)
    return list(said)


def test_the_order_of_a_task(place: Any) -> None:
    a, b = ["tbl a", "source a"], ["tbl b", "only b", "source b"]
    assert run(place) == ["startup", "xopen", *a, *b, "xclose", "shutdown"]


def test_one_failing_table_does_not_stop_the_others(place: Any) -> None:
    got = run(place, "source a")
    assert got[3:-3] == ["source a", "error a source a", "tbl b", "only b", "source b"]
    assert got[-3:] == ["error None a: RuntimeError: source a (test_phases.py:27, in say)", "xclose", "shutdown"]
    assert place.rows("b") == [{"n": 1}]


def test_the_policy_raise_stops_at_once(place: Any) -> None:
    got = run(place, "source a", batch_policy="raise")
    assert got[3:] == ["source a", "error a source a", "error None source a", "xclose", "shutdown"]


@pytest.mark.parametrize(
    ("fails", "after"),
    [
        ("startup", ["shutdown"]),
        ("xopen", ["error None xopen", "xclose", "shutdown"]),
        ("tbl a", ["error a tbl a", "tbl b", "only b", "source b", "error None a: RuntimeError", "xclose", "shutdown"]),
        ("xclose", ["error None xclose", "shutdown"]),
        ("shutdown", []),
    ],
)
def test_what_runs_after_a_failing_hook(place: Any, fails: str, after: list[str]) -> None:
    got = run(place, fails)
    assert [g.partition(": tbl a")[0] for g in got[got.index(fails) + 1 :]] == after


def test_a_failing_error_hook_is_a_warning(place: Any) -> None:
    cls = type("Hooked", (Hooked,), {"fails": ("source a", "error a source a")})
    with pytest.raises(RuntimeError, match="source a"):
        place.run(cls)
    (key,) = place.named("_results.json")
    assert any("hook failed as well" in w for w in json.loads(place.store.get(key))["warnings"])


def test_a_datastore_that_is_not_there_runs_no_hooks(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Any) -> None:
        raise ConfigError("no log")

    monkeypatch.setattr("anchovies.store.log.Log.load", load)
    said.clear()
    with pytest.raises(ConfigError, match="no log"):
        place.run(Hooked)
    assert said == []


def test_a_failing_task_is_on_record_and_so_is_every_phase(place: Any) -> None:
    run(place, "source a")
    lines = [json.loads(x) for k in sorted(place.named("$task_logs")) for x in place.store.get(k).splitlines()]
    assert [(x["task_type"], x["tbl"], x["status"]) for x in lines] == [
        ("STARTUP", None, "OK"), ("XOPEN", None, "OK"), ("TBL", "a", "ERR"), ("ERROR", "a", "ERR"),
        ("TBL", "b", "OK"), ("ERROR", None, "ERR"), ("XCLOSE", None, "OK"), ("SHUTDOWN", None, "OK"),
    ]  # fmt: skip
    bad = next(x for x in lines if x["status"] == "ERR")
    assert (bad["data"]["err_type"], bad["data"]["err_msg"]) == ("RuntimeError", "source a")
    assert bad.keys() >= {
        "anchovy_id", "anchovy_user", "session_id", "batch_id", "thread_id", "operator", "task_type", "duration",
        "timestamp", "status", "tbl", "data",
    }  # fmt: skip
    assert (bad["anchovy_id"], bad["anchovy_user"], bad["batch_id"], bad["operator"]) == ("a", "tester", 1, "Hooked")


def test_allow_failure(place: Any) -> None:
    cls = type("Hooked", (Hooked,), {"fails": ("source a",)})
    result = place.run(cls, tbls={"a": {"allow_failure": True}})
    assert (result.exit_code, result.status) == (0, "ok")
    assert [(t.tbl, t.status) for t in result.tables] == [("a", "failed"), ("b", "ok")]
    assert any("allow_failure" in w for w in result.warnings)


def test_two_failures_are_one_error_that_names_both(place: Any) -> None:
    cls = type("Hooked", (Hooked,), {"fails": ("source a", "source b")})
    with pytest.raises(TableFailures, match=r"2 tables failed \(a, b\); the first: a: RuntimeError: source a") as caught:
        place.run(cls)
    assert caught.value.exit_code == 1


class Settings(Downloader):
    """Sets a checkpoint in every hook and in its source."""

    seen: list[Any] = []

    @on_task("startup")
    def on_startup(self) -> None:
        context().checkpoint("startup").set(1)
        context().checkpoint("both").set("hook")
        context().ledger("hooks").put("k", 1)

    @on_task("xopen")
    def on_xopen(self) -> None:
        assert context().checkpoint("startup").get() == 1
        assert "k" in context().ledger("hooks")

    @source("t")
    def t(self) -> Any:
        assert context().checkpoint("both").get() == "hook"
        assert len(context().ledger("hooks")) == 1
        yield {"n": 1}
        context().checkpoint("both").set("source")

    @on_task("xclose")
    def on_xclose(self) -> None:
        assert context().checkpoint("both").get() == "source"
        context().checkpoint("xclose").set(2)

    @on_task("shutdown")
    def on_shutdown(self) -> None:
        assert context().checkpoint("both").get() == "source"
        context().checkpoint("shutdown").set(3)


def test_what_hooks_set_is_committed_in_order(place: Any) -> None:
    place.run(Settings)
    values = {k: v.value for k, v in place.state().checkpoints.items()}
    assert values == {"startup": 1, "both": "source", "xclose": 2, "shutdown": 3}
    records = [set(r.change.checkpoints.set) for r in place.records()]
    assert records.index({"xclose"}) > records.index({"both"})


def test_what_a_hook_set_vanishes_with_its_batch(place: Any) -> None:
    class Failing(Downloader):
        @on_task("xopen")
        def on_xopen(self) -> None:
            context().checkpoint("x").set(1)
            raise RuntimeError("no")

        @source("t")
        def t(self) -> Any:
            yield {"n": 1}

    with pytest.raises(RuntimeError):
        place.run(Failing)
    assert place.checkpoint("x") is None


def test_context_session_batch_in_any_thread(place: Any) -> None:
    seen: list[Any] = []

    class Threaded(Downloader):
        @source("t")
        def t(self, task: Any) -> Any:
            task.with_(pages=3)
            other = threading.Thread(target=lambda: seen.append((session().anchovy_id, batch().id, list(batch().tbls))))
            other.start()
            other.join()
            assert session().user == context().session.user == "tester"
            yield {"n": 1}

    place.run(Threaded)
    assert seen == [("a", 1, ["t"])]
    (key,) = place.named("$task_logs")
    records = [json.loads(line) for line in place.store.get(key).splitlines()]
    assert [r["data"]["pages"] for r in records if r["tbl"] == "t"] == [3]
    with pytest.raises(ConfigError, match="outside"):
        context()


def test_a_hook_or_a_source_that_wants_what_nobody_has(place: Any) -> None:
    class Wants(Downloader):
        @source("t")
        def t(self, pages: int, **kwds: Any) -> Any:
            yield {"n": pages}

    with pytest.raises(ConfigError, match="wants 'pages'"):
        place.run(Wants)


class Shop(Connection):
    uri: str = attr("where")

    def get_sales(self) -> list[dict[str, Any]]:
        return [{"n": 1}, {"n": 2}]


def test_the_examples_of_the_original(place: Any) -> None:
    class Sales(Downloader):
        connection_cls = Shop

        @source("sales")
        def download_sales(self, **kwds: Any) -> Any:
            assert kwds["table"] == "sales"
            with ExitStack() as stack:
                shop = stack.enter_context(self.connection)
                assert shop is self.cnxn
                yield self.cnxn.get_sales()
            context().checkpoint("x").set(1)

        @source()
        def source_all(self, table: str, **kwds: Any) -> Any:
            yield {"t": table}

        def discover_tbls(self) -> Any:
            yield Tbl("other")

    place.run(Sales, cnxns={"default": {"uri": "shop://x"}})
    assert place.rows("sales") == [{"n": 1}, {"n": 2}]
    assert place.rows("other") == [{"t": "other"}]
