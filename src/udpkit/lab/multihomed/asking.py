"""Sockets on the client's host: requests, and what comes back, heard or not."""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from udpkit.facts import Endpoint
from udpkit.lab.host import Host
from udpkit.lab.waiting import Watched

IP_RECVERR = 11  # linux/in.h
IPV6_RECVERR = 25  # linux/in6.h
SO_RCVBUF = 1 << 20
UDP_HEADER = struct.Struct("!HHHH")
MOST_ANSWERS = 8
"""Of one request, that are kept."""
MOST_ARRIVED = 200
"""Datagrams that are kept of those that belong to no request."""
MOST_AT_ONCE = 1000
"""Datagrams that are read between two looks at the clock: a server may send without end."""


@dataclass(slots=True)
class Request:
    """A datagram to the server, and what became of it."""

    sock: socket.socket
    asked: Endpoint
    connected: bool
    port: int
    sent: float
    answers: list[tuple[Endpoint, bytes, float]] = field(default_factory=list)
    heard: bool = False
    refused: bool = False

    def is_over(self, *, any_port: bool) -> bool:
        """Nothing more is to be waited for."""
        if not self.answers:
            return self.refused
        source = self.answers[0][0]
        same = source.address == self.asked.address if any_port else source == self.asked
        return self.heard or not same or (self.connected and source != self.asked)

    def read(self) -> None:
        try:
            while True:
                self.sock.recv(65535)
                self.heard = True
        except BlockingIOError:
            return
        except OSError as error:
            self.refused |= error.errno == errno.ECONNREFUSED
            with suppress(OSError):  # while it has errors queued, the socket counts as readable
                while True:
                    self.sock.recvmsg(0, 0, socket.MSG_ERRQUEUE)


class Listener:
    """Everything over UDP that arrives at a host, whoever hears it there: raw(7) sockets see copies."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._raw = [host.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP) for family in (2, 10)]
        for raw in self._raw:
            raw.setblocking(False)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SO_RCVBUF)
        self._open: dict[int, Request] = {}
        self.arrived: list[tuple[Endpoint, int, bytes]] = []
        """Source, port here, payload: of what belongs to no open request."""

    def ask(self, asked: Endpoint, data: bytes, *, connected: bool, scope: int) -> Request:
        """Send a request from a socket of its own. Raises OSError."""
        address = asked.address
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        peer: tuple[str, int] | tuple[str, int, int, int] = (str(address), asked.port)
        if address.version == 6:
            peer = (str(address), asked.port, 0, scope if address.is_link_local else 0)
        sock = self._host.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            # So that a socket that is not connected hears of refusals as well.
            level, option = (
                (socket.IPPROTO_IPV6, IPV6_RECVERR)
                if address.version == 6
                else (socket.IPPROTO_IP, IP_RECVERR)
            )
            sock.setsockopt(level, option, 1)
            if connected:
                sock.connect(peer)
            else:
                sock.bind(("", 0))
            sock.send(data) if connected else sock.sendto(data, peer)
            request = Request(sock, asked, connected, sock.getsockname()[1], time.monotonic())
        except BaseException:
            sock.close()
            raise
        self._open[request.port] = request
        return request

    def forget(self, request: Request) -> None:
        """Close its socket."""
        request.sock.close()
        self._open.pop(request.port, None)

    def wait(self, until: Callable[[], bool], seconds: float, watched: Sequence[Watched] = ()) -> bool:
        """Take in what arrives for all open requests until `until()` is true; whether it is, in that time."""
        deadline = time.monotonic() + seconds
        while True:
            for one in watched:
                one.drain()
            for raw in self._raw:
                self._drain(raw)
            for request in self._open.values():
                request.read()
            left = deadline - time.monotonic()
            if until() or left <= 0:
                return until()
            poll = select.poll()
            for descriptor in [
                *(raw.fileno() for raw in self._raw),
                *(request.sock.fileno() for request in self._open.values()),
                *(descriptor for one in watched for descriptor in one.descriptors()),
            ]:
                poll.register(descriptor, select.POLLIN)
            poll.poll(max(1, 1000 * left))

    def _drain(self, raw: socket.socket) -> None:
        with suppress(BlockingIOError):
            for _ in range(MOST_AT_ONCE):
                data, address = raw.recvfrom(1 << 16)
                arrived = datagram(data, address[0])
                if arrived is None:
                    continue
                source, port, payload = arrived
                request = self._open.get(port)
                if request is None and len(self.arrived) < MOST_ARRIVED:
                    self.arrived.append(arrived)
                elif request is not None and len(request.answers) < MOST_ANSWERS:
                    request.answers.append((source, payload, time.monotonic()))

    def close(self) -> None:
        for request in list(self._open.values()):
            self.forget(request)
        for raw in self._raw:
            raw.close()


def datagram(data: bytes, sender: str) -> tuple[Endpoint, int, bytes] | None:
    """What a raw socket received: source, destination port, payload; None if it is too short.

    IPv4 comes with its header, IPv6 without (raw(7), RFC 3542, section 3).
    """
    six = ":" in sender
    if not six:
        if not data:
            return None
        data = data[(data[0] & 15) * 4 :]
    if len(data) < UDP_HEADER.size:
        return None
    source, destination, _, _ = UDP_HEADER.unpack_from(data)
    address = IPv6Address(sender.partition("%")[0]) if six else IPv4Address(sender)
    return Endpoint(address, source), destination, data[UDP_HEADER.size :]
