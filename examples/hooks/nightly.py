"""Methods that run at other moments: before the tables, with each, after them, and when something fails."""

from anchovies.sdk import Downloader, batch, context, on_task, source


class Nightly(Downloader):
    @on_task("startup")
    @on_task("shutdown")
    def once(self, task):
        print(f"{task.type.lower()}: once a session")

    @on_task("xopen")
    def before(self):
        print(f"xopen: before the tables {', '.join(sorted(batch().tbls)) or '(not known yet)'}")

    @on_task("tbl", tbl="stars")
    def each(self, tbl, task):
        task.with_(telescope="north")  # it is in the task's log record
        print(f"tbl: before {tbl.name} is read")

    @source("stars")
    def stars(self):
        yield {"name": "Vega"}

    @source("clouds")
    def clouds(self):
        yield {"name": "cumulus"}
        raise OSError("the telescope is closed")

    @on_task("error")
    def failed(self, error, table):
        print(f"error: {table or 'the batch'}: {error}")

    @on_task("xclose")
    def after(self):
        runs = context().checkpoint("runs")
        runs.set(runs.get(0) + 1)
        print(f"xclose: whatever happened; run {runs.get()}")
