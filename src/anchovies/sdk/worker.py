"""`worker`: which of the processes that share one anchovy this is."""

from __future__ import annotations

from hashlib import sha256

import msgspec


class Worker(msgspec.Struct, frozen=True):
    """Number `num`, from 0, of `of` workers (`--worker-num`, `--workers`)."""

    num: int = 0
    of: int = 1

    def owns(self, name: str) -> bool:
        """Whether what is called `name` (a table, a file, a range) falls to this worker. Of all workers it falls to one, by its
        name alone, whatever else there is to share out."""
        return self.of == 1 or int.from_bytes(sha256(name.encode()).digest()[:8], "big") % self.of == self.num
