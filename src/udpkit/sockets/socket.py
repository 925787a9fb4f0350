"""A UDP socket over IPv4 that knows to which of its addresses each datagram was sent.

Theory of operation. IP_PKTINFO (ip(7)) makes the kernel hand over, beside each datagram, `ipi_addr`, the
destination in its header, and `ipi_spec_dst`, the local address that an answer should leave from; they differ
for broadcast and multicast, where `ipi_addr` cannot be a source. Given back with sendmsg(2), `ipi_spec_dst`
takes the place of the address that the route would prefer. The interface index goes back as 0: which way the
answer takes is the routing table's business.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import TracebackType

from udpkit.facts import Endpoint

IP_PKTINFO = 8  # linux/in.h; socket.IP_PKTINFO exists from Python 3.12 on
PKTINFO = struct.Struct("@i4s4s")
"""struct in_pktinfo: ipi_ifindex, ipi_spec_dst, ipi_addr."""

LARGEST_PAYLOAD = 65507
"""Bytes: 65535 less the IPv4 and UDP headers (RFC 768, RFC 791)."""

STALE_SOURCE = {errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH}
"""What sendmsg(2) says when the host no longer has the source address that it is asked to use."""


class TruncatedControl(OSError):
    """The kernel cut the control messages (MSG_CTRUNC): to which address the datagram came is unknown."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram as it was received.

    `local` is the endpoint that an answer should come from: the one that was asked or, for a broadcast or
    multicast datagram, this host's own address on that network.
    """

    data: bytes
    peer: Endpoint
    local: Endpoint


class Socket:
    """A bound UDP socket over IPv4; blocking, and a context manager.

    >>> with Socket("0.0.0.0", 56789) as server:  # doctest: +SKIP
    ...     while True:
    ...         request = server.recv()
    ...         server.reply(request, request.data)
    """

    def __init__(self, address: str = "0.0.0.0", port: int = 0) -> None:  # noqa: S104 - that is the point
        """Bind to a local address, all of them by default, and to a port, any free one by default.

        Raises OSError as bind(2) does, OverflowError for a port beyond 65535.
        """
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            self._socket.bind((address, port))
        except BaseException:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self.stale_sources = 0
        """Answers that left from the route's source, since the host had lost the address that was asked."""

    def recv(self) -> Datagram:
        """Wait for a datagram, of up to 65,507 bytes. Raises TruncatedControl, and OSError as recvmsg(2)."""
        data, control, flags, peer = self._socket.recvmsg(LARGEST_PAYLOAD, socket.CMSG_SPACE(PKTINFO.size))
        if flags & socket.MSG_CTRUNC:
            raise TruncatedControl(errno.EMSGSIZE, "the kernel cut the datagram's control messages")
        [(_, _, packet_info)] = control
        _, spec_dst, _ = PKTINFO.unpack(packet_info)
        return Datagram(
            data,
            peer=Endpoint(IPv4Address(peer[0]), peer[1]),
            local=Endpoint(IPv4Address(spec_dst), self.port),
        )

    def reply(self, request: Datagram, data: bytes) -> None:
        """Answer from the address that was asked. Raises OSError as sendmsg(2).

        If the host no longer has that address, the answer leaves from the one that the route prefers, and
        `stale_sources` counts it.
        """
        destination = (str(request.peer.address), request.peer.port)
        packet_info = PKTINFO.pack(0, request.local.address.packed, bytes(4))
        try:
            self._socket.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, packet_info)], 0, destination)
        except OSError as error:
            if error.errno not in STALE_SOURCE:
                raise
            self._socket.sendto(data, destination)
            self.stale_sources += 1

    def fileno(self) -> int:
        """The descriptor, for select and its kin."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Socket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
