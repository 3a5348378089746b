"""A stand-in for a shop's API on 127.0.0.1, so that the example runs anywhere."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ORDERS = [
    {"id": n, "customer": f"c{n % 7}", "lines": [{"sku": "herring", "qty": 1}, {"sku": "salt", "qty": n}]} for n in range(1, 251)
]


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)
        rows = [o for o in ORDERS if o["id"] > int(query["after"][0])][: int(query["limit"][0])]
        body = json.dumps({"rows": rows, "cursor": rows[-1]["id"] if rows else None}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Be quiet."""


@contextlib.contextmanager
def open_shop():
    """`with open_shop() as address:` — a running API."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
