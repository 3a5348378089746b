"""Sessions look after their log by themselves: now and then, and never at the price of the run."""

from __future__ import annotations

import pytest

from anchovies.core.errors import StoreUnavailable
from anchovies.engine import session, upkeep
from anchovies.engine.upkeep import DAY, is_due
from anchovies.sdk import Downloader, source
from anchovies.store.keys import Home
from anchovies.store.lease import Maintained, read


class One(Downloader):
    @source("t")
    def t(self, **kwds):  # type: ignore[no-untyped-def]
        yield {"n": 1}


@pytest.mark.parametrize(
    ("seen", "slot", "now", "retain", "due"),
    [
        (Maintained(0, 0), 255, 9, None, False),
        (Maintained(0, 0), 256, 9, None, True),
        (Maintained(256, 0), 511, 9, None, False),
        (Maintained(300, 0), 512, 9, None, True),
        (Maintained(5, 100), 6, 100 + DAY, None, False),
        (Maintained(5, 100), 6, 100 + DAY, 60.0, True),
        (Maintained(5, 100), 6, 99 + DAY, 60.0, False),
        (Maintained(5, 100 + 2 * DAY), 6, 100, 60.0, True),  # a clock that went back
    ],
)
def test_when(seen: Maintained, slot: int, now: int, retain: float | None, due: bool) -> None:
    assert is_due(seen, slot, now, retain) == due


def test_a_session_looks_after_its_log(place, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(upkeep, "EVERY", 2)
    home = Home("tester", "a")
    place.run(One)
    stray = home.data("t", 0, 1, "feed", "parquet")
    place.store.put(stray, b"x")
    before = len(list(place.store.list(home.data_root)))
    place.run(One)
    assert len(list(place.store.list(home.data_root))) == before  # one more, and the stray one less
    assert read(place.store, home).remembered.maintained.slot == 2


def test_a_session_does_not_fail_for_it(place, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def broken(*args: object, **kwds: object) -> None:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(upkeep, "EVERY", 1)
    monkeypatch.setattr(session, "look_after", broken)
    result = place.run(One)
    assert result.status == "ok" and any("could not be looked after" in w for w in result.warnings)
