"""The installed `udpkit`, run as its user runs it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

UDPKIT = str(Path(sys.executable).with_name("udpkit"))
TIMEOUT = 60
"""Seconds after which a run counts as hung."""


def environment(**changes: str) -> dict[str, str]:
    """Ours, without what changes how programs print."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**kept, "TERM": "xterm-256color", **changes}


def udpkit(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it with pipes for its output."""
    return subprocess.run(
        [UDPKIT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env=environment(**env),
    )


def on_terminals(*arguments: str | Path, **env: str) -> tuple[int, str, str]:
    """Run it with a terminal for stdout and another for stderr; returns its exit code and what each got."""
    masters, slaves = zip(*(pty.openpty() for _ in range(2)), strict=True)
    process = subprocess.Popen(
        [UDPKIT, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=slaves[0],
        stderr=slaves[1],
        env=environment(COLUMNS="120", LINES="40", **env),
    )
    for slave in slaves:
        os.close(slave)
    shown = dict.fromkeys(masters, b"")
    open_masters = set(masters)
    while open_masters:
        ready, _, _ = select.select(open_masters, [], [], TIMEOUT)
        assert ready, "it hangs"
        for master in ready:
            try:
                shown[master] += os.read(master, 65536)
            except OSError:  # EIO: nobody has the other end open any more
                os.close(master)
                open_masters.discard(master)
    out, err = (shown[master].decode().replace("\r\n", "\n") for master in masters)
    return process.wait(TIMEOUT), out, err
