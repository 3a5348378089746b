"""An uploader that is killed, renamed, and killed again: the position belongs to the target, so the new one goes on."""

from __future__ import annotations

import pytest

KINDS = ["duckdb", "sqlite", pytest.param("postgres", marks=pytest.mark.server)]
HALF, N = 900, 1800


def kill_often(world, kind: str, name: str, times: int) -> None:  # type: ignore[no-untyped-def]
    """Start the uploader until it was killed `times` times, or has nothing left to do."""
    for _ in range(times):
        run = world.upload(kind, name=name)
        try:
            assert run.wait(world.random.uniform(0.2, 1.2)) == 0, run.said
        except world.TimeoutExpired:
            run.kill()
        world.check_prefixes(kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_renamed_uploader_goes_on(request: pytest.FixtureRequest, world, kind: str) -> None:  # type: ignore[no-untyped-def]
    if kind == "postgres":
        world.urls["postgres"] = request.getfixturevalue("database")
    for n in (HALF, N):
        run = world.download(n=n, step=30, task=HALF)
        assert run.wait() == 0, run.said
        if n == HALF:
            kill_often(world, kind, "warehouse", 4)
            first = world.upload(kind, name="warehouse")
            assert first.wait() == 0, first.said
    kill_often(world, kind, "warehouse", 2)
    done = world.count(kind, "ints")[0]
    assert HALF <= done <= N
    kill_often(world, kind, "warehouse2", 2)
    last = world.upload(kind, name="warehouse2")
    assert last.wait() == 0, last.said
    world.check_log(N, ends=[HALF])
    world.check_database(kind, N)
    positions = world.query(kind, f"SELECT source_tbl, count(*) FROM {world.positions(kind)} GROUP BY 1")
    assert sorted(positions) == [("a", 1), ("b", 1), ("ints", 1), ("plain", 1), ("whole", 1)]
    # and nobody loads anything a third time
    again = world.upload(kind, name="warehouse")
    assert (again.wait(), sum(t["kept"] for t in again.result()["tables"])) == (0, 0), again.said


@pytest.mark.parametrize("kind", KINDS)
def test_a_renamed_uploader_loads_only_the_rest(request: pytest.FixtureRequest, world, kind: str) -> None:  # type: ignore[no-untyped-def]
    if kind == "postgres":
        world.urls["postgres"] = request.getfixturevalue("database")
    kept = []
    for n, name in ((40, "warehouse"), (100, "warehouse2")):
        assert world.download("-e", "ints", n=n, step=10).wait() == 0
        run = world.upload(kind, name=name)
        assert run.wait() == 0, run.said
        kept.append([t["kept"] for t in run.result()["tables"]])
    assert kept == [[40], [60]]
    assert world.count(kind, "ints") == (100, 100, 100)
