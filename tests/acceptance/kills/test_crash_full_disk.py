"""The datastore's disk becomes full in the middle of a run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

N = 400


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here (run as root): {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.server
@pytest.mark.parametrize("table", ["ints", "whole"])
def test_a_full_disk(world, small_disk: Path, table: str) -> None:  # type: ignore[no-untyped-def]
    world.root = small_disk / "home"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * (2 << 20))
    oracle = {"n": N, "task": N, "step": 10, "fat": 3000}  # 1.2 MB of noise: more than is left, less than the disk
    full = world.download("-e", table, **oracle)
    assert full.wait() == 1, full.said
    result = full.result()
    assert result["status"] == "failed"
    assert "No space left on device" in result["err_msg"]
    assert "Traceback" not in full.said

    before = [i for i, _ in world.logged().get(table, [])]
    assert before == list(range(1, len(before) + 1)), "something is half visible"
    assert len(before) < N
    assert (len(before) > 0) == (table == "ints")
    assert world.checkpoints().get(table, 0) == len(before)

    ballast.unlink()
    on = world.download("-e", table, **oracle)
    assert on.wait() == 0, on.said
    assert on.result()["tables"][0]["kept"] == N - len(before)
    assert [i for i, _ in world.logged()[table]] == list(range(1, N + 1))
    assert world.upload("sqlite").wait() == 0
    assert world.count("sqlite", table) == (N, N, N)
