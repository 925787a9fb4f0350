"""netcats of every kind on lab hosts: starting them, typing, and waiting for what they print."""

from __future__ import annotations

import shutil

import pytest
from cli.command import UDPKIT

from udpkit.evidence.programs import SEARCH_PATH
from udpkit.lab import Host, Program, wait_until

COMMAND = f"{UDPKIT} nc"
"""For a shell."""

PORT = 5300
CHUNK = 16 * 1024
"""The largest datagram that nc makes of stdin."""
SOON = 20
"""Seconds that nothing here takes, but on a machine that is very busy."""

OTHERS = ["nc.openbsd", "ncat", "socat"]


def start(host: Host, program: str, *arguments: str) -> Program:
    """Run `udpkit nc`, or another program; skip where that is missing."""
    if program == "udpkit":
        return host.run(UDPKIT, "nc", *arguments)
    if shutil.which(program, path=SEARCH_PATH) is None:
        pytest.skip(f"{program} is not installed")
    return host.run(program, *arguments)


def listener(host: Host, program: str, *arguments: str, port: int = PORT) -> Program:
    """Start one that listens, and wait until it does."""
    running = start(host, program, *arguments)
    host.wait_for_port(port, running, timeout=SOON)
    return running


def prints(program: Program, data: bytes) -> None:
    """Wait until everything that it has printed is this."""
    wait_until(
        lambda: len(program.output) >= len(data),
        [program],
        timeout=SOON,
        what=f"{len(data)} bytes, {data[:60]!r}, did not arrive",
    )
    assert bytes(program.output) == data


def tells(program: Program, words: str) -> None:
    """Wait until a line on stderr has these words."""
    wait_until(
        lambda: words in program.errors.decode(),
        [program],
        timeout=SOON,
        what=f"{words!r} was not told",
    )


def ends(program: Program, code: int) -> str:
    """Wait until it has ended with this code; returns what it printed on stderr."""
    status = program.wait(SOON)
    errors = program.errors.decode()
    assert status == code, errors
    assert "Traceback" not in errors
    return errors


def converse(client: Program, server: Program) -> None:
    """Both directions, twice: what a locked or wrongly sourced exchange does not survive."""
    for question, answer in ((b"hello\n", b"world\n"), (b"hi\n", b"still here\n")):
        client.output.clear()
        server.output.clear()
        client.type(question)
        prints(server, question)
        server.type(answer)
        prints(client, answer)
