"""SQL databases: `sql.Uploader` loads committed rows into DuckDB, SQLite, PostgreSQL or MariaDB, together with its position."""

from anchovies.plugins.sql.connection import DbConnection
from anchovies.plugins.sql.uploader import Uploader

PLUGIN = {
    "name": "sql",
    "summary": "Load tables into DuckDB, SQLite, PostgreSQL and MariaDB, with their history",
    "extra": "sql",
    "requires": [],
    "operators": {"Uploader": "loads what upstream anchovies committed into a SQL database, each row exactly once"},
    "connections": {"DbConnection": "a SQL database: URL=duckdb:///path, sqlite:///path, postgresql://… or mysql://…"},
    "commands": {},
}

__all__ = ["PLUGIN", "DbConnection", "Uploader"]
