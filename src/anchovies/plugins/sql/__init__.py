"""SQL databases: `sql.Uploader` loads committed rows into DuckDB, SQLite, PostgreSQL or MariaDB, together with its position.

`sql.Downloader` reads their tables and views.
"""

from anchovies.plugins.sql.connection import DbConnection
from anchovies.plugins.sql.downloader import Downloader
from anchovies.plugins.sql.source import SourceConnection
from anchovies.plugins.sql.uploader import Uploader

PLUGIN = {
    "name": "sql",
    "summary": "Load tables into DuckDB, SQLite, PostgreSQL and MariaDB, with their history, and read theirs",
    "extra": "sql",
    "requires": [],
    "operators": {
        "Uploader": "loads what upstream anchovies committed into a SQL database, each row exactly once",
        "Downloader": "reads tables and views of a SQL database, whole or what is new",
    },
    "connections": {
        "DbConnection": "a SQL database: URL=duckdb:///path, sqlite:///path, postgresql://… or mysql://…",
        "SourceConnection": "one that is read: URL=duckdb:///path, sqlite:///path, postgresql://… or mysql://…",
    },
    "commands": {},
}

__all__ = ["PLUGIN", "DbConnection", "Downloader", "SourceConnection", "Uploader"]
