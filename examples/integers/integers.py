"""The smallest downloader with a checkpoint: it counts on from where it stopped."""

from anchovies.sdk import Downloader, context, source


class Integers(Downloader):
    @source("integers")
    def integers(self, **kwds):
        last = context().checkpoint("last")
        start = last.get(0) + 1
        for n in range(start, start + 1000):
            yield {"n": n}
            if n % 100 == 0:
                last.set(n)
