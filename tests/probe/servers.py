"""The lab's real servers, in tests: what is not installed is a skip that says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from udpkit.lab import Host, Program, ProgramMissing
from udpkit.lab.servers import SERVERS, prepare

__all__ = ["SERVERS", "start"]


def start(name: str, host: Host, directory: Path) -> Program:
    """Run a server on a lab host, with its files below `directory`; returns when its port is open.

    Skips the test if the server's program is not installed.
    """
    server = SERVERS[name]
    own = directory / f"{host.name}-{name}"
    own.mkdir()
    try:
        running = host.run(*prepare(server, host, own))
    except ProgramMissing as missing:
        pytest.skip(f"{missing}, which {name} needs (Debian package {server.package})")
    host.wait_for_port(server.port, running, timeout=20)
    return running
