"""The checkpoint law with several workers: whoever fails, whoever is faster, and however often their number changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anchovies.core.errors import Fenced
from anchovies.sdk import Downloader, context, source

SPLITS = [f"s{i}" for i in range(5)]
UPTO = 6


class Broken(Exception):
    pass


#: a run: of how many workers, which of them, after how many rows it fails, at which row the next run happens inside of this one,
#: and whether its splits have other names, so that two workers may have the same
TURNS = st.tuples(
    st.sampled_from([1, 2, 2, 2, 3]), st.integers(0, 2), st.none() | st.integers(1, 12), st.integers(1, 12), st.booleans()
)


class Play:
    """Runs on one place, some of them in the middle of others."""

    def __init__(self, place: Any, turns: list[Any], **given: Any) -> None:
        self.place, self.turns, self.given = place, turns, given

    def run(self) -> None:
        while self.turns:
            self.turn(*self.turns.pop())
            self.judge()
        for num in range(2):
            self.turn(2, num, None, 0, False)
        assert set(self.judge().values()) == {UPTO}

    def turn(self, of: int, num: int, fails_at: int | None, inner_at: int, overlaps: bool) -> None:
        play, seen = self, 0

        class Ranges(Downloader):
            @source("t", splits=[f"{'x' * overlaps}{s}" for s in SPLITS])
            def t(self, table: str, split: str) -> Any:
                nonlocal seen
                split = split[-2:]
                done = context().checkpoint(f"{table}:{split}")
                for n in range(done.get(0), UPTO):
                    yield pa.table({"split": [split], "n": [n]})
                    seen += 1
                    if seen == inner_at and play.turns:
                        play.turn(*play.turns.pop())
                    if seen == fails_at:
                        raise Broken
                    done.set(n + 1)

        with suppress(Broken, Fenced):
            self.place.run(Ranges, workers=of, worker_num=num % of, **self.given)

    def judge(self) -> dict[str, int]:
        """Of each split, the committed rows are those before its checkpoint, each once and in order."""
        rows = self.place.rows("t")
        checkpoints = {s: self.place.checkpoint(f"t:{s}") or 0 for s in SPLITS}
        for split, upto in checkpoints.items():
            assert [r["n"] for r in rows if r["split"] == split] == list(range(upto))
        return checkpoints


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    turns=st.lists(TURNS, max_size=10),
    commit_bytes=st.sampled_from([1, 1 << 30]),
    commit_seconds=st.sampled_from([0, 1000]),
    buffer=st.sampled_from(["parquet", "jsonl"]),
)
def test_rows_and_checkpoints_of_every_split_go_together(
    new_place: Callable[[], Any], turns: list[Any], commit_bytes: int, commit_seconds: int, buffer: str
) -> None:
    run = {"commit_bytes": commit_bytes, "commit_seconds": commit_seconds, "data_buffer_cls": buffer}
    Play(new_place(), list(turns), **run).run()
