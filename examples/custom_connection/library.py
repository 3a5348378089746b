"""A connection of your own, and any callable as another: settings come from variables, secrets stay secret."""

import sqlite3

from anchovies.sdk import Connection, ConnectionMemo, Downloader, Secret, attr, context, source


class Shelf(Connection):
    """The library's database. Each attribute is a variable: ACHVY_CNXN__PATH, …; `anchovy plugin` would list them."""

    path: str = attr("file of the database")
    password: Secret = attr("of the reader")
    timeout: float = attr("seconds to wait for a lock", default=5.0)

    def open(self):
        if self.password.reveal() != "sesame":
            raise PermissionError("wrong password")
        self.db = sqlite3.connect(self.path, timeout=self.timeout, check_same_thread=False)

    def close(self):
        self.db.close()

    def books(self, after):
        return self.db.execute("SELECT id, title FROM books WHERE id > ? ORDER BY id", [after])


class Library(Downloader):
    connection_cls = Shelf
    notes = ConnectionMemo("notes", open)  # ACHVY_CNXN__NOTES__FILE is an argument of open()

    @source("books")
    def books(self):
        last = context().checkpoint("last book")
        prefix = self.notes.readline().strip()
        for number, title in self.cnxn.books(after=last.get(0)):
            yield {"id": number, "title": f"{prefix} {title}"}
            last.set(number)
