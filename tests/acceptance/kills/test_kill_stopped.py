"""Processes that are stopped for a while, and what those may do that come meanwhile."""

from __future__ import annotations

import signal

N = 60


def test_a_stopped_holder_of_the_lease_keeps_others_out(world, until) -> None:  # type: ignore[no-untyped-def]
    holder = world.download("-e", "ints", n=N, pace=0.1, step=10)
    until(lambda: world.slots() > 0)
    holder.stop()
    seen = world.slots()
    skipped = world.download("-e", "ints", n=N)
    refused = world.download("-e", "ints", "--if-running", "fail", n=N)
    patient = world.download("-e", "ints", "--if-running", "wait", "-t", "1", n=N)
    waiting = world.download("-e", "ints", "--if-running", "wait", n=N)
    assert (skipped.wait(), skipped.result()["status"]) == (0, "skipped")
    assert f"(pid {holder.process.pid})" in skipped.result()["warnings"][0]
    for run in (refused, patient):
        assert (run.wait(), run.result()["status"], run.result()["err_type"]) == (1, "failed", "AlreadyRunning")
    assert world.slots() == seen
    assert waiting.code is None
    holder.signal(signal.SIGCONT)
    assert (holder.wait(), waiting.wait()) == (0, 0), holder.said + waiting.said
    assert holder.result()["tables"][0]["kept"] == N
    assert waiting.result()["commits"] == 0
    assert [i for i, _ in world.logged()["ints"]] == list(range(1, N + 1))


def test_after_its_kill_the_lease_is_free_at_once(world, until) -> None:  # type: ignore[no-untyped-def]
    dead = world.download("-e", "ints", n=N, pace=0.1, step=10)
    until(lambda: world.slots() > 0)
    assert dead.kill()
    assert world.lease_is_held()
    heir = world.download("-e", "ints", "--if-running", "fail", n=N)
    assert heir.wait() == 0, heir.said
    assert [i for i, _ in world.logged()["ints"]] == list(range(1, N + 1))


def test_a_zombie_that_had_committed_is_fenced(world, until) -> None:  # type: ignore[no-untyped-def]
    zombie = world.download("-e", "ints", n=N, pace=0.1, step=10, lease=False)
    until(lambda: world.slots() > 0)
    zombie.stop()
    before = world.slots()
    heir = world.download("-e", "ints", n=N, step=4, lease=False)
    assert heir.wait() == 0, heir.said
    zombie.signal(signal.SIGCONT)
    assert (zombie.wait(), zombie.result()["err_type"]) == (1, "Fenced"), zombie.said
    assert "a newer session" in zombie.result()["err_msg"]
    assert [i for i, _ in world.logged()["ints"]] == list(range(1, N + 1))
    assert zombie.result()["commits"] == before
    named = {f.path for r in world.records() for f in r.change.files}
    there = {e.key for e in world.store.list(f"{world.home().root}/data/")}
    assert there == named, "what the fenced one had written was not cleaned up"


def test_a_zombie_that_had_committed_nothing_begins_again(world, until) -> None:  # type: ignore[no-untyped-def]
    sign = world.folder / "begun"
    zombie = world.download("-e", "whole", n=N, task=N, pace=0.1, step=10, sign=sign, lease=False)
    until(sign.exists)
    zombie.stop()
    heir = world.download("-e", "whole", n=N, task=N, lease=False)
    assert heir.wait() == 0, heir.said
    zombie.signal(signal.SIGCONT)
    assert (zombie.wait(), zombie.result()["commits"]) == (0, 0), zombie.said
    assert any("committed first" in w for w in zombie.result()["warnings"])
    assert [i for i, _ in world.logged()["whole"]] == list(range(1, N + 1))
    assert {r.epoch for r in world.records()} == {1}, "the zombie opened the log a second time"
