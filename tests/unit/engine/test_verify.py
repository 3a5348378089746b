"""What `verify` sees: every object that a log rests on, damaged in every way we could think of, and nothing where nothing is wrong."""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from anchovies.core.clock import SystemClock
from anchovies.core.config import Config
from anchovies.core.errors import StoreUnavailable
from anchovies.core.ids import SystemIds
from anchovies.core.settings import resolve
from anchovies.engine.edits import edit_log
from anchovies.engine.verify import Verified, Verifier
from anchovies.plugins.sql import Uploader
from anchovies.sdk import Downloader, context, source
from anchovies.store import keys, snapshot
from anchovies.store import log as log_module
from anchovies.store.audit import homes
from anchovies.store.keys import Home
from anchovies.store.log import Log
from anchovies.store.record import Change, CheckpointValue, DataFile, Loaded, Note, Writer, seal
from anchovies.testing.faults import FaultyStore

A, B = Home("tester", "a"), Home("tester", "b")


class Counts(Downloader):
    """A few rows a run, from where it stood, in two units."""

    @source("t")
    def t(self, **kwds: Any) -> Any:
        last, ledger = context().checkpoint("last"), context().ledger("t")
        start = last.get(0)
        for part in (0, 2):
            yield [{"n": start + part}, {"n": start + part + 1}]
            context().receipt(f"part-{start + part}", rows=2)
            ledger.put(f"part-{start + part}", start)
            last.set(start + part + 2)


