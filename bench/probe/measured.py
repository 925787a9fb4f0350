"""Run a program and say what it took: `measured.py FILE PROGRAM ARGUMENT…`.

The program's standard output goes to FILE. On ours comes one JSON object: its exit `status`, negative for a
signal, the `seconds` from start to end, and the most memory it had, `rss_kib` (ru_maxrss, getrusage(2)).
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(path: str, *argv: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    started = time.perf_counter()
    # Not a fork: a child would begin with our memory, and ru_maxrss outlives execve().
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, file, 1)])
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {"status": os.waitstatus_to_exitcode(status), "seconds": seconds, "rss_kib": usage.ru_maxrss}
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
