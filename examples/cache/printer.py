"""A slow sink that must not hold up its source: the rows wait in a private temporary file until the source has ended."""

from anchovies.sdk import Downloader, sink, source


class Pages(Downloader):
    @source("pages")
    def pages(self):
        print("the library opens")
        for number in (1, 2, 3):
            print(f"page {number} is read")
            yield {"page": number}
        print("the library closes")

    @sink("pages", cache=True)
    def printer(self, stream):
        for row in stream:
            print(f"page {row['page']} is printed, slowly")
