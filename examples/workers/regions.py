"""One large table, read by several processes: each takes some of the splits that the source offers."""

from anchovies.sdk import Downloader, context, source


class Regions(Downloader):
    def regions(self):
        """The pieces. Files, key ranges or dates are good ones, too."""
        return ["north", "east", "south", "west", "harbour", "island"]

    @source("sales", splits="regions")
    def sales(self, table, split):
        done = context().checkpoint(f"{table}: {split}")  # one for each split
        for number in range(done.get(0) + 1, 101):
            yield {"region": split, "number": number}
            done.set(number)
