"""Values of one key for several tables, held against a plain model: a dict of table → value, and one value for all others."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from msgspec import UNSET

from anchovies.core.ids import SystemIds
from anchovies.store import snapshot
from anchovies.store.checkpoints import after, forgotten, joined, mirror, same, seen, shown, towards, with_value
from anchovies.store.record import Change, Checkpoints, CheckpointValue, Record, Writer, seal, unseal
from anchovies.store.state import State, fold, touched

V = CheckpointValue
WRITER = Writer(host="h", pid=1, session="s", batch=1, version="0")


def record(state: State, checkpoints: Checkpoints) -> Record:
    return Record(
        v=0, store="u", slot=state.slot + 1, epoch=1, lane=0, workers=1, seq=state.slot, kind="commit" if state.slot else "open",
        cid=SystemIds().cid(), prev=state.cid, writer=WRITER, at="", rows=0, change=Change(checkpoints=checkpoints),
    )  # fmt: skip


@dataclass
class Model:
    own: dict[str, Any] = field(default_factory=dict)
    rest: Any = None

    def see(self, tbl: str) -> Any:
        return self.own.get(tbl, self.rest)

    def set(self, value: Any, tbls: list[str]) -> None:
        if tbls:
            self.own |= dict.fromkeys(tbls, value)
        else:
            self.own, self.rest = {}, value

    def forget(self, tbls: list[str]) -> None:
        self.own = {t: v for t, v in self.own.items() if t not in tbls}
        self.rest = None


TABLES = ["a", "b", "c", "d"]


def change_of(rng: Random, model: Model) -> Checkpoints:
    """A random change of the key `k`, played to the model as well."""
    tbls = sorted(rng.sample(TABLES, rng.randint(0, 3)))
    turn = rng.random()
    if turn < 0.1:
        model.forget(TABLES)
        return Checkpoints(delete=["k"])
    if turn < 0.3 and tbls:
        model.forget(tbls)
        return Checkpoints(forget={"k": tbls})
    model.set(value := rng.choice([1, 2, "x", [1]]), tbls)
    return Checkpoints(set={"k": V(value, tbls)})


@pytest.mark.parametrize("seed", range(60))
def test_the_fold_is_a_dict_by_table(seed: int) -> None:
    rng, model, state, past = Random(seed), Model(), State(), list[State]()
    for _ in range(40):
        change = change_of(rng, model)
        state = fold(state, unseal(seal(record(state, change)), Record, "k"))
        past.append(state)
        values = state.values("k")
        for tbl in TABLES:
            found = seen(values, (tbl,))
            assert (None if found is None else found.value) == model.see(tbl)
        assert [t for v in values for t in v.tbls if (seen(values, (t,)) or V(0)).value != model.own[t]] == []
        assert sorted(t for v in values for t in v.tbls) == sorted(model.own)
        of_tables = [v.value for v in values if v.tbls]
        assert len({str(v) for v in of_tables}) == len(of_tables)  # equal values are one
        assert (state.behind is UNSET) == (len(values) < 2)
        then = rng.choice(past)  # going back to any state leads there
        back = towards("k", values, then.values("k"))
        assert list(after(values, "k", back)) == list(then.values("k"))
        assert (back == Checkpoints()) == (list(values) == list(then.values("k")))


def test_one_value_for_all_tables_is_as_short_as_ever() -> None:
    state = fold(State(), record(State(), Checkpoints(set={"k": V(1, ["a", "b"])})))
    state = fold(state, record(state, Checkpoints(set={"k": V(2, ["a", "b"])})))
    assert (state.checkpoints, state.behind) == ({"k": V(2, ["a", "b"])}, UNSET)
    assert b"behind" not in seal(state)
    assert seal(record(state, Checkpoints(set={"k": V(3, ["a"])}))).count(b"forget") == 0
    assert b'"checkpoints":{"set":{"k":{"tbls":["a"],"value":3}}}' in seal(record(state, Checkpoints(set={"k": V(3, ["a"])})))


def test_values_of_other_tables_are_in_snapshots_too() -> None:
    state = fold(State(), record(State(), Checkpoints(set={"k": V(1, ["a", "b"])})))
    old = snapshot.Snapshot(state, {}, [])
    assert snapshot.decode(snapshot.encode(old), "s").state == state  # one value: as it was before there could be two
    state = fold(state, record(state, Checkpoints(set={"k": V(2, ["b"])})))
    assert (state.checkpoints, state.behind) == ({"k": V(2, ["b"])}, {"k": [V(1, ["a"])]})
    assert snapshot.decode(snapshot.encode(snapshot.Snapshot(state, {}, [])), "s").state == state


def test_what_is_seen() -> None:
    values = [V(3, ["a"]), V(2, []), V(1, ["b"])]
    assert [seen(values, t) and seen(values, t).value for t in ((), ("a",), ("b",), ("c",), ("c", "b"))] == [3, 3, 1, 2, 1]  # type: ignore[union-attr]
    assert seen([]) is None and seen([V(1, ["b"])], ("a",)) is None
    assert forgotten(values, ["a"]) == [V(1, ["b"])]
    assert with_value(values, V(1, ["a"])) == [V(1, ["a", "b"]), V(2, [])]
    assert same({"b": 1, "a": 2}, {"a": 2, "b": 1}) and not same(1, True) and not same(1, 1.0)


def test_for_people() -> None:
    values = [V(3, ["a"]), V(2, []), V(1, ["b", "c"])]
    assert shown(values) == {"a": 3, "(other tables)": 2, "b, c": 1}
    assert (shown(values[:1]), shown([])) == (3, None)
    others = [{"value": 2, "tbls": []}, {"value": 1, "tbls": ["b", "c"]}]
    assert mirror("k", values) == {"key": "k", "value": 3, "tbls": ["a"], "others": others}
    assert (mirror("k", values[:1]), mirror("k", [])) == ({"key": "k", "value": 3, "tbls": ["a"]}, None)


def test_every_kind_of_change_touches_its_key() -> None:
    every = [
        Checkpoints(set={"s": V(1)}),
        Checkpoints(delete=["d"]),
        Checkpoints(forget={"f": ["a"]}),
        Checkpoints(behind={"b": [V(1, ["a"])]}),
    ]
    assert touched(Change(checkpoints=joined(every))) == {"s", "d", "f", "b"}
    assert joined([]) == Checkpoints()
