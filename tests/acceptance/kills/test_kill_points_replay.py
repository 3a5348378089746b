"""Every fault point that a replay comes to, with every action: into another database, as it was, and anew in place.

Afterwards the same command once more, or the next upload, ends with what an undisturbed replay gives: rows, `_seq` and position.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from anchovies.store.follow import Reader
from anchovies.store.keys import Home
from anchovies.testing.faultmatrix import Matrix, N, Place, Scenario, registered, run_cases
from anchovies.testing.oracle import TABLES

MIDDLE = 9  # counted to, when the slot of `--as-of` was written
#: A replay is a target's work: what lies in other hands (its lease, its log) is gone through once, the target with each database.
TARGET = ("sql.", "target.", "commit.")


def prepare(place: Place) -> None:
    for n in (4, MIDDLE):
        assert place.download(n=n)[0] == 0
    slot = Reader(place.world.store, Home("t", "oracle")).state().slot
    (place.folder / "slot").write_text(str(slot))
    assert place.download()[0] == 0


def replay(place: Place, fault: str = "", *, as_of: bool = False, into: bool = False) -> tuple[int, str]:
    more = ["--as-of", (place.folder / "slot").read_text()] if as_of else []
    more += ["--into", place.world.urls[place.kind], "-i", "copy"] if into else ["-i", f"to_{place.kind}"]
    return place.run("replay", "-U", "oracle", "--yes", *more, fault=fault)


def loaded(place: Place) -> None:
    assert place.upload()[0] == 0


def content(place: Place) -> dict[str, list[Any]]:
    """All rows of all tables, `_seq` included, and where each table stands."""
    found = {name: sorted(place.world.query(place.kind, f"SELECT * FROM {{t}}{name}"), key=repr) for name in TABLES}
    stands = f"SELECT source_tbl, slot, cid FROM {place.world.positions(place.kind)} ORDER BY 1"
    return {**found, "position": place.world.query(place.kind, stands)}


def right(place: Place, *, as_of: bool = False, into: bool = False) -> None:
    """The same command again: as much as that, and no more. Then the next upload, to the end."""
    place.settled(lambda: replay(place, as_of=as_of, into=into))
    assert {r[0] for r in place.world.query(place.kind, "SELECT max(i) FROM {t}ints")} == {MIDDLE if as_of else N}
    once = content(place)
    goes_on(place, into=into)
    if not as_of:
        assert content(place) == once, "an upload after a replay has nothing to add"


def goes_on(place: Place, *, into: bool = False) -> None:
    """The next upload alone, whatever became of the replay. It must not think that all is there."""
    uploader = "copy" if into else f"to_{place.kind}"
    place.settled(lambda: place.run("start", "-op", "sql.Uploader", "-i", uploader, "-U", "oracle"))
    place.world.check_database(place.kind, N)
    receipts_lag(place, uploader)


def receipts_lag(place: Place, uploader: str) -> None:
    """What the uploader's log says was loaded is there: it may lag, it never leads."""
    stands = dict(place.world.query(place.kind, f"SELECT source_tbl, slot FROM {place.world.positions(place.kind)}"))
    said = Reader(place.world.store, Home("t", uploader)).state().loaded
    assert said and all(x.end <= stands[tbl] for (_, tbl, _), x in said.items())


def scenario(name: str, kind: str, after: str, *, as_of: bool = False, into: bool = False, there: bool = False) -> Scenario:
    def act(place: Place, fault: str) -> tuple[int, str]:
        return replay(place, fault, as_of=as_of, into=into)

    def judge(place: Place) -> None:
        if after == "upload":
            goes_on(place, into=into)
        else:
            right(place, as_of=as_of, into=into)

    return Scenario(f"{name}-{after}-{kind}", act, judge, prepare, then=loaded if there else lambda place: None, kind=kind)


WAYS: dict[str, dict[str, bool]] = {
    "into": {"into": True},
    "into-as-of": {"into": True, "as_of": True},
    "anew": {"there": True},
    "anew-as-of": {"there": True, "as_of": True},
}


def scenarios(kind: str) -> list[Scenario]:
    """After `anew`, the next upload may be all that comes; elsewhere a person types the command again."""
    found = [scenario(name, kind, "again", **way) for name, way in WAYS.items()]
    return [*found, scenario("anew-as-of", kind, "upload", **WAYS["anew-as-of"])]


def cases_of(m: Matrix, found: list[Scenario]) -> list[tuple[Scenario, list[str], str, int]]:
    """Points of the target for each scenario, others once; kills at the first time that a replay comes there, and in SQLite at the
    last; failures and delays in SQLite, each point once."""
    cases: list[tuple[Scenario, list[str], str, int]] = []
    seen: set[str] = set()
    for s, counts in zip(found, m.pool.map(m.points, found), strict=True):
        assert set(counts) <= registered()
        fresh = [p for p in sorted(counts) if p not in seen]
        target = [p for p in sorted(counts) if p.startswith(TARGET)]
        for point in sorted({*target, *(fresh if s.kind == "sqlite" else ())}):
            last = {1, counts[point]} if s.kind == "sqlite" and point in target else {1}
            cases += [(s, [point], "kill", nth) for nth in sorted(last)]
        if s.kind == "sqlite":
            cases += [(s, [point], "raise", 1) for point in fresh]
            cases += [(s, fresh[i : i + 10], "stall", 1) for i in range(0, len(fresh), 10)]
        seen.update(fresh)
    return cases


def test_some_points_of_a_replay(matrix: Callable[..., Matrix], seed: int, notes: list[str]) -> None:
    m, rnd = matrix(), random.Random(seed)
    cases = cases_of(m, [s for s in scenarios("sqlite") if s.name.startswith(("anew-as-of-upload", "into-as-of"))])
    assert not run_cases(m, rnd.sample([c for c in cases if c[2] == "kill"], 6))
    notes.append(f"fault points of a replay: {m.cases} cases of the matrix")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_every_point_of_a_replay(matrix: Callable[..., Matrix], kind: str, notes: list[str]) -> None:
    m, began = matrix(), time.monotonic()
    cases = cases_of(m, scenarios(kind))
    wrong = run_cases(m, cases)
    assert not wrong, f"{len(wrong)} of {len(cases)} cases:\n" + "\n\n".join(wrong[:10])
    notes.append(f"fault points of a replay, {kind}: {m.cases} cases, {time.monotonic() - began:.0f} s")
