"""Connections: how they are named, filled, opened, tried again, closed; and that secrets never show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anchovies.core.errors import ConfigError, RetryableError
from anchovies.sdk import Connection, ConnectionMemo, Downloader, Secret, Stream, attr, context, sink, source

said: list[str] = []


class Shop(Connection):
    uri: Secret = attr("where the shop is", aliases=("url",))
    size: int = attr("rows a page", default=100)
    fast: bool = False

    def open(self) -> None:
        said.append(f"open {self.id}")

    def close(self) -> None:
        said.append(f"close {self.id}")


def make_client(**values: Any) -> dict[str, Any]:
    said.append(f"make {sorted(values)}")
    return values


class Using(Downloader):
    """Three kinds of connections; `t` touches those that `touch` names."""

    connection_cls = Shop
    api: Shop
    other = ConnectionMemo("other", make_client)
    touch: tuple[str, ...] = ()
    seen: dict[str, Any] = {}

    @source("t")
    def t(self) -> Any:
        for name in self.touch:
            self.seen[name] = getattr(self, name)
        yield {"n": 1}


GIVEN = {"default": {"uri": "shop://default"}, "api": {"url": "shop://api", "size": "7", "fast": "yes"}, "other": {"key": "k"}}


@pytest.fixture(autouse=True)
def quiet() -> None:
    said.clear()
    Using.seen.clear()


def using(*touch: str) -> type[Using]:
    return type("Using", (Using,), {"touch": touch})


def test_they_open_on_first_use_and_close_the_last_first(place: Any) -> None:
    place.run(using("api", "cnxn", "connection", "api", "other"), cnxns=GIVEN)
    assert said == ["open api", "open default", "make ['key']", "close default", "close api"]
    api = Using.seen["api"]
    assert (api.uri.reveal(), api.size, api.fast) == ("shop://api", 7, True)
    assert Using.seen["cnxn"] is Using.seen["connection"]
    assert Using.seen["other"] == {"key": "k"}


def test_what_is_not_used_is_not_opened(place: Any) -> None:
    place.run(using(), cnxns=GIVEN)
    assert said == []


def test_an_annotation_of_cnxn_names_the_class_of_the_default_one(place: Any) -> None:
    class Annotated(Downloader):
        cnxn: Shop  # type: ignore[assignment]

        @source("t")
        def t(self) -> Any:
            assert self.cnxn.uri.reveal() == "shop://x"
            assert context().connections["default"] is self.cnxn
            assert list(context().connections) == ["default"]
            yield {"n": 1}

    place.run(Annotated, cnxns={"default": {"uri": "shop://x"}})


def test_no_default_connection(place: Any) -> None:
    class Bare(Downloader):
        @source("t")
        def t(self) -> Any:
            yield self.cnxn

    with pytest.raises(ConfigError, match="Bare has no default connection"):
        place.run(Bare)


@pytest.mark.parametrize(
    ("given", "says", "hint"),
    [
        ({}, "needs 'uri': set ACHVY_CNXN__API__URI", "it takes: uri, size"),
        ({"uri": "x", "nope": "1"}, "takes no attribute 'nope'", "it takes: uri, size"),
        ({"uri": "x", "size": "many"}, "attribute 'size' wants int", ""),
    ],
)
def test_missing_extra_and_wrong_attributes(place: Any, given: dict[str, str], says: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        place.run(using(), cnxns={**GIVEN, "api": given})
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 2
    assert place.objects() == []


def test_a_factory_that_does_not_take_what_it_is_given(place: Any) -> None:
    class Strict(Downloader):
        other = ConnectionMemo("other", lambda key: key)

        @source("t")
        def t(self) -> Any:
            yield {"key": self.other}

    with pytest.raises(ConfigError, match="connection 'other'.*takes no attribute 'wrong'"):
        place.run(Strict, cnxns={"other": {"wrong": "x"}})
    place.run(Strict, cnxns={"other": {"key": "x"}})
    assert place.rows("t") == [{"key": "x"}]


def test_jsondata_and_files(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uri").write_text("shop://file\n")
    monkeypatch.setenv("ACHVY_CNXN__URI_FILE", str(tmp_path / "uri"))
    monkeypatch.setenv("ACHVY_CNXN__API__JSONDATA", json.dumps({"uri": "shop://json", "size": 3}))
    place.run(using("api", "cnxn"))
    assert (Using.seen["api"].uri.reveal(), Using.seen["api"].size) == ("shop://json", 3)
    assert Using.seen["cnxn"].uri.reveal() == "shop://file"


@pytest.mark.parametrize("failures", [1, 3, 9])
def test_opening_is_tried_again(place: Any, failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchovies.engine.limits.StopSignal.wait", lambda self, seconds: False)
    left = [failures]

    class Flaky(Connection):
        def open(self) -> None:
            said.append("try")
            if left[0]:
                left[0] -= 1
                raise RetryableError("not yet")

    class Trying(Downloader):
        connection_cls = Flaky

        @source("t")
        def t(self) -> Any:
            assert self.cnxn
            yield {"n": 1}

    if failures > 3:
        with pytest.raises(RetryableError, match="not yet"):
            place.run(Trying)
        assert len(said) == 4
    else:
        place.run(Trying)
        assert len(said) == failures + 1


def test_a_connection_that_does_not_close_is_a_warning(place: Any) -> None:
    class Stuck(Connection):
        def close(self) -> None:
            raise OSError("stuck")

    class Trying(Downloader):
        connection_cls = Stuck

        @source("t")
        def t(self) -> Any:
            assert self.cnxn
            yield {"n": 1}

    assert any("did not close: OSError: stuck" in w for w in place.run(Trying).warnings)


def test_source_and_sink_open_one_connection_once(place: Any) -> None:
    class Both(Downloader):
        connection_cls = Shop

        @source("t")
        def t(self) -> Any:
            for n in range(3):
                assert self.cnxn
                yield [{"n": n}]

        @sink("t")
        def take(self, stream: Stream) -> None:
            assert self.cnxn
            list(stream)

    place.run(Both, cnxns={"default": {"uri": "x"}})
    assert said == ["open default", "close default"]


def test_an_unknown_attribute_of_an_operator_is_just_that(place: Any) -> None:
    class Typo(Downloader):
        @source("t")
        def t(self) -> Any:
            yield self.nope

    with pytest.raises(AttributeError, match="'Typo' object has no attribute 'nope'"):
        place.run(Typo)


def test_secrets_do_not_show(place: Any) -> None:
    class Leaky(Downloader):
        connection_cls = Shop

        @source("t")
        def t(self, task: Any) -> Any:
            task.with_(cnxn=repr(self.cnxn), uri=str(self.cnxn.uri))
            raise RuntimeError(f"could not reach {self.cnxn} at {self.cnxn.uri}")
            yield

    with pytest.raises(RuntimeError) as caught:
        place.run(Leaky, cnxns={"default": {"uri": "shop://user:correct-horse@x"}})
    assert "correct-horse" not in str(caught.value)
    assert all(b"correct-horse" not in place.store.get(k) for k in place.objects())
    assert place.named("$task_logs")
