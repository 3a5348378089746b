"""What a database must be able to do. One small class for each lies in `databases/`; everything else is the same SQL for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from anchovies.plugins.sql.names import fit, quote
from anchovies.sdk import ColType, ConfigError, Load, RetryableError
from anchovies.sdk.faults import fault

Row = tuple[object, ...]
TOO_LONG = "raise statement_timeout of the connection, or take it away"


@dataclass(frozen=True, slots=True)
class Col:
    """One column of a target table: its name at the source and in the database, its type and how the database says it."""

    source: str
    name: str
    type: ColType
    sql: str

    @property
    def quoted(self) -> str:
        return quote(self.name)


class Database(ABC):
    """One session of one database.

    Types are the database's own words for them, spelled as `describe` gives them back. Every error of the driver is translated:
    RetryableError where trying again may help, RowError for a value that does not fit, ConfigError for what has to be mended.
    """

    kind: ClassVar[str]
    name_limit: ClassVar[int]  # bytes
    reserved: ClassVar[frozenset[str]]  # column names, in lower case, that mean something else here
    addr: ClassVar[str]  # what tells one row of a table from another inside a transaction
    addr_type: ClassVar[str]
    key_index: ClassVar[str] = "inside"  # "inside" the transaction: a key gets a unique index; "after" it: an index; "": none
    ddl_commits: ClassVar[bool] = False  # whether DDL ends the transaction, so that it has to come before
    transient: ClassVar[str] = ""  # what makes a temporary table go with the transaction
    own_columns: ClassVar[tuple[str, ...]] = ()  # of every table we make: what it needs beside the rows
    view_blocks: ClassVar[bool] = False  # whether a table that a view reads can neither be dropped nor have its types changed
    no_int = "CAST(NULL AS bigint)"

    broken = False

    # ---- talking

    @abstractmethod
    def run(self, sql: str, *params: object) -> int:
        """Execute one statement; how many rows it touched."""

    @abstractmethod
    def rows(self, sql: str, *params: object) -> list[Row]:
        """Execute one query; its rows."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a transaction that may write."""

    @abstractmethod
    def commit(self) -> None:
        """Commit. RetryableError also where nobody knows whether it took effect: the position tells."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo the transaction; never raises."""

    @abstractmethod
    def close(self) -> None:
        """Close; never raises."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block did, or nothing of it."""
        fault("sql.begin.before", RetryableError)
        self.begin()
        try:
            yield
            fault("sql.commit.before", RetryableError)
            self.commit()
            fault("sql.commit.after", RetryableError)
        except BaseException:
            self.rollback()
            raise

    def limit(self, *, lock: float | None, statement: float | None) -> None:
        """Wait so many seconds for a lock, and let a statement take so many (0: for ever; None: as it is). Raises ConfigError for
        a limit that the database does not have."""
        for name, value in (("lock_timeout", lock), ("statement_timeout", statement)):
            if value is not None:
                raise ConfigError(f"{self.kind} has no {name}", hint=f"take {name} away; `-t` limits a whole run")

    @abstractmethod
    def attempt(self, sql: str) -> bool:
        """Execute one DDL statement; False, and nothing else undone, where rows that are there forbid it (a repeated key)."""

    @abstractmethod
    def fill(self, into: str, columns: Sequence[tuple[str, Col]], load: Load, *, seq: bool, unit: bool) -> int:
        """Bulk-load every row of `load` into the table `into` (quoted), with `_seq` and `_unit` if asked; how many rows.

        `columns` are pairs of target column (quoted) and column. Raises RowError and ConfigError as `rows.Checks` says.
        """

    # ---- structure

    @abstractmethod
    def describe(self, schema: str, table: str) -> dict[str, str] | None:
        """Column → type of a table or view; None where there is none."""

    @abstractmethod
    def view(self, schema: str, name: str) -> str | None:
        """The definition of a view; "" for a table or anything else that has the name, None where nothing has."""

    def replace_view(self, view: str, select: str) -> list[str]:
        """Statements that make the view (quoted), or make it anew."""
        return [f"CREATE OR REPLACE VIEW {view} AS {select}"]

    def relation(self, schema: str, table: str) -> str:
        """The full quoted name of a table."""
        return f"{quote(self.short(schema))}.{quote(self.short(table))}"

    def short(self, name: str) -> str:
        return fit(name, self.name_limit)

    def position_ddl(self, relation: str, keys: Sequence[str]) -> str:
        """The statement that makes a table of positions if it is missing."""
        columns = ", ".join(f"{name} varchar(1000) NOT NULL" for name in keys)
        return (
            f"CREATE TABLE IF NOT EXISTS {relation} ({columns}, slot bigint NOT NULL, cid varchar(100) NOT NULL, "
            f"consumer varchar(1000), PRIMARY KEY ({', '.join(keys)}))"
        )

    def create_table(self, relation: str, body: str) -> str:
        return f"CREATE TABLE {relation} ({body})"

    def add_column(self, relation: str, column: str, sql: str) -> str:
        return f"ALTER TABLE {relation} ADD COLUMN {column} {sql}"

    def index(self, name: str, relation: str, keys: Sequence[Col], history: bool) -> str | None:
        """The statement that makes the index of a key, unique among the current rows; None where there can be none."""
        if any(self.carry("x", c.sql) != "x" for c in keys):
            return None
        current = " WHERE _del IS NULL" if history else ""
        columns = ", ".join(c.quoted for c in keys)
        return f"CREATE UNIQUE INDEX IF NOT EXISTS {quote(name)} ON {relation} ({columns}){current}"

    def create_schema(self, schema: str) -> str | None:
        """The statement that makes the schema if it is missing; None where there are no schemas."""
        return f"CREATE SCHEMA IF NOT EXISTS {quote(self.short(schema))}"

    def widen(self, relation: str, column: str, sql: str, using: str) -> list[str]:
        """Statements that make `column` (quoted) of `relation` a `sql`, its values being `using`."""
        return [f"ALTER TABLE {relation} ALTER COLUMN {column} TYPE {sql} USING {using}"]

    def rebuild(self, schema: str, table: str, changes: dict[str, tuple[str, str]]) -> list[str]:
        """Statements that change the types of columns: column → (type, expression over the old column)."""
        relation = self.relation(schema, table)
        return [s for c, (sql, using) in changes.items() for s in self.widen(relation, quote(c), sql, using)]

    # ---- types and expressions

    @abstractmethod
    def sql_type(self, type: ColType) -> str:
        """The type of a new column. Raises ConfigError for what the database cannot keep."""

    @abstractmethod
    def widening(self, have: str, want: str, column: str) -> str | None:
        """The expression that takes `column` (quoted) from `have` to the wider type `want`; None where `want` is not wider."""

    def param(self, n: int) -> str:
        return f"${n}"

    def same(self, a: str, b: str) -> str:
        """Whether two carried values are equal, null being equal to null."""
        return f"{a} IS NOT DISTINCT FROM {b}"

    def carry(self, expr: str, sql: str) -> str:
        """`expr` as a value that can be compared and grouped."""
        return expr

    def uncarry(self, expr: str, sql: str) -> str:
        """A carried value as the column's own type."""
        return expr

    def ordered(self, expr: str, col: Col) -> str:
        """What a carried value is ordered by: numbers by value, text by code point. Raises ConfigError where that cannot be."""
        return expr

    def sorted(self, expr: str, descending: bool) -> str:
        """What a window is ordered by: null after everything else."""
        return f"{expr} {'DESC' if descending else 'ASC'} NULLS LAST"

    # ---- statements that are not the same everywhere

    def make_temp(self, name: str, *, columns: str = "", select: str = "", keys: Sequence[str] = ()) -> None:
        """Make a temporary table, of `columns` or from `select`. `keys`: what it is joined by, where that must be told."""
        body = f" ({columns})" if columns else ""
        self.run(f"CREATE TEMPORARY TABLE {name}{body}{self.transient}{f' AS {select}' if select else ''}")

    def drop_temp(self, name: str) -> None:
        self.run(f"DROP TABLE IF EXISTS {name}")

    def index_temp(self, name: str, column: str) -> None:
        """A temporary table is joined by this column, too."""
        self.run(f"CREATE INDEX {name}_{column} ON {name} ({column})")

    def end_rows(self, relation: str, ends: str) -> str:
        """The statement that sets `_del` of the rows of `relation` whose address is `_addr` in the table expression `ends`."""
        return f"UPDATE {relation} SET _del = f._end FROM {ends} f WHERE {relation}.{self.addr} = f._addr"  # noqa: S608

    def delete_rows(self, relation: str, ends: str) -> str:
        """The statement that deletes them."""
        return f"DELETE FROM {relation} WHERE {self.addr} IN (SELECT f._addr FROM {ends} f)"  # noqa: S608

    def insert_once(self, relation: str, columns: Sequence[str], values: str) -> str:
        """The statement that inserts a row, unless its key is there."""
        return f"INSERT INTO {relation} ({', '.join(columns)}) VALUES ({values}) ON CONFLICT DO NOTHING"  # noqa: S608

    def lock_position(self) -> str:
        """What a SELECT of the position ends with, so that nobody else loads meanwhile."""
        return ""

    def analyze(self, table: str) -> None:  # noqa: B027 - most databases need not be told
        """Tell the planner about a table that was just filled."""
