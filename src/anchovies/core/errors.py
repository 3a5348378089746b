"""Every error of the library, named after what the caller does next.

AnchovyError
├── ConfigError              mend the configuration and start again          exit 2
├── RetryableError           try the same thing again (we already did, inside the deadline)
│   ├── StoreUnavailable     the datastore did not answer, or its answer was lost
│   └── StaleSession         another session committed first: begin again from a fresh load
├── FatalError               look at what it names before anything is started again
│   ├── CorruptDatastore     bytes are not what their checksum says
│   ├── HistoryDiverged      the log is not the one that was read before
│   ├── GapError             commits were retired before they were read
│   └── SourceError          the source broke off, or changed while it was read
├── CommitUnknown            the store never said whether the commit landed: look before trying again
├── RowError                 this row only
├── Fenced                   a newer session owns this anchovy: stop at once
├── AlreadyRunning           another process runs this anchovy (`--if-running fail`, or `wait` in vain)
├── Stopped                  a signal or a failed sibling ended the batch
├── AnchovyExecutionTimeout  the deadline of the batch passed                exit 3
├── NotFound                 a datastore has no object of that key
└── AlreadyExists            a datastore has an object of that key: a question, never an answer
"""

from __future__ import annotations


class AnchovyError(Exception):
    """Root of all errors. `hint` is the way out, in words; `where` are the fields that locate it (tbl, file, line, key…)."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, **where: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = {k: v for k, v in where.items() if v is not None}

    def __str__(self) -> str:
        return self.message


class ConfigError(AnchovyError):
    """Mend the configuration, or the command, and start again."""

    exit_code = 2


class RetryableError(AnchovyError):
    """The same call may succeed when it is made again.

    `patient=True`: as often as the deadline allows, because somebody else has what we need and will give it back.
    `retry_after=30`: not before so many seconds have passed, because they said so. A source that raises it is called again, from
    what it has set so far in this batch.
    """

    @property
    def retry_after(self) -> float:
        said = self.where.get("retry_after", 0)
        return max(0.0, float(said)) if isinstance(said, int | float) else 0.0

    @property
    def patient(self) -> bool:
        return bool(self.where.get("patient"))


class StoreUnavailable(RetryableError):
    """The datastore failed. Whether the operation took effect is unknown."""


class StaleSession(RetryableError):
    """Another session committed between our load and our first commit: throw the batch away, load, begin again."""


class FatalError(AnchovyError):
    """Trying again cannot help; somebody has to look."""


class CorruptDatastore(FatalError):
    """An object is missing, or is not what its checksum says."""


class HistoryDiverged(FatalError):
    """The log is not a continuation of what was read before (restored, copied or replaced)."""


class GapError(FatalError):
    """Commits that were not read yet were retired."""


class SourceError(FatalError):
    """The source broke off, or changed while it was read; nothing of what was half read is committed."""


class CommitUnknown(AnchovyError):
    """The datastore never said whether a commit landed. Nothing was cleaned up; the next session finds out."""


class RowError(AnchovyError):
    """One row cannot be kept as it is."""


class Fenced(AnchovyError):
    """A newer session of this anchovy has committed; this one must not go on."""


class AlreadyRunning(AnchovyError):
    """Another process is running this anchovy."""


class Stopped(AnchovyError):
    """The batch was told to stop (signal, or another failure)."""


class AnchovyExecutionTimeout(AnchovyError):
    """The execution timeout of the batch passed."""

    exit_code = 3


class NotFound(AnchovyError):
    """No object of that key."""


class AlreadyExists(AnchovyError):
    """There is an object of that key. It may be our own: compare the nonce before concluding anything."""
