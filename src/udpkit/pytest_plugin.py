"""Fixtures for pytest: real Linux hosts, and servers tested on one with several addresses.

pytest loads this module in every project where udpkit is installed, so it imports nothing of ours before a
fixture is used.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from udpkit.lab import Lab
    from udpkit.lab.multihomed import Kind, Matrix, Port, Trial

SKIP = "udpkit_skip"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        SKIP, "skip tests that need udpkit's lab where this machine lets nobody make hosts", "bool", False
    )


@pytest.fixture
def udp_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A `udpkit.lab.Lab`: real Linux hosts in network namespaces, gone after the test.

    Where this machine does not let us make any, the test fails, or is skipped with `udpkit_skip = true` in
    pytest's configuration.
    """
    from udpkit.lab import Lab, LabUnavailable

    try:
        lab = Lab()
    except LabUnavailable as reason:
        if request.config.getini(SKIP):
            pytest.skip(f"udpkit's lab: {reason}")
        raise
    with lab:
        yield lab


class MultihomedServer:
    """How a server fared that was asked at each address of its host. `str()` is the table."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix

    def check(self) -> None:
        """Fails, with the table, unless it answered from the address that was asked, wherever it listens."""
        __tracebackhide__ = True
        from udpkit.report.multihomed import summary

        if not self.matrix.is_right:
            raise AssertionError(f"{summary(self.matrix)}\n{self}")

    @property
    def port(self) -> Port:
        """The only port that was asked. Raises ValueError if there were several."""
        [port] = self.matrix.ports
        return port

    def one(self, address: str, client: Kind = "unconnected") -> Trial:
        """The request to this address: its `outcome`, `actual`, `answer` and so on. Raises KeyError."""
        return self.port.one(address, client)

    def __str__(self) -> str:
        from click import unstyle

        from udpkit.lab.multihomed import remedies
        from udpkit.report.multihomed import lines

        return unstyle("\n".join(lines(self.matrix, remedies(self.matrix))))


@pytest.fixture
def multihomed_server(udp_lab: Lab) -> Callable[..., MultihomedServer]:
    """Starts a server on a lab host with several addresses, asks it at each, ends it; once for each test.

    `multihomed_server(command, protocol=None, payload=None, client=None, port=None, typed=None, timeout=1.0,
    strace=False)`; `command` and `client` are a line or a list of words, the rest is as in `udpkit test`.
    Call `check()` on what it returns.
    """

    def test(
        command: str | Sequence[str | Path],
        *,
        protocol: str | None = None,
        payload: bytes | str | None = None,
        client: str | Sequence[str] | None = None,
        port: int | None = None,
        typed: str | None = None,
        timeout: float = 1.0,
        strace: bool = False,
    ) -> MultihomedServer:
        from udpkit.lab.multihomed import Plan, build, on_stage
        from udpkit.probe.payload import Payload, payload_for, payload_of, payload_of_bytes
        from udpkit.probe.protocols import PROTOCOLS

        fixed: Payload | None = None
        if payload is not None:
            fixed = payload_of_bytes(payload.encode() if isinstance(payload, str) else payload)
        elif protocol is not None:
            name, colon, argument = protocol.partition(":")
            fixed = payload_of(PROTOCOLS[name], argument if colon else None)
        plan = Plan(
            command=_words(command),
            ports=[port] if port else [],
            payload=payload_for if fixed is None else lambda _: fixed,
            client=_words(client or ()),
            typed=f"{typed}\n".encode() if typed is not None else b"",
            timeout=timeout,
            trace=strace,
        )
        return MultihomedServer(on_stage(build(udp_lab), plan))

    return test


def _words(command: str | Sequence[str | Path]) -> list[str]:
    return shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
