"""Runs a command and says what it took: a process of its own, because the peak of a child begins with that of whoever forks it.

Arguments: the descriptor to write to, the command. Imports nothing that is not needed.
"""

import json
import os
import sys
import time


def main() -> int:
    began = time.perf_counter()
    pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    with os.fdopen(int(sys.argv[1]), "w") as said:
        json.dump({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024}, said)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
