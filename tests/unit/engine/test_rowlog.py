"""Rows in logs: only for who asked, the first of each table in a batch, as they are kept."""

from __future__ import annotations

from typing import Any

from anchovies.engine.rowlog import MOST
from anchovies.sdk import Downloader, Uploader, sink, source


class Mails(Downloader):
    @source("mails")
    def mails(self) -> Any:
        for n in range(3):
            yield [{"n": n * 100 + i, "mail": "a@b.example"} for i in range(8)]


class Takes(Uploader):
    @sink("mails")
    def take(self, stream: Any) -> None:
        list(stream)


def rows(events: list[Any]) -> list[dict[str, Any]]:
    return [r for e in events if e.kind == "rows" for r in e.data["rows"]]


def test_no_row_is_told_unless_asked(place: Any, heard: Any) -> None:
    events, listener = heard
    place.run(Mails, listener=listener)
    place.run(Takes, id="up", upstream="a", listener=listener)
    assert events
    assert not [e for e in events if e.kind == "rows" or "a@b.example" in repr(e.data)]


def test_the_first_rows_as_they_are_kept(place: Any, heard: Any) -> None:
    events, listener = heard
    place.run(Mails, listener=listener, log_rows=True, tbls={"mails": {"mask": {"mail": "redact"}}})
    told = rows(events)
    assert [r["n"] for r in told] == [*range(8), 100, 101][:MOST]
    assert "a@b.example" not in repr(told)
    del events[:]
    place.run(Takes, id="up", upstream="a", listener=listener, log_rows=True)
    assert [r["n"] for r in rows(events)] == [*range(8), 100, 101][:MOST]


def test_a_known_secret_in_a_row_is_masked(place: Any, heard: Any) -> None:
    events, listener = heard
    place.run(Mails, listener=listener, log_rows=True, cnxns={"api": {"token": "a@b.example"}})
    assert {r["mail"] for r in rows(events)} == {"***"}
