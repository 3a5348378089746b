"""Tables that nobody has to list: every table of a SQLite database, found when the anchovy starts."""

import sqlite3

from anchovies.sdk import Connection, Downloader, Tbl, attr, context, source


class Database(Connection):
    path: str = attr("file of the database")

    def open(self):
        self.db = sqlite3.connect(self.path, check_same_thread=False)
        self.db.row_factory = sqlite3.Row

    def close(self):
        self.db.close()


class Everything(Downloader):
    connection_cls = Database

    def discover_tbls(self):
        for (name,) in self.cnxn.db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
            columns = self.cnxn.db.execute("SELECT name, pk FROM pragma_table_info(?)", [name]).fetchall()
            yield Tbl(name, unique_by=tuple(column["name"] for column in columns if column["pk"]))

    @source()  # no name: every table
    def rows(self, table):
        last = context().checkpoint(f"{table}.rowid")
        for row in self.cnxn.db.execute(f"SELECT rowid AS at, * FROM {table} WHERE rowid > ? ORDER BY at", [last.get(0)]):
            yield {name: row[name] for name in row.keys()[1:]}
            last.set(row["at"])
