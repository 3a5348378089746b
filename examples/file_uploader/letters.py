"""One anchovy downloads, another one uploads: they share nothing but the datastore."""

import json

from anchovies.sdk import Downloader, Uploader, context, sink, source

LETTERS = [{"n": 1, "to": "Ada"}, {"n": 2, "to": "Ben"}, {"n": 3, "to": "Cem"}]


class Letters(Downloader):
    """Two letters a run."""

    @source("letters")
    def letters(self):
        last = context().checkpoint("last")
        for letter in LETTERS[last.get(0) :][:2]:
            yield letter
            last.set(letter["n"])


class Mailbox(Uploader):
    """Puts what is new into a file."""

    @sink("letters")
    def deliver(self, stream):
        with open("mailbox.jsonl", "a") as mailbox:
            for letter in stream:
                print(json.dumps(letter), file=mailbox)
