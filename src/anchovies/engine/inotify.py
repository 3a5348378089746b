"""File events of Linux, by the C library that is loaded anyway: which of some folders got a new file."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_CREATE, _MOVED_TO, _ONLYDIR = 0x100, 0x80, 0x01000000
_BUFFER = 1 << 16


class Inotify:
    """`fd` can be read when something was made in, or moved into, a watched folder. Only events of this machine are seen."""

    def __init__(self, libc: ctypes.CDLL) -> None:
        self._libc = libc
        self.fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")

    def watch(self, folder: str) -> int | None:
        """The number of the watch (the same for the same folder); None where there is no such folder, or no watch to be had."""
        number: int = self._libc.inotify_add_watch(self.fd, os.fsencode(folder), _CREATE | _MOVED_TO | _ONLYDIR)
        return None if number < 0 else number

    def forget(self, number: int) -> None:
        self._libc.inotify_rm_watch(self.fd, number)

    def drain(self) -> None:
        """Take what was told: whoever is woken looks for himself."""
        with suppress(BlockingIOError):
            while os.read(self.fd, _BUFFER):
                pass

    def close(self) -> None:
        os.close(self.fd)


def open_inotify() -> Inotify | None:
    """None where there are no such events: another system, or all of a user's instances are taken."""
    try:
        return Inotify(ctypes.CDLL(None, use_errno=True))
    except (AttributeError, OSError):
        return None
