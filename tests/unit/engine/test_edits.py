"""Edits by hand: what they change, what they leave alone, and what a running session makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from anchovies.core.errors import ConfigError
from anchovies.engine.edits import Editor, parse_value, who_edits
from anchovies.sdk import Downloader, context, source
from anchovies.store.keys import Home
from anchovies.store.record import Change, Checkpoints, CheckpointValue, Note

from .conftest import USER, Place


class Counts(Downloader):
    """Ten rows a run, from where it stood; a ledger entry for each run."""

    between: Callable[[], None] = staticmethod(lambda: None)

    @source("t")
    def t(self, **kwds: Any) -> Any:
        last = context().checkpoint("last")
        start = last.get(0)
        type(self).between()
        yield [{"n": n} for n in range(start, start + 10)]
        last.set(start + 10)
        context().ledger("t").put(f"run-{start}", start)


def editor(place: Place, why: str = "because") -> Editor:
    return Editor(place.store, Home(USER, "a"), Note(who="me@here", why=why))


@pytest.fixture
def ran(place: Place) -> Place:
    for _ in range(3):
        place.run(Counts, tbls={"t": {"unique_by": "n"}})
    return place


def test_set_is_a_record_with_who_and_why(ran: Place) -> None:
    edited = editor(ran).set("last", "7")
    assert (edited.slot, [(t.key, t.was, t.now) for t in edited.turns]) == (4, [("last", 30, 7)])
    record = ran.records()[-1]
    assert (record.kind, record.change.note) == ("edit", Note(who="me@here", why="because"))
    assert ran.state().checkpoints["last"].tbls == ["t"]  # it still feeds what it fed
    mirror = json.loads(ran.store.get(Home(USER, "a").checkpoint("last")))
    assert mirror["value"] == 7
    ran.run(Counts)
    assert [r["n"] for r in ran.rows("t")][-10:] == list(range(7, 17))


def test_what_is_so_already_writes_nothing(ran: Place) -> None:
    before = ran.objects()
    assert editor(ran).set("last", "30").slot is None
    assert editor(ran).rewind(3).slot is None
    assert ran.objects() == before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ('"a"', "a"),
        ("[1, null]", [1, None]),
        ('{"$date": "2026-11-22"}', date(2026, 11, 22)),
        ('{"$$x": 1}', {"$x": 1}),
    ],
)
def test_values_are_written_as_json(ran: Place, text: str, value: Any) -> None:
    seen = []

    class Looks(Downloader):
        @source("t")
        def t(self, **kwds: Any) -> Any:
            seen.append(context().checkpoint("k").get())
            return ()

    editor(ran).set("k", text)
    ran.run(Looks)
    assert seen == [value]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-11-22", "is not JSON"),
        ("null", "no value"),
        ('{"$date": "soon"}', "no value of that kind"),
        ('[{"$x": 1}]', "of that kind"),
    ],
)
def test_values_that_cannot_be_meant(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as e:
        parse_value(text)
    assert e.value.hint


def test_a_ledger_is_not_set(ran: Place) -> None:
    with pytest.raises(ConfigError, match="put by sources"):
        editor(ran).set("ledger:t", "1")


def test_delete_one_entry_a_ledger_and_everything(ran: Place) -> None:
    edited = editor(ran).delete(["ledger:t:run-10"])
    assert [(t.key, t.was, t.now) for t in edited.turns] == [("ledger:t", 3, 2)]
    assert sorted(ran.state().ledgers["t"]) == ["run-0", "run-20"]
    editor(ran).delete(["ledger:t", "last"])
    assert (ran.state().ledgers, ran.state().checkpoints) == ({}, {})
    assert Home(USER, "a").checkpoint("last") not in ran.objects()


def test_delete_all_makes_the_next_run_a_full_one(ran: Place) -> None:
    assert len(editor(ran).delete_all().turns) == 2
    ran.run(Counts)
    assert [r["n"] for r in ran.rows("t")][-10:] == list(range(10))


@pytest.mark.parametrize(("key", "near"), [("lats", "'last'"), ("ledger:x", "'ledger:t'"), ("ledger:t:run-01", "'run-0'")])
def test_an_unknown_key_names_the_nearest(ran: Place, key: str, near: str) -> None:
    with pytest.raises(ConfigError) as e:
        editor(ran).delete([key])
    assert near in str(e.value.hint)
    assert ran.state().slot == 3


@pytest.mark.parametrize("slot", [0, 1, 2])
def test_rewind_sets_what_was_known_then_and_leaves_rows_alone(ran: Place, slot: int) -> None:
    rows = ran.rows("t")
    editor(ran).rewind(slot)
    assert ran.checkpoint("last") == (10 * slot or None)
    assert len(ran.state().ledgers.get("t", {})) == slot
    assert ran.rows("t") == rows
    ran.run(Counts)
    assert [r["n"] for r in ran.rows("t")][-10:] == list(range(10 * slot, 10 * slot + 10))


def test_a_rewind_can_be_taken_back(ran: Place) -> None:
    editor(ran).rewind(1)
    editor(ran).rewind(3)
    assert ran.checkpoint("last") == 30
    assert sorted(ran.state().ledgers["t"]) == ["run-0", "run-10", "run-20"]


def test_a_table_that_is_appended_to_is_refused(place: Place) -> None:
    for _ in range(2):
        place.run(Counts)
    with pytest.raises(ConfigError, match="t: rows that came after slot 1") as e:
        editor(place).rewind(1)
    assert "--rows-again" in str(e.value.hint)
    assert place.state().slot == 2
    assert editor(place).rewind(1, rows_again=True).slot == 3


def test_the_memory_of_a_hook_counts_for_every_table(place: Place) -> None:
    place.run(Counts)
    editor(place).set("of a hook", "1")
    place.run(Counts)
    editor(place).set("of a hook", "2")
    editor(place).set("last", "10")
    editor(place).delete(["ledger:t"])
    with pytest.raises(ConfigError, match="t: rows"):
        editor(place).rewind(2)


def test_a_running_session_that_depends_on_it_begins_again(place: Place) -> None:
    place.run(Counts)
    edits = iter([lambda: editor(place).set("last", "100")])

    class Edited(Counts):
        between = staticmethod(lambda: next(edits, lambda: None)())

    result = place.run(Edited)
    assert (result.status, result.commits) == ("ok", 1)
    assert any("Beginning again" in w for w in result.warnings)
    assert [r["n"] for r in place.rows("t")] == [*range(10), *range(100, 110)]
    assert place.checkpoint("last") == 110


def test_a_running_session_that_does_not_depend_on_it_goes_on(place: Place) -> None:
    class Edited(Counts):
        between = staticmethod(lambda: editor(place).set("other", "100") and None)

    result = place.run(Edited)
    assert (result.status, result.warnings) == ("ok", [])
    assert (place.checkpoint("last"), place.checkpoint("other")) == (10, 100)


def test_who() -> None:
    assert who_edits({"LOGNAME": "ann"}).startswith("ann@")


def test_edits_where_a_hook_and_a_table_have_set_a_key(place: Place) -> None:
    def values() -> dict[str, Any]:
        return {",".join(v.tbls): v.value for v in place.state().values("last")}

    place.run(Counts)
    assert editor(place).set("new", "1").turns[0].now == 1
    assert place.state().values("new")[0].tbls == []
    log = editor(place)._log
    log.load()
    everybody = Checkpoints(delete=["last"], set={"last": CheckpointValue(3)})
    log.edit(Change(checkpoints=everybody, note=Note(who="me", why="test")))
    place.run(Counts)
    assert values() == {"t": 13, "": 3}
    slot = place.state().slot
    editor(place).set("last", "5")
    assert values() == {"t": 5, "": 5}
    assert editor(place).set("last", "5").slot is None
    editor(place).rewind(slot, rows_again=True)
    assert values() == {"t": 13, "": 3}
    editor(place).delete(["last"], ["t"])
    assert values() == {}
    with pytest.raises(ConfigError, match="a ledger has no value a table"):
        editor(place).delete(["ledger:t"], ["t"])