@pytest.fixture
def ran(place: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two anchovies of ten commits each, with snapshots, segments and a second look at what is there."""
    monkeypatch.setattr(keys, "PAGE", 4)
    monkeypatch.setattr(log_module, "SNAPSHOT_EVERY", 3)
    for id in ("a", "b"):
        for _ in range(10):
            place.run(Counts, id=id, data_buffer_cls="jsonl")
    return place


def look(place: Any, home: Home = A, *, deep: bool = True, **more: Any) -> Verified:
    return Verifier(place.store, deep=deep).verify(home, **more)


def broken(found: Verified) -> dict[str, str]:
    return {line.what: str(line.broken) for line in found.lines if not line.ok}


def objects(place: Any, home: Home, *parts: str) -> list[str]:
    return [e.key for e in place.store.list(f"{home.root}/") if any(p in e.key for p in parts)]


def change(place: Any, key: str, make: Callable[[bytes], bytes]) -> None:
    place.store.put(key, make(place.store.get(key)))


def test_nothing_is_wrong_where_nothing_is_wrong(ran: Any) -> None:
    for deep in (False, True):
        found = look(ran, deep=deep)
        assert broken(found) == {}
        said = {line.what: line.said for line in found.lines}
        assert said["slots"] == "1 to 10, none is missing"
        assert said["files"].startswith("10 files")
        assert said["receipts"].startswith("10, and 20 of single files")
        assert said["segments"].startswith("2 copies")
    assert [h.id for h in homes(ran.store, "tester")] == ["a", "b"]


def test_it_writes_nothing(ran: Any) -> None:
    before = {k: ran.store.get(k) for k in ran.objects()}
    look(ran, repair=True)
    assert {k: ran.store.get(k) for k in ran.objects()} == before


def test_a_flipped_bit_anywhere_is_seen(ran: Any) -> None:
    """Every object that something rests on, at bytes spread over it."""
    for key in objects(ran, A, "/$log/log/", "/$log/_format", "/$log/snap/", "/$log/seg/", "/data/"):
        whole = ran.store.get(key)
        for at in sorted({0, len(whole) // 3, len(whole) // 2, len(whole) - 1}):
            ran.store.put(key, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            found = broken(look(ran, deep=False))
            # a bit that gzip itself does not look at changes no content: then nobody could tell, or need to
            same = key.endswith(".gz") and "/seg/" not in key and _unpacked(ran.store.get(key)) == _unpacked(whole)
            assert found or same, f"{key} at {at}"
        ran.store.put(key, whole)
    assert broken(look(ran)) == {}


def _unpacked(data: bytes) -> bytes | None:
    try:
        return gzip.decompress(data)
    except Exception:
        return None


@pytest.mark.parametrize("slot", [1, 4, 9])
def test_a_deleted_slot_is_named(ran: Any, slot: int) -> None:
    ran.store.delete(A.slot(slot))
    found = look(ran)
    assert broken(found)["slots"].startswith(f"{A.slot(slot)} is missing, though")
    assert all(line.hint for line in found.lines if not line.ok)


def test_the_last_slot_is_missed_because_a_snapshot_knows_it(ran: Any) -> None:
    ran.store.delete(A.slot(10))
    assert "though a snapshot knows it" in broken(look(ran))["slots"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda data: data[:-1], "bytes, the log says"),
        (lambda data: data + b"\n", "bytes, the log says"),
        (lambda data: data[:-1] + b" ", "its checksum is not the one in the log"),
        (lambda data: b"", "0 bytes"),
    ],
)
def test_a_damaged_data_file_is_named(ran: Any, make: Callable[[bytes], bytes], said: str) -> None:
    key = objects(ran, A, "/data/")[0]
    change(ran, key, make)
    found = broken(look(ran))
    assert set(found) == {"files"}
    assert key in found["files"] and said in found["files"]


def test_data_files_that_are_gone_or_swapped(ran: Any) -> None:
    first, second = objects(ran, A, "/data/")[:2]
    one, two = ran.store.get(first), ran.store.get(second)
    ran.store.put(first, two)
    ran.store.put(second, one)
    assert "2 of 10 files are broken" in broken(look(ran))["files"]
    ran.store.put(second, two)
    ran.store.delete(first)
    assert "is gone" in broken(look(ran))["files"]


def test_records_of_two_anchovies_swapped(ran: Any) -> None:
    mine, theirs = ran.store.get(A.slot(5)), ran.store.get(B.slot(5))
    ran.store.put(A.slot(5), theirs)
    ran.store.put(B.slot(5), mine)
    for home in (A, B):
        found = broken(look(ran, home))
        assert f"{home.slot(5)} is of another log" in found["records"]


def test_two_records_of_one_log_swapped(ran: Any) -> None:
    ran.store.put(A.slot(5), ran.store.get(A.slot(6)))
    assert f"{A.slot(5)} holds slot 6" in broken(look(ran))["records"]


def test_a_record_that_was_written_anew_breaks_the_chain(ran: Any) -> None:
    """Its own checksum is right: somebody with an editor and patience."""
    record = ran.records()[4]
    ran.store.put(A.slot(5), seal(replace(record, cid="0" * 32)))
    assert "slot 6 does not follow slot 5" in broken(look(ran))["records"]
    ran.store.put(A.slot(5), seal(replace(record, seq=1)))
    assert "breaks the order" in broken(look(ran))["records"]
    ran.store.put(A.slot(5), seal(replace(record, change=replace(record.change, files=[]))))
    assert "its files hold 0" in broken(look(ran))["receipts"]


def test_an_edited_snapshot_is_no_fold_and_is_repaired(ran: Any) -> None:
    (key, *others) = objects(ran, A, "/$log/snap/")
    good = ran.store.get(key)
    found = snapshot.decode(good, key)
    lie = replace(found.state, checkpoints={"last": CheckpointValue(value=7)})
    ran.store.put(key, snapshot.encode(replace(found, state=lie)))
    assert broken(look(ran)) == {"snapshots": f"{key} is not the fold of slots 1 to 10"}
    ran.store.put(others[0], b"no gzip")
    repaired = look(ran, repair=True)
    assert (repaired.ok, repaired.repaired) == (True, [key, others[0]])
    assert ran.store.get(key) == good
    assert ran.checkpoint("last") == 40


def test_a_broken_segment_is_repaired(ran: Any) -> None:
    key = next(k for k in objects(ran, A, "/$log/seg/") if k.endswith(".jsonl.gz"))
    good = ran.store.get(key)
    ran.store.put(key, good[:-1])
    assert "is damaged" in broken(look(ran))["segments"]
    assert look(ran, repair=True).ok
    assert broken(look(ran)) == {}


def test_nothing_is_repaired_from_a_broken_log(ran: Any) -> None:
    key = objects(ran, A, "/$log/snap/")[0]
    ran.store.put(key, b"")
    ran.store.delete(A.slot(3))
    before = ran.objects()
    found = look(ran, repair=True)
    assert set(broken(found)) >= {"slots", "snapshots"}
    assert (found.repaired, ran.objects()) == ([], before)


class Fast(SystemClock):
    """Does not wait between two attempts."""

    def sleep(self, seconds: float) -> None:
        pass


def test_no_answer_is_no_damage(ran: Any) -> None:
    class Silent(FaultyStore):
        def get(self, key: str) -> bytes:
            if "/$log/snap/" in key:
                raise StoreUnavailable("no answer")
            return super().get(key)

    with pytest.raises(StoreUnavailable):
        Verifier(Silent(ran.store), clock=Fast()).verify(A, repair=True)
    assert broken(look(ran)) == {}


def test_files_that_were_retired_are_missed_by_nobody(ran: Any) -> None:
    log = edit_log(ran.store, A, SystemClock(), SystemIds())
    log.load()
    log.retire({"t": 4}, Note(who="x", why="y"))
    paths = [f.path for r in ran.records() if r.slot <= 4 for f in r.change.files]
    for path in paths:
        ran.store.delete(path)
    assert broken(look(ran)) == {}
    ran.store.delete(next(f.path for r in ran.records() if r.slot == 5 for f in r.change.files))
    assert set(broken(look(ran))) == {"files"}


def writing(store: Any, home: Home) -> Log:
    """A hold on a log for a session."""
    return Log(store, home, clock=SystemClock(), ids=SystemIds(), writer=Writer("h", 1, "s", 0, "0"))


@pytest.mark.parametrize(
    ("receipts", "said"),
    [
        ({"t": {"rows": 2, "kept": 3}}, "3 rows were said to be kept, its files hold 2"),
        ({"t": {"rows": 3, "kept": 2, "rejected": 0}}, "3 rows were read, 2 kept and 0 rejected"),
        ({"t": {"rows": 2, "kept": 2, "sources": [{"name": "f", "rows": 5}]}}, "its sources gave 5 rows, 2 were read"),
    ],
)
def test_receipts_that_do_not_add_up(place: Any, receipts: Any, said: str) -> None:
    log = writing(place.store, A)
    log.load()
    data = b'{"n":1}\n{"n":2}\n'
    key = log.new_data_key("t", "jsonl")
    place.store.put(key, data)
    file = DataFile("t", key, len(data), 2, hashlib.sha256(data).hexdigest(), [("n", "int")], [0])
    log.append(Change(files=[file], receipts=receipts))
    assert said in broken(look(place, deep=False))["receipts"]


def test_what_a_file_is_said_to_be_is_held_against_what_it_is(ran: Any) -> None:
    record = ran.records()[9]
    file = record.change.files[0]
    for wrong, said in (
        (replace(file, cuts=[3, 1]), "do not rise"),
        (replace(file, schema=[("m", "int")]), "other columns"),
        (replace(file, path=file.path.replace("/a/", "/b/")), "does not belong"),
    ):
        ran.store.put(A.slot(10), seal(replace(record, change=replace(record.change, files=[wrong]))))
        assert said in broken(look(ran))["files"]


# ---- what was loaded


@pytest.fixture
def loaded(place: Any, tmp_path: Path) -> Any:
    """An anchovy, its uploader, a database; `place.upload()` loads what is new, `place.targets()` verifies the target."""
    env = {"ACHVY_CNXN__DB__URL": f"sqlite:///{tmp_path}/w.db"}

    def run(id: str = "w") -> None:
        place.run(Uploader, id=id, upstream=["a"], cnxns={"db": {"url": f"sqlite:///{tmp_path}/w.db"}})

    def targets() -> Verified:
        given = {"id": "w", "user": "tester", "datastore": place.url, "upstream": ["a"]}
        lines = Verifier(place.store).targets(Uploader, resolve(given, env, Config()), Config(), env)
        return Verified("tester/w", lines)

    place.upload, place.targets, place.file = run, targets, tmp_path / "w.db"
    for _ in range(3):
        place.run(Counts, tbls={"t": {"unique_by": "n"}})
        run()
    return place


def sql(place: Any, text: str) -> None:
    with closing(sqlite3.connect(place.file)) as db, db:
        db.execute(text)


def test_loads_and_target_fit(loaded: Any) -> None:
    found = look(loaded, Home("tester", "w"))
    assert broken(found) == {}
    assert next(x.said for x in found.lines if x.what == "loads").startswith(
        "3 loads lie in the logs of their sources, 3 with counts"
    )
    assert broken(loaded.targets()) == {}
    assert "stands at commit 3 of 3, 12 rows, as the receipts say" in loaded.targets().lines[0].said


def test_rows_that_somebody_took_away(loaded: Any) -> None:
    sql(loaded, "DELETE FROM a__tester__t WHERE n = 3")
    assert broken(loaded.targets()) == {"a__tester.t": "it holds 11 rows, the receipts come to 12"}


def test_a_target_that_went_back(loaded: Any) -> None:
    cid = loaded.records()[0].cid
    sql(loaded, f"UPDATE _anchovies_position SET slot = 1, cid = '{cid}'")
    assert "commit 3 was loaded, but it stands at 1" in broken(loaded.targets())["a__tester.t"]
    sql(loaded, "UPDATE _anchovies_position SET slot = 1, cid = 'x'")
    assert "not in the log" in broken(loaded.targets())["a__tester.t"]


def test_where_a_part_was_loaded_by_another_nothing_is_said_of_the_rows(loaded: Any) -> None:
    for id in ("other", "w"):
        loaded.run(Counts, tbls={"t": {"unique_by": "n"}})
        loaded.upload(id)
    sql(loaded, "DELETE FROM a__tester__t WHERE n = 3")
    found = loaded.targets()
    assert broken(found) == {}
    assert found.lines[0].said == "stands at commit 5 of 5, 19 rows"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"end": 7}, "commit 7 of tester/a was loaded, which is not in that log"),
        ({"cid": "x"}, "which is not in that log"),
        ({"counts": {"inserted": 5}}, "5 rows were loaded of commits 3 to 3 of tester/a, which hold 4"),
        ({"source": "tester/gone"}, "the log of tester/gone is not here"),
    ],
)
def test_loads_that_do_not_lie_in_their_source(loaded: Any, changes: dict[str, Any], said: str) -> None:
    log = writing(loaded.store, Home("tester", "w"))
    log.load()
    last: Loaded = log.state.loads[0]
    log.append(Change(loaded=[replace(last, **changes)]))
    assert said in broken(look(loaded, Home("tester", "w")))["loads"]
