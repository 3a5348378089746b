"""Orders with their lines inside: one table of orders, one of lines, and one of what each article sold, all from one reading."""

from collections import Counter

from anchovies.sdk import Downloader, sink, source

ORDERS = [
    {"id": 1, "customer": "Ada", "lines": [{"sku": "herring", "qty": 2}, {"sku": "salt", "qty": 1}]},
    {"id": 2, "customer": "Ben", "lines": [{"sku": "herring", "qty": 5}]},
    {"id": 3, "customer": "Ada", "lines": []},
]


class Orders(Downloader):
    @source("orders")
    def orders(self):
        yield from ORDERS

    @source("order_lines")
    @sink("orders", streaming=True)  # it keeps nothing back between rows
    def order_lines(self, stream):
        for order in stream:
            for number, line in enumerate(order["lines"], 1):
                yield {"order_id": order["id"], "line": number, **line}

    @source("articles")
    @sink("order_lines")  # it has to see every row before it yields one
    def articles(self, stream):
        sold = Counter()
        for line in stream:
            sold[line["sku"]] += line["qty"]
        yield from ({"sku": sku, "qty": qty} for sku, qty in sold.items())
