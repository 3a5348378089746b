"""A configuration that changes while a service runs: taken where it can be, named where not, never a reason to end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import anchovies
from anchovies.core.config import load_config
from anchovies.core.settings import resolve
from anchovies.engine import reload
from anchovies.engine.events import Event
from anchovies.engine.limits import stopped_by
from anchovies.engine.session import SessionRun
from anchovies.sdk import Downloader, SessionResult, Uploader, batch, sink, source
from anchovies.store.memory import MemoryStore
from anchovies.store.open import open_store

OLD = "config: {interval: 0, commit_seconds: 4}\ntbls: {a: {}}\n"


class Every(Downloader):
    """Says what each batch had: `seen`."""

    seen: list[Any]

    @source()
    def every(self, tbl: Any) -> Any:
        self.seen.append((batch().id, tbl.name, tbl.unique_by))
        return iter(())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "SETTLES", 0.0)


@pytest.fixture
def every() -> type[Every]:
    return type("Every", (Every,), {"seen": []})


class Service:
    """A service in this thread; `edits` has what is written into its configuration before a batch (by its number)."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.told: list[str] = []
        self.reloaded: list[list[str]] = []
        self.intervals: list[float] = []

    def run(
        self, operator: type, edits: dict[int, str | Callable[[], Any]], batches: int, store: Any = None, **given: Any
    ) -> SessionResult:
        given = {"id": "a", "user": "me", "datastore": "memory://", "service": True, "config_file": str(self.file), **given}

        def read() -> Any:
            config = load_config(given, {})
            return resolve(given, {}, config), config

        def listen(event: Event) -> None:
            if event.kind == "warning":
                self.told.append(event.data["message"])
            if event.kind == "reloaded":
                self.reloaded.append(event.data["changed"])
            if event.kind == "batch_ended":
                self.intervals.append(run.settings.interval)
                edit = edits.get(event.data["batch"] + 1)
                if isinstance(edit, str):
                    self.file.write_text(edit)
                elif edit:
                    edit()
                if event.data["batch"] == batches:
                    run.stop.set(stopped_by(15, "SIGTERM"))

        settings, config = read()
        run = SessionRun(operator, settings, config, {}, listen, store or MemoryStore())
        run.reread = read
        run.ids.jitter = lambda: 0.0  # type: ignore[method-assign]
        return run.work()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    file = tmp_path / "config.yaml"
    file.write_text(OLD)
    return Service(file)


def test_new_tables_and_keys(service: Service, every: type[Every]) -> None:
    new = "config: {interval: 0.001, commit_seconds: 4}\ntbls: {a: {unique_by: n}, b: {}}\n"
    result = service.run(every, {2: new, 3: OLD}, 4)
    assert (result.exit_code, result.warnings) == (0, [])
    assert every.seen == [(1, "a", ()), (2, "a", ("n",)), (2, "b", ()), (3, "a", ()), (4, "a", ())]
    assert service.intervals == [0, 0.001, 0, 0]
    assert service.reloaded == [["interval", "tbls"], ["interval", "tbls"]]


def test_only_the_content_counts(service: Service, every: type[Every]) -> None:
    stat = service.file.stat()

    def touch() -> None:
        os.utime(service.file, (0, 0))

    def same_size_and_time() -> None:
        service.file.write_text(OLD.replace("a: {}", "b: {}"))
        os.utime(service.file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    service.run(every, {2: touch, 3: same_size_and_time}, 3)
    assert [name for _, name, _ in every.seen] == ["a", "a", "b"]
    assert service.reloaded == [["tbls"]]


def test_what_cannot_change_is_named(service: Service, every: type[Every]) -> None:
    new = "config: {interval: 0, commit_seconds: 9, id: other, datastore: /elsewhere, grace: 1, execution_timeout: 5}\ntbls: {a: {}}\n"
    given = {"id": None, "datastore": None}
    first = "config: {interval: 0, id: one, datastore: /here}\ntbls: {a: {}}\n"
    service.file.write_text(first)
    result = service.run(every, {2: new}, 3, **given)
    (told,) = service.told
    assert "id, datastore, execution_timeout, grace cannot change while the service runs" in told
    assert service.reloaded == [["commit_seconds"]]
    assert (result.anchovy_id, result.exit_code) == ("one", 0)


def test_the_command_line_still_wins(service: Service, every: type[Every]) -> None:
    service.run(every, {2: OLD.replace("interval: 0", "interval: 600")}, 3, interval=0)
    assert service.reloaded == []


@pytest.mark.parametrize(
    "broken",
    [
        "config: [",
        "config: {interval: soon}\n",
        "nonsense: 1\n",
        "config: {}\ntbls: {a: {unique_by: n, nonsense: 1}}\n",
        "config: {interval: 0, enabled: [nothing]}\ntbls: {a: {}}\n",
        None,
    ],
    ids=["no YAML", "a wrong value", "an unknown key", "an unknown property", "a pattern that matches nothing", "gone"],
)
def test_a_broken_file_changes_nothing_and_is_told_of_once(service: Service, every: type[Every], broken: str | None) -> None:
    good = OLD.replace("a: {}", "b: {}")
    result = service.run(every, {2: broken or service.file.unlink, 5: good}, 6)
    assert result.exit_code == 0
    assert len(service.told) == 1
    assert "changed and cannot be used" in service.told[0]
    seen = {number: name for number, name, _ in every.seen}
    assert seen[4] == "a"
    assert seen[5] == seen[6] == "b"


def test_an_uploader_takes_another_upstream(service: Service, tmp_path: Path) -> None:
    """And goes back where there is none of that name."""
    url = f"memory://reload-{tmp_path}"

    class One(Downloader):
        @source("t")
        def t(self) -> Any:
            yield {"n": 1}

    class Up(Uploader):
        got: list[str] = []

        @sink()
        def take(self, stream: Any) -> None:
            self.got.append("rows")
            list(stream)

    for name in ("a", "b"):
        anchovies.run(One, id=name, user="me", datastore=url)
    text = "config: {interval: 0, upstream: [%s]}\n"
    service.file.write_text(text % "a")
    loaded: list[int] = []

    def then(upstream: str) -> Callable[[], None]:
        def edit() -> None:
            loaded.append(len(Up.got))
            service.file.write_text(text % upstream)

        return edit

    edits = {2: then("nobody"), 3: then("nobody"), 4: then("a, b"), 5: then("a, b"), 6: then("a, b")}
    result = service.run(Up, edits, 5, store=open_store(url))
    assert (result.exit_code, loaded) == (0, [1, 1, 1, 2, 2])
    assert len([m for m in service.told if "cannot be used: upstream 'nobody'" in m]) == 1


def test_a_file_that_is_being_written_is_waited_for(
    service: Service, every: type[Every], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["tbls: {", OLD.replace("a: {}", "b: {}")]
    real = reload.digest_of

    def slowly(path: Path) -> Any:
        if texts:
            path.write_text(texts.pop(0))
        return real(path)

    def arm() -> None:
        monkeypatch.setattr(reload, "digest_of", slowly)

    service.run(every, {2: arm}, 3)
    assert service.told == []
    assert [name for _, name, _ in every.seen] == ["a", "b", "b"]
