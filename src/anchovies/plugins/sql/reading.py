"""What a database must be able to do to be read. One small class for each lies in `readers/`; all else is the same SQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anchovies.plugins.sql.names import quote
from anchovies.sdk import ColType

if TYPE_CHECKING:
    import pyarrow as pa

MARK = ColType("mark")
"""The type of a picked column that only says where a row lies: a text that `literal` makes a value of again, without loss."""
NUMBER = ColType("number")
"""An exact number without bounds: its values say how many digits it needs."""
UNKNOWN = ColType("null")
"""A column whose values say what it is."""
BLOCK = 4 << 20
"""Bytes of a batch, about."""


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """One column of a table: its type as the database says it, as ours, and the expression that reads it."""

    name: str
    sql: str
    type: ColType
    expr: str
    nullable: bool = True

    @property
    def quoted(self) -> str:
        return quote(self.name)

    @property
    def is_known(self) -> bool:
        """Whether its type can be said before any value was seen."""
        return self.type not in (NUMBER, UNKNOWN)


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view. `key`: its primary key, if no part of it can be null."""

    schema: str
    name: str
    sql: str
    columns: tuple[SourceColumn, ...]
    key: tuple[str, ...] = ()
    view: bool = False

    def column(self, name: str) -> SourceColumn | None:
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True, slots=True)
class Pick:
    """One column of a result: its label, the expression, and the type it has to have."""

    label: str
    sql: str
    type: ColType


class Reader(ABC):
    """One session that reads, and never writes. Errors of the driver are translated as `Database` says."""

    broken = False

    @abstractmethod
    def begin(self, snapshot: str | None) -> None:
        """Begin a read-only transaction that sees one state of the database, the one that `snapshot` names if it is given."""

    def export(self) -> str | None:
        """A name under which other sessions can see the state that this one sees; None: there is no such thing."""
        return None

    @abstractmethod
    def relations(self) -> list[Relation]:
        """Every table and view that can be read, but for the system's own and ours."""

    @abstractmethod
    def stream(self, picks: Sequence[Pick], rest: str) -> Iterator[pa.RecordBatch]:
        """The rows of `SELECT <picks> <rest>` in batches of bounded size, in the Arrow types of the picks.

        Raises RowError for a value that its type cannot hold, FatalError for SQL that the database does not take.
        """

    @abstractmethod
    def close(self) -> None:
        """Close; never raises."""

    def first(self, picks: Sequence[Pick], rest: str) -> dict[str, object] | None:
        """The row of a query that has one at most."""
        rows = [row for batch in self.stream(picks, rest) for row in batch.to_pylist()]
        return dict(rows[0]) if rows else None

    def check(self, rest: str) -> None:
        """Raises what the database says of `SELECT 1 <rest>`."""
        self.first([Pick("n", "1", ColType("int"))], f"{rest} LIMIT 0")

    def query(self, picks: Sequence[Pick], rest: str) -> str:
        """The statement. Labels that no column has: what is sorted by is meant to be a column, not something that was picked."""
        return f"SELECT {', '.join(f'{p.sql} AS _anchovies_{i}' for i, p in enumerate(picks))} {rest}"

    # ---- expressions

    @abstractmethod
    def mark(self, expr: str, column: SourceColumn) -> str:
        """`expr`, a value of `column`, as a MARK."""

    @abstractmethod
    def literal(self, mark: str, column: SourceColumn) -> str:
        """What a MARK stands for, as SQL that nothing can break out of."""

    @abstractmethod
    def settled(self, top: str, column: SourceColumn, lag: float) -> str:
        """`top` (SQL), or now where `top` lies in the future, less `lag`: seconds for times, days for dates, else a number."""

    def ranked(self, expr: str, column: SourceColumn) -> str:
        """A value of `column` as it is ordered and compared: text by code point."""
        return expr

    def as_text(self, column: SourceColumn) -> str:
        """The expression that reads a column as text, whatever it is."""
        return f"CAST({column.quoted} AS VARCHAR)"


def quoted_text(text: str) -> str:
    """`text` as a literal of standard SQL."""
    return "'" + text.replace("'", "''") + "'"
