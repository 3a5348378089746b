"""One record a task: every phase, whatever fails, and what its data say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anchovies.core.errors import StoreUnavailable
from anchovies.sdk import AlreadyRunning, ConfigError, Downloader, Uploader, on_task, sink, source
from anchovies.store.keys import Home
from anchovies.store.tasklog import TaskLog, TaskRecord
from anchovies.store.tasklogs import TaskLogs


def log(place: Any, id: str = "a") -> list[dict[str, Any]]:
    """Every record of an anchovy, in the order in which they were written."""
    keys = [k for k in sorted(place.named("$task_logs")) if f"/{id}/" in k]
    return [json.loads(x) for k in keys for x in place.store.get(k).splitlines()]


def tasks(place: Any, id: str = "a") -> list[tuple[str, Any, str, int]]:
    return [(r["task_type"], r["tbl"], r["status"], r["batch_id"]) for r in log(place, id)]


class Plain(Downloader):
    @source("t")
    def t(self) -> Any:
        yield {"n": 1}


class Hinted(Downloader):
    @source("t")
    def t(self) -> Any:
        raise ConfigError("no page", hint="ask for a page")
        yield


def test_every_phase_is_a_task_with_hooks_or_without(place: Any) -> None:
    place.run(Plain)
    assert tasks(place) == [
        ("STARTUP", None, "OK", 0), ("XOPEN", None, "OK", 1), ("TBL", "t", "OK", 1), ("XCLOSE", None, "OK", 1), ("SHUTDOWN", None, "OK", 1),
    ]  # fmt: skip
    (tbl,) = (r for r in log(place) if r["tbl"])
    assert (tbl["data"]["rows"], tbl["data"]["files"], tbl["operator"]) == (1, 1, "Plain")
    assert tbl["data"]["bytes"] > 0
    assert len(place.named("$task_logs")) == 1, "one object a run"


def test_a_run_that_finds_nothing_leaves_no_record(place: Any) -> None:
    place.run(type("Idle", (Downloader,), {"t": source("t")(lambda self: iter(()))}))
    before = len(log(place))
    place.run(type("Idle", (Downloader,), {"t": source("t")(lambda self: iter(()))}))
    assert len(log(place)) == before


def test_a_failure_is_on_record_with_its_class_its_words_and_the_way_out(place: Any) -> None:
    with pytest.raises(ConfigError):
        place.run(Hinted)
    bad = [r for r in log(place) if r["status"] == "ERR"]
    assert [(r["task_type"], r["tbl"]) for r in bad] == [("TBL", "t"), ("ERROR", "t"), ("ERROR", None)]
    assert bad[2]["data"]["err_type"] == "TableFailures"
    assert bad[0]["data"]["where"].startswith("test_tasklog.py:")
    for r in bad[:2]:
        assert {k: r["data"][k] for k in ("err_type", "err_msg", "hint")} == {
            "err_type": "ConfigError", "err_msg": "no page", "hint": "ask for a page",
        }  # fmt: skip


def test_a_batch_that_fails_as_a_whole_is_on_record(place: Any) -> None:
    with pytest.raises(ConfigError, match="nothing"):
        place.run(Plain, enabled="nothing")
    assert ("ERROR", None, "ERR", 1) in tasks(place)


@pytest.mark.parametrize(("phase", "batch"), [("startup", 0), ("shutdown", 1)])
def test_a_hook_that_fails_outside_of_a_batch_is_on_record(place: Any, phase: Any, batch: int) -> None:
    class Failing(Plain):
        @on_task(phase)
        def hook(self) -> None:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        place.run(Failing)
    assert (phase.upper(), None, "ERR", batch) in tasks(place)


def test_a_datastore_that_fails_before_the_first_batch_is_on_record(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Any) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr("anchovies.store.log.Log.load", load)
    with pytest.raises(StoreUnavailable):
        place.run(Plain)
    assert [(r["task_type"], r["data"]["err_type"]) for r in log(place) if r["status"] == "ERR"] == [
        ("ERROR", "StoreUnavailable")
    ]


def test_a_hook_of_the_error_phase_that_fails_as_well(place: Any) -> None:
    class Twice(Hinted):
        @on_task("error")
        def told(self) -> None:
            raise ValueError("no mail")

    with pytest.raises(ConfigError):
        place.run(Twice)
    record = next(r for r in log(place) if (r["task_type"], r["tbl"]) == ("ERROR", "t"))
    assert record["data"]["err_msg"] == "no page"
    assert record["data"]["hook_error"].startswith("ValueError: no mail")


def test_a_run_that_may_not_start_beside_another_is_on_record(place: Any) -> None:
    class Nested(Downloader):
        @source("t")
        def t(self) -> Any:
            with pytest.raises(AlreadyRunning):
                place.run(Plain, if_running="fail")
            yield {"n": 1}

    place.run(Nested)
    assert [r["data"]["err_type"] for r in log(place) if r["status"] == "ERR"] == ["AlreadyRunning"]


def test_an_uploader_says_how_long_rows_were_on_their_way(place: Any) -> None:
    class Takes(Uploader):
        @sink("t")
        def t(self, stream: Any) -> None:
            list(stream)

    place.run(Plain)
    place.run(Takes, id="up", upstream="a")
    (record,) = (r for r in log(place, "up") if r["tbl"])
    assert 0 <= record["data"]["lag"] < 600
    assert record["data"]["rows"] == 1


def test_reading_begins_with_the_newest_and_goes_no_further_than_it_has_to(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        place.run(Plain, id="b")
    place.run(Plain, id="c", task_store_cls="HiveTaskStore")
    place.store.put(f"{Home('tester', 'b').task_logs}zzz.jsonl", b'not json\n{"a": 1}\n')
    store = place.store
    read: list[str] = []
    many = store.get_many
    monkeypatch.setattr(store, "get_many", lambda keys: many([read.append(k) or k for k in keys]))
    monkeypatch.setattr("anchovies.store.tasklogs.AT_ONCE", 2)
    found = TaskLogs(store, "tester")
    newest = found.newest(2, lambda r: r.tbl == "t")
    assert [r.anchovy_id for r in newest] == ["b", "c"]
    assert newest[0].timestamp < newest[1].timestamp
    assert len(read) == 4, "two looks of two objects: one of them was no log"
    assert [r.anchovy_id for r in TaskLogs(store, "tester", "c").newest(9, lambda r: r.tbl is not None)] == ["c"]
    assert found.fresh(lambda r: True) == []
    place.run(Plain, id="d")
    assert [r.tbl for r in found.fresh(lambda r: r.task_type == "TBL")] == ["t"]
    assert found.fresh(lambda r: True) == []


def test_records_that_cannot_be_written_do_not_pile_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.store.tasklog.MOST_KEPT", 3)

    def away(records: Any, batch: int) -> None:
        raise StoreUnavailable("away")

    log = TaskLog(away)
    for n in range(5):
        log.add(
            TaskRecord(
                anchovy_id="a",
                anchovy_user="me",
                session_id="s",
                batch_id=n,
                thread_id=0,
                operator="O",
                task_type="TBL",
                duration=0,
                timestamp="",
                status="ERR",
            )
        )
        with pytest.raises(StoreUnavailable):
            log.write(n)
    assert [r.batch_id for r in log.records] == [2, 3, 4]
