"""Where an author finds what went wrong."""

from __future__ import annotations

import os
import traceback

import anchovies

_LIBRARIES = (os.path.dirname(anchovies.__file__ or "anchovies"), os.path.dirname(os.__file__))


def authors_line(error: BaseException) -> str:
    """`orders.py:12, in pages`: the last line that is neither ours nor a library's, so that an author finds theirs."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith((*_LIBRARIES, "<")) and "site-packages" not in f.filename]
    return f"{os.path.basename(theirs[-1].filename)}:{theirs[-1].lineno}, in {theirs[-1].name}" if theirs else ""
