"""A downloader for an API that gives its orders page by page, each with a cursor for the next."""

import json
from urllib.request import urlopen

from anchovies.sdk import Connection, Downloader, attr, context, sink, source


class Shop(Connection):
    """The shop's API: ACHVY_CNXN__SHOP__URI and, if you like, ACHVY_CNXN__SHOP__PAGE_SIZE."""

    uri: str = attr("where the API is")
    page_size: int = attr("orders a page", default=100)

    def orders(self, after: int) -> dict:
        with urlopen(f"{self.uri}/orders?after={after}&limit={self.page_size}", timeout=30) as answer:
            return json.load(answer)


class Orders(Downloader):
    shop: Shop

    @source("orders")
    def orders(self, **kwds):
        cursor = context().checkpoint("orders.cursor")
        while (page := self.shop.orders(after=cursor.get(0)))["rows"]:
            yield page["rows"]
            cursor.set(page["cursor"])

    @source("order_lines")
    @sink("orders", streaming=True)
    def order_lines(self, stream, **kwds):
        for order in stream:
            for number, line in enumerate(order["lines"], 1):
                yield {"order_id": order["id"], "line": number, **line}
