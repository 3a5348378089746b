"""An uploader on trial: an upstream with known commits beside it, and a target that a test can look into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anchovies.sdk.context import context
from anchovies.sdk.markers import source
from anchovies.sdk.operator import Downloader, Uploader
from anchovies.testing.trial import Outcome, Rows, Subject, Trial, canonical, difference

Commits = Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
UPSTREAM = "upstream"
ITEMS: Commits = {
    "items": [
        [{"id": 1, "name": "herring", "price": 2.5}, {"id": 2, "name": "salt", "price": 0.5}],
        [{"id": 3, "name": "oil", "price": 7.0}],
        [{"id": n, "name": f"tin {n}", "price": n / 4} for n in range(4, 9)],
    ]
}


def _no_contents() -> Mapping[str, Iterable[Mapping[str, Any]]]:
    raise AssertionError("say what the target holds: Target(…, contents=lambda: {'items': rows})")


@dataclass
class Target(Subject):
    """An uploader and where it loads to. `commits`: table → the rows of each commit of its upstream, which the suite writes.

    `contents`: table → the rows that the target holds now, with the columns of the upstream. `exactly`: each row once, whatever
    happens; false where a crash may hand rows in again (sinks without a key).
    """

    commits: Commits = field(default_factory=lambda: ITEMS)
    contents: Callable[[], Mapping[str, Iterable[Mapping[str, Any]]]] = _no_contents
    exactly: bool = True


def upstream_of(commits: Commits) -> type[Downloader]:
    """A downloader that brings the rows of each commit and a mark after them."""

    def reader(name: str, parts: Sequence[Sequence[Mapping[str, Any]]]) -> Callable[..., Iterator[Any]]:
        @source(name)
        def read(self: Downloader, **kwds: Any) -> Iterator[Any]:
            done = context().checkpoint(name)
            for n in range(done.get(0), len(parts)):
                yield [dict(row) for row in parts[n]]
                done.set(n + 1)

        return read

    methods: dict[str, Any] = {f"read_{n}": reader(tbl, parts) for n, (tbl, parts) in enumerate(commits.items())}
    return type("Upstream", (Downloader,), methods)


class Upload(Trial):
    """An uploader over a datastore in which its upstream lies already. `whole` false: without its last commit."""

    def __init__(self, target: Target, *, whole: bool = True) -> None:
        super().__init__(target, id="uploader")
        self.target = target
        self.bring(None if whole else -1)

    def bring(self, upto: int | None = None) -> None:
        """Let the upstream commit what it has, up to that commit."""
        parts = {t: list(p)[:upto] for t, p in self.target.commits.items()}
        first = Subject(upstream_of(parts), tbls={}, settings={"commit_bytes": 1})
        outcome = Trial(first, self.store, id=UPSTREAM).run()
        assert outcome.ok, outcome.result.err_msg
        self._parts = parts

    def run(self, operator: Any = None, store: Any = None, **settings: object) -> Outcome:
        return super().run(operator, store, **{"upstream": [UPSTREAM], **settings})

    def wanted(self) -> Rows:
        """What the target must hold when everything that was brought is loaded."""
        return {t: Counter(canonical(row) for part in p for row in part) for t, p in self._parts.items()}

    def there(self) -> Rows:
        return {t: Counter(map(canonical, rows)) for t, rows in self.target.contents().items()}

    def assert_loaded(self, where: str) -> None:
        """Everything is there: each row once, or at least once where the target says that it cannot do more."""
        want, there = self.wanted(), self.there()
        if not self.target.exactly:
            there = {t: Counter(dict.fromkeys(rows, 1)) for t, rows in there.items()}
            want = {t: Counter(dict.fromkeys(rows, 1)) for t, rows in want.items()}
        wrong = difference(want, there)
        assert not wrong, f"{where}: {wrong}"

    @property
    def transactional(self) -> bool:
        """Whether the target keeps the position itself."""
        cls = self.subject.cls
        return issubclass(cls, Uploader) and cls.position is not Uploader.position
