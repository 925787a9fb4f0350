"""What is probed, how, and through which socket."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from udpkit._native import QueuedError
from udpkit.facts import Address
from udpkit.probe.payload import Payload
from udpkit.probe.result import Result, State
from udpkit.probe.sweep import NEVER, Port, Sweep
from udpkit.sockets import Socket

ROOM = 4096
"""Bytes of an answer that are looked at."""
BUFFER = 4 << 20
"""Bytes to ask for, so that a burst of ICMP errors has room; unprivileged it is net.core.rmem_max at most."""


@dataclass(frozen=True, slots=True)
class Target:
    """One address, what it was called, and the ports to probe."""

    name: str
    address: Address
    ports: Sequence[int]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to probe. `payload` says what to send to a port."""

    payload: Callable[[int], Payload]
    timeout: float = 1.0
    retries: int = 3
    rate: float | None = None
    """Probes a second at most, to all hosts together; None: as fast as they answer."""
    source: str = ""
    """Address to send from; empty: the route chooses."""
    source_port: int = 0
    interface: str | None = None


@dataclass(slots=True, eq=False)
class Host:
    """One target on one socket, and what is known of it."""

    target: Target
    called: str
    """Its address in numbers: that is what sockets take fastest."""
    sweep: Sweep
    wire: Wire
    results: dict[int, Result] = field(default_factory=dict)
    refusals: list[tuple[QueuedError, State, Port, float]] = field(default_factory=list)
    """What came back and when, and is not among the results yet."""
    doubtful: dict[int, tuple[Result, float]] = field(default_factory=dict)
    """By port: what came from elsewhere, perhaps from a stranger, and when the right answer is overdue."""
    payloads: dict[int, Payload] = field(default_factory=dict)
    scheduled: float = NEVER
    begun_at: float = NEVER
    concluded: bool = False


class Wire:
    """A socket, and the hosts that are probed from it."""

    def __init__(self, family: socket.AddressFamily, settings: Settings) -> None:
        anything = "0.0.0.0" if family == socket.AF_INET else "::"  # noqa: S104 - a client's socket
        self.socket = Socket(
            settings.source or anything,
            settings.source_port,
            timeout=0,
            interface=settings.interface,
            receive_buffer=BUFFER,
            largest=ROOM,
        )
        self.hosts: dict[Address, Host] = {}
        self.strays = 0
        """Datagrams that no port can be told to have answered with."""
        self.strange = 0
        """Datagrams from where none was asked."""

    def send(self, probes: Sequence[tuple[bytes, tuple[str, int]]]) -> None:
        """Send all, in this order; wait while the send buffer is full."""
        done = self.socket.send_many(probes)
        while done < len(probes):
            select.select([], [self.socket], [])
            done += self.socket.send_many(probes[done:])
