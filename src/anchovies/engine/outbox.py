"""Acknowledgements at the source: which tokens the log still owes, and which the newest record may leave out.

They are said with `context().ack(token)`, committed in `Change.ack_pending` with the rows they stand for, handed to the `@on_ack`
methods after that, and left out by the first commit after that. Whoever finds them in the log hands them out (again) first.
"""

from __future__ import annotations

from collections.abc import Iterable

from anchovies.core.errors import FatalError
from anchovies.store.log import Log

MOST_PENDING = 10_000
COMMIT_AFTER = 1_000  # tokens, at the next mark: a record should stay short


class Outbox:
    """What one session knows of the tokens in its log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._clean = self._tried = self._ours = ""  # cids: after that record all was acknowledged; was tried; is our own

    def carried(self, due: Iterable[str]) -> list[str]:
        """The tokens of the next record: those that nobody has acknowledged yet, then `due`.

        Raises FatalError when the source refuses so many that they would choke the log.
        """
        left, due = self._left(), list(due)
        if due and len(left) > MOST_PENDING:
            raise FatalError(
                f"{len(left):,} acknowledgements are pending, because the @on_ack methods keep failing",
                hint="mend what the warnings say; nothing is lost: they are handed out again, then reading goes on",
            )
        return list(dict.fromkeys([*left, *due]))

    def _left(self) -> list[str]:
        return [] if self._log.state.cid == self._clean else self._log.ack_pending

    def waiting(self) -> list[str]:
        """What the `@on_ack` methods should get now; nothing twice between two commits of ours."""
        return [] if self._log.state.cid == self._tried else self._left()

    @property
    def is_ours(self) -> bool:
        """Whether this session itself made the newest record, so that it is durable."""
        return self._log.state.cid == self._ours

    @property
    def owes_record(self) -> bool:
        """Whether the log still names tokens that were acknowledged."""
        return bool(self._log.ack_pending) and not self._left()

    def committed(self) -> None:
        """The newest record is one of ours."""
        self._ours = self._log.state.cid

    def tried(self, *, well: bool) -> None:
        """The methods had all tokens of the newest record."""
        self._tried = self._log.state.cid
        if well:
            self._clean = self._tried
