"""The public face: everything that somebody who writes an anchovy, or a plugin, needs."""

from anchovies.core.errors import (
    AlreadyRunning,
    AnchovyError,
    AnchovyExecutionTimeout,
    ConfigError,
    CorruptDatastore,
    FatalError,
    RetryableError,
    RowError,
    SourceError,
    Stopped,
)
from anchovies.core.secret import Secret
from anchovies.core.tbl import Column, SortKey, Tbl
from anchovies.core.types import ColType, parse_type
from anchovies.sdk.cached import cached
from anchovies.sdk.connection import Connection, ConnectionMemo, attr
from anchovies.sdk.context import Checkpoint, Context, Ledger, Task, batch, context, session
from anchovies.sdk.markers import on_ack, on_task, sink, source
from anchovies.sdk.operator import Downloader, Operator, Uploader
from anchovies.sdk.result import SessionResult, TableResult
from anchovies.sdk.session import Batch, Session
from anchovies.sdk.stream import Counts, Load, LoadFile, Position, PositionMoved, Stream, Target
from anchovies.sdk.worker import Worker

__all__ = [
    "AlreadyRunning",
    "AnchovyError",
    "AnchovyExecutionTimeout",
    "Batch",
    "Checkpoint",
    "ColType",
    "Column",
    "ConfigError",
    "Connection",
    "ConnectionMemo",
    "Context",
    "CorruptDatastore",
    "Counts",
    "Downloader",
    "FatalError",
    "Ledger",
    "Load",
    "LoadFile",
    "Operator",
    "Position",
    "PositionMoved",
    "RetryableError",
    "RowError",
    "Secret",
    "Session",
    "SessionResult",
    "SortKey",
    "SourceError",
    "Stopped",
    "Stream",
    "TableResult",
    "Target",
    "Task",
    "Tbl",
    "Uploader",
    "Worker",
    "attr",
    "batch",
    "cached",
    "context",
    "on_ack",
    "on_task",
    "parse_type",
    "session",
    "sink",
    "source",
]
