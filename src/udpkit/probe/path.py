"""The way to one address, asked through one socket: any TTL, any size, the same five-tuple.

What comes back is taken one answer at a time. Errors about other datagrams of this host never count.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from dataclasses import dataclass
from random import Random

from udpkit.facts import Endpoint
from udpkit.probe.result import TOO_BIG, State, same_host, state_of
from udpkit.probe.sweep import CANARIES
from udpkit.probe.wire import Settings, Wire
from udpkit.sockets import Datagram, ErrorReport

SHORTEST_WAIT = 0.1
"""Seconds that an answer gets at least before the next try, unless that is more than the timeout."""
TOKEN_TIME = 1.4
"""Seconds over which one size is asked: Linux refuses once a second (net.ipv4.icmp_ratelimit)."""
AFTERMATH = 1.5
"""An answer took so long: in so many times that, those to the other tries are there, too."""
TIME_EXCEEDED = {(4, 11, 0), (6, 3, 0)}
PMTUDISC_PROBE = 3
"""IP_PMTUDISC_PROBE, IPV6_PMTUDISC_PROBE: never fragment, and do not look at the path MTU that is known."""


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between IPv4 and IPv6: ip(7), ipv6(7), linux/in6.h."""

    number: socket.AddressFamily
    level: int
    hops: int
    """The option for the TTL."""
    discover: int
    """The option for path MTU discovery; the module `socket` does not have it in every Python."""
    overhead: int
    """Bytes of the IP and UDP headers."""
    least: int
    """Bytes that every link takes: RFC 791, RFC 8200 5."""
    ordinary: int
    """Bytes that every host takes: RFC 1122 3.3.2, RFC 8200 5."""


FAMILIES = {
    4: Family(socket.AF_INET, socket.IPPROTO_IP, socket.IP_TTL, 10, 28, 68, 576),
    6: Family(socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 23, 48, 1280, 1280),
}


class Path:
    """Raises OSError if there can be no such socket: a source that is not this host's, no such interface."""

    def __init__(self, target: Endpoint, settings: Settings, random: Random) -> None:
        self.target = target
        self.family = FAMILIES[target.address.version]
        self.payload = settings.payload(target.port)
        self.canary: int | None = None
        """A port that the host itself is known to refuse."""
        self.belated: list[ErrorReport] = []
        """About the target, while another port was asked."""
        self._called = str(target.address)
        self._settings = settings
        self._random = random
        self._sought = False  # whether there was a search for a canary
        self._slowest: float | None = None
        self._events: deque[Datagram | ErrorReport] = deque()
        self._free_at = 0.0  # as --rate has it
        self._quiet_at = 0.0  # when the answers to earlier datagrams are all there
        self._wire = Wire(self.family.number, settings)
        self._socket = self._wire.socket
        self._default_hops = self._socket.getsockopt(self.family.level, self.family.hops)

    def close(self) -> None:
        self._socket.close()

    def limit_hops(self, number: int | None) -> None:
        """The TTL of what is sent from now on; None: this host's default."""
        self._socket.setsockopt(self.family.level, self.family.hops, number or self._default_hops)

    def never_fragment(self) -> None:
        self._socket.setsockopt(self.family.level, self.family.discover, PMTUDISC_PROBE)

    # One datagram, one answer.

    def send(self, data: bytes, port: int) -> float:
        """Returns when."""
        if self._settings.rate:
            time.sleep(max(0.0, self._free_at - time.monotonic()))
            self._free_at = time.monotonic() + 1 / self._settings.rate
        at = time.monotonic()
        self._wire.send([(data, (self._called, port))])
        return at

    def next(self, port: int, deadline: float) -> Datagram | ErrorReport | None:
        """The next reply, or error about a datagram to this port; None if there is none until then."""
        while not self._events:
            self._take(port)
            left = deadline - time.monotonic()
            if not self._events:
                if left <= 0:
                    return None
                select.select([self._socket], [], [], left)
        return self._events.popleft()

    def _take(self, port: int) -> None:
        self._events += self._socket.recv_many()
        for report in self._socket.errors():
            if self._is_about(report, port):
                self._events.append(report)
            elif self._is_about(report, self.target.port):
                self.belated.append(report)

    def _is_about(self, report: ErrorReport, port: int) -> bool:
        peer = report.peer
        return peer is not None and peer.port == port and same_host(peer.address, self.target.address)

    # How long to wait.

    @property
    def wait(self) -> float:
        """Seconds that an answer gets before the next try."""
        timeout = self._settings.timeout
        return min(timeout, timeout / 2 if self._slowest is None else max(SHORTEST_WAIT, 4 * self._slowest))

    def took(self, seconds: float) -> None:
        """An answer took that long."""
        self._slowest = max(self._slowest or 0.0, seconds)

    def expect_more(self, seconds: float) -> None:
        """For so long answers to what was asked may come: they are not those to what is asked next."""
        self._quiet_at = time.monotonic() + seconds

    # Sizes and ports.

    def ask(self, port: int, size: int, *, exceeds: bool = False) -> Datagram | ErrorReport | None:
        """What comes back for a packet of so many bytes, IP header included; None if nothing does.

        exceeds: whether time exceeded is an answer, not one that is late.
        """
        length = size - self.family.overhead
        data = self.payload.data[:length].ljust(length, b"\0")
        tries = max(2, self._settings.retries + 1)
        wait = max(self.wait, TOKEN_TIME / tries)
        while self.next(port, self._quiet_at):
            pass  # what came late
        first = time.monotonic()
        for turn in range(1, tries + 1):
            deadline = self.send(data, port) + wait
            while event := self.next(port, deadline):
                if is_exceeded(event) and not exceeds:
                    continue
                if turn > 1 and isinstance(event, Datagram):  # a refusal was only short of tokens
                    self.expect_more(AFTERMATH * (time.monotonic() - first))
                return event
        return None

    def seek_canary(self) -> int | None:
        """A port that the host itself refuses: one that is probably closed, if it is. Looks once."""
        if self.canary is None and not self._sought:
            self._sought = True
            port = self._random.choice([one for one in CANARIES if one != self.target.port])
            answer = self.ask(port, self.family.overhead + len(self.payload.data[:8]))
            if isinstance(answer, ErrorReport) and state_of(answer) is State.CLOSED:
                self.canary = port
        return self.canary


def kind_of(report: ErrorReport) -> tuple[int, int | None, int | None]:
    """(IP version, type, code)."""
    return (6 if report.origin == "icmp6" else 4, report.type, report.code)


def is_exceeded(answer: Datagram | ErrorReport) -> bool:
    """Whether the TTL was used up on the way."""
    return isinstance(answer, ErrorReport) and kind_of(answer) in TIME_EXCEEDED


def smaller_size(report: ErrorReport) -> int | None:
    """The size that this host or a router says would do, 0 if it names none; None if it is another error."""
    local = report.origin == "local" and report.kind == "too big"
    return (report.mtu or 0) if local or kind_of(report) in TOO_BIG else None
