"""Classes in place of ours: what each is told, what it may change, and that none of them can break a run."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.clock import SystemClock
from anchovies.engine.limits import Deadline, StopSignal
from anchovies.engine.parts import KINDS, Parts
from anchovies.sdk import ConfigError, Downloader, FatalError, SessionResult, batch, context, session, source
from anchovies.sdk.parts import Batch, CheckpointStore, Limits, ResultStore, Session, TaskRecord, TaskStore, TblStore
from anchovies.store.buffers import expect_buffer
from anchovies.store.buffers.jsonl import JsonLinesBuffer
from anchovies.store.memory import MemoryStore

seen: list[Any] = []


class Numbers(Downloader):
    """Two more rows each time."""

    @source("numbers")
    def numbers(self) -> Any:
        cursor = context().checkpoint("last")
        for n in range(cursor.get(0), cursor.get(0) + 2):
            yield {"n": n}
            cursor.set(n + 1)


class Coded(CheckpointStore):
    """Keeps numbers as texts, and tells of each copy."""

    def encode(self, key: str, value: Any) -> Any:
        return f"#{value}"

    def decode(self, key: str, kept: Any) -> Any:
        return int(kept.removeprefix("#"))

    def write(self, key: str, kept: Mapping[str, Any] | None) -> None:
        seen.append((key, kept and kept["value"]))


def test_checkpoint_values_are_kept_as_the_class_says_and_copied_where_it_says(place: Any) -> None:
    seen.clear()
    for _ in range(2):
        place.run(Numbers, checkpoint_cls=Coded)
    assert place.checkpoint("last") == "#4"
    assert [r["n"] for r in place.rows("numbers")] == [0, 1, 2, 3]
    assert seen == [("last", "#2"), ("last", "#4")]
    assert not place.named("$checkpoints"), "it did not call super().write"


@pytest.mark.parametrize("method", ["encode", "decode"])
def test_a_checkpoint_class_that_raises_fails_the_table_and_nothing_of_it_is_kept(place: Any, method: str) -> None:
    place.run(Numbers)

    def broken(self: Any, key: str, value: Any) -> Any:
        raise ValueError(f"no key for {key}")

    cls = type("Broken", (CheckpointStore,), {method: broken})
    with pytest.raises(
        FatalError, match=rf"--checkpoint-cls .*Broken: {method} of the checkpoint 'last' failed: ValueError: no key"
    ):
        place.run(Numbers, checkpoint_cls=cls)
    assert place.checkpoint("last") == 2
    assert [r["n"] for r in place.rows("numbers")] == [0, 1]


def test_what_a_checkpoint_class_makes_has_to_be_json(place: Any) -> None:
    cls = type("Odd", (CheckpointStore,), {"encode": lambda self, key, value: object()})
    with pytest.raises(ConfigError, match="checkpoint"):
        place.run(Numbers, checkpoint_cls=cls)
    assert place.checkpoint("last") is None


class Owned(TblStore):
    def write(self, name: str, tbl: Mapping[str, Any] | None) -> None:
        super().write(name, tbl and {**tbl, "owner": "sales"})


def test_a_table_store_adds_to_the_copies_and_not_to_the_truth(place: Any) -> None:
    place.run(Numbers, tbl_store_cls=Owned)
    assert json.loads(place.store.get("tester/a/$tables/numbers.json"))["owner"] == "sales"
    assert "owner" not in place.state().tables["numbers"]


class Listed(TaskStore):
    def write(self, records: Sequence[TaskRecord], batch_id: int) -> None:
        seen.append((batch_id, [r.tbl for r in records if r.task_type == "TBL"], self.place.anchovy_id))


def test_a_task_store_gets_what_finished_in_place_of_ours(place: Any) -> None:
    seen.clear()
    place.run(Numbers, task_store_cls=Listed)
    assert (1, ["numbers"], "a") in seen
    assert not place.named("$task_logs")


class Short(ResultStore):
    def write(self, result: SessionResult) -> None:
        seen.append((result.rows, result.session_id == self.place.session_id))
        result.exit_code = 99


def test_a_result_store_gets_a_copy(place: Any) -> None:
    seen.clear()
    assert place.run(Numbers, result_store_cls=Short).exit_code == 0
    assert seen == [(2, True)]
    assert not place.named("$results")


class Failing:
    """Fits every store; each `write` raises."""

    def __init__(self, place: Any) -> None: ...

    def encode(self, key: str, value: Any) -> Any:
        return value

    decode = encode

    def write(self, *args: Any) -> None:
        raise OSError("the disk is full")

    def close(self) -> None:
        raise OSError("still full")


@pytest.mark.parametrize("name", [n for n, (_, _, methods) in KINDS.items() if "write" in methods])
def test_a_copy_that_cannot_be_written_is_a_warning_and_nothing_else(place: Any, name: str) -> None:
    result = place.run(Numbers, **{name: Failing})
    assert (result.status, result.commits, place.checkpoint("last")) == ("ok", 1, 2)
    flag = f"--{name.replace('_', '-')}"
    assert [w for w in result.warnings if flag in w and "Failing" in w and "OSError: the disk is full" in w], result.warnings
    assert [w for w in result.warnings if "close failed: OSError: still full" in w]
    assert bool(place.named("$task_logs")), "records of tasks are kept all the same"
    assert bool(place.named("$results"))


def test_a_part_that_wants_to_exit_ends_nothing(place: Any) -> None:
    def write(self: Any, *args: Any) -> None:
        raise SystemExit(7)

    result = place.run(Numbers, task_store_cls=type("Exits", (TaskStore,), {"write": write}))
    assert (result.status, result.commits) == ("ok", 1)
    assert [w for w in result.warnings if "SystemExit: 7" in w]
    assert place.named("$task_logs")


class Named(Session):
    team = "sales"

    def __init__(self, id: str, anchovy_id: str, user: str) -> None:
        super().__init__(f"{id}-nightly", anchovy_id, user)


class Paged(Batch):
    def __init__(self, id: int, limits: Limits) -> None:
        super().__init__(id, limits)
        self.pages = 0

    def turned(self) -> int:
        self.pages += 1
        return self.pages


def test_sessions_and_batches_of_a_class_of_ones_own(place: Any) -> None:
    class Asks(Downloader):
        @source("t")
        def t(self) -> Any:
            mine: Any = batch()
            seen.append((session().team, mine.turned(), mine.turned(), mine.id, list(mine.tbls), mine.time_left()))  # type: ignore[attr-defined]
            yield {"n": 1}

    seen.clear()
    result = place.run(Asks, session_cls=Named, batch_cls=Paged)
    assert seen == [("sales", 1, 2, 1, ["t"], None)]
    assert result.session_id.endswith("-nightly")
    assert [k for k in place.objects() if f"{result.session_id}_results.json" in k]
    assert place.records()[0].writer.session == result.session_id


class Renamed(Session):
    def __init__(self, id: str, anchovy_id: str, user: str) -> None:
        super().__init__("mine/1", anchovy_id, user)


class Forgetful(Batch):
    def __init__(self, id: int, limits: Limits) -> None:
        self.id = id


class Endless(Batch):
    def check(self) -> None:
        pass


class NoWrite:
    def __init__(self, place: Any) -> None: ...


class NoPlace(TaskStore):
    def __init__(self) -> None: ...


@pytest.mark.parametrize(
    ("name", "cls", "words"),
    [
        ("session_cls", Renamed, "the id 'mine/1' does not go on from"),
        ("session_cls", NoWrite, "is not a subclass of anchovies.sdk.parts.Session"),
        ("batch_cls", Forgetful, "is not made whole"),
        ("batch_cls", Endless, r"overrides check\(\)"),
        ("task_store_cls", NoWrite, r"has no method write\(records, batch_id\)"),
        ("checkpoint_cls", NoWrite, r"has no method encode\(key, value\)"),
        ("tbl_store_cls", NoWrite, r"has no method write\(name, tbl\)"),
        ("result_store_cls", NoWrite, r"has no method write\(result\)"),
        ("task_store_cls", NoPlace, "could not be made: TypeError"),
        ("task_store_cls", "HiveTaskStor", "there is no task store 'HiveTaskStor'"),
        ("task_store_cls", "json:nothing", "there is no 'nothing' in 'json'"),
        ("tbl_store_cls", "json:dumps", "is no class"),
        ("tbl_store_cls", "./nowhere.py:Cls", "there is no file"),
        ("result_store_cls", "nowhere.at.all:Cls", "there is no module 'nowhere' for the result store"),
    ],
)
def test_what_is_no_part_is_refused_at_the_start(place: Any, name: str, cls: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        place.run(Numbers, **{name: cls})
    assert f"--{name.replace('_', '-')}" in caught.value.message
    assert not place.objects()


def test_near_names_are_named(place: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        place.run(Numbers, task_store_cls="HiveTaskStor")
    assert "HiveTaskStore" in (caught.value.hint or "")
    (tmp_path / "near.py").write_text("class Tasks: ...\n")
    with pytest.raises(ConfigError) as caught:
        place.run(Numbers, task_store_cls=f"{tmp_path}/near.py:Task")
    assert caught.value.hint == "did you mean 'Tasks'?"
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="cannot be loaded: ZeroDivisionError"):
        place.run(Numbers, task_store_cls=f"{tmp_path}/broken.py:Task")


def test_the_hive_store_lays_all_anchovies_side_by_side(place: Any) -> None:
    for id in ("a", "B 2"):
        place.run(Numbers, id=id, task_store_cls="HiveTaskMetastore")
    (one, two) = place.named("$task_logs")
    assert one.startswith("$task_logs/anchovy_user=tester/anchovy_id=%42%202/1.2")
    assert two.startswith("$task_logs/anchovy_user=tester/anchovy_id=a/1.2")
    assert two.endswith(".json")
    records = [json.loads(x) for x in place.store.get(two).splitlines()]
    assert [r["tbl"] for r in records if r["task_type"] == "TBL"] == ["numbers"]


def test_the_records_of_an_abandoned_session_go_to_a_class_of_ours() -> None:
    from anchovies.core.config import Config
    from anchovies.core.settings import resolve

    for cls, kind in ((Listed, TaskStore), ("HiveTaskStore", None)):
        parts = Parts(
            resolve({"id": "a", "user": "u", "task_store_cls": cls}, {}, Config()), MemoryStore(), "20260101T000000Z-000000"
        )
        found = parts.last_tasks("20260101T000000Z-000000-end")
        assert kind is None or type(found) is kind
        assert found.place.session_id.endswith("-end")


class Gz(JsonLinesBuffer):
    name, ext = "mine", "mine.gz"


def test_a_data_buffer_of_ones_own_is_read_by_whoever_names_it(place: Any) -> None:
    place.run(Numbers, data_buffer_cls=Gz)
    assert [f.file.path.endswith(".mine.gz") for f in place.files("numbers")] == [True]
    assert [r["n"] for r in place.rows("numbers")] == [0, 1]
    expect_buffer(Gz)


def test_parts_are_called_from_any_thread(place: Any) -> None:
    class Threaded(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": 1}
            other = threading.Thread(target=lambda: context().checkpoint("last").set(7))
            other.start()
            other.join()

    place.run(Threaded, checkpoint_cls=Coded)
    assert place.checkpoint("last") == "#7"


def test_the_engine_looks_at_its_own_clock(place: Any) -> None:
    from anchovies.core.config import Config
    from anchovies.core.settings import resolve

    parts = Parts(resolve({"id": "a", "user": "u", "batch_cls": Paged}, {}, Config()), MemoryStore(), "20260101T000000Z-000000")
    clock = SystemClock()
    made = parts.batch(3, Deadline(clock, clock.monotonic() + 60, 60), StopSignal())
    assert (made.id, type(made)) == (3, Paged)
    assert (made.time_left() or 0) > 30
