"""A UDP socket that knows to which of its addresses each datagram was sent, and hears what became of its own.

Theory of operation. IP_PKTINFO (ip(7)) makes the kernel hand over, beside each datagram, `ipi_addr`, the
destination in its header, and `ipi_spec_dst`, the local address that an answer should leave from; they differ
for broadcast and multicast, where `ipi_addr` cannot be a source. Given back with sendmsg(2), `ipi_spec_dst`
takes the place of the address that the route would prefer. The interface index goes back as 0, except for a
link-local source: which way the answer takes is the routing table's business. IPV6_PKTINFO (RFC 3542, 6) has
one address for both; where that is a multicast group, the route chooses the source.

Errors. With IP_RECVERR an ICMP error waits in the socket's error queue and is pending in SO_ERROR as well:
the next call on the socket fails with it, although it is about an earlier datagram. Every call here reads
both when that happens, keeps the report for `errors()`, and goes on; only the single calls of a connected
socket raise it.
"""

from __future__ import annotations

import socket

from udpkit._native import Channel
from udpkit.facts import Endpoint
from udpkit.sockets.errors import ErrorReport, error_report
from udpkit.sockets.opening import Peer, drops, endpoint, is_connected, open_socket

Data = bytes | bytearray | memoryview
"""A payload: up to 65,507 bytes in IPv4, 65,527 in IPv6 (RFC 768)."""


class Common:
    """What `Socket` and `AsyncSocket` have in common: all that does not wait."""

    def __init__(
        self,
        address: str = "",
        port: int = 0,
        *,
        peer: Peer | None = None,
        v6only: bool = False,
        reuse_port: bool = False,
        broadcast: bool = False,
        interface: str | None = None,
        timestamps: bool = False,
        gso: bool = False,
        gro: bool = False,
        dont_fragment: bool = False,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
        largest: int = 65_535,
        batch: int = 64,
        report_errors: bool = True,
    ) -> None:
        """Bind to a local address and port; with `peer`, connect.

        address: an address or name of this host's. Empty: every address, of IPv6 and IPv4.
        port: 0 for any free one.
        peer: talk to this endpoint only; the kernel keeps everybody else's datagrams away.
        v6only: an IPv6 socket takes no IPv4 (IPV6_V6ONLY).
        reuse_port: several sockets share the port, and the datagrams among them (SO_REUSEPORT).
        broadcast: may send to broadcast addresses (SO_BROADCAST).
        interface: only through this interface or VRF (SO_BINDTODEVICE).
        timestamps: datagrams know when the kernel received them (SO_TIMESTAMPNS).
        gso: `send_many` and `reply_many` hand datagrams of one size for one peer over as one (UDP_SEGMENT).
        gro: take such datagrams over as one, and split them (UDP_GRO).
        dont_fragment: too big a datagram is an error with the path's MTU, not fragments (IP_PMTUDISC_DO).
        receive_buffer, send_buffer: bytes to ask the kernel for; what it gave is in the attributes.
        largest: bytes of payload to make room for; what is longer arrives `truncated`.
        batch: datagrams to take over at once, 1 to 1024.
        report_errors: hear of ICMP errors (IP_RECVERR, IPV6_RECVERR); see `errors`.

        Raises OSError as bind(2) and connect(2), socket.gaierror for a name, OverflowError for a port beyond
        65535, ValueError for another argument out of range.
        """
        self._socket = open_socket(
            address,
            port,
            peer=peer,
            v6only=v6only,
            reuse_port=reuse_port,
            broadcast=broadcast,
            interface=interface,
            timestamps=timestamps,
            gro=gro,
            dont_fragment=dont_fragment,
            receive_buffer=receive_buffer,
            send_buffer=send_buffer,
            report_errors=report_errors,
        )
        try:
            self._batch = batch
            self._channel = Channel(
                ipv6=self._socket.family == socket.AF_INET6,
                port=self.port,
                connected=peer is not None,
                batch=batch,
                largest=largest,
                gso=gso,
            )
        except BaseException:
            self._socket.close()
            raise

    def errors(self) -> list[ErrorReport]:
        """What happened to datagrams since the last call, oldest first; does not wait.

        ICMP errors about datagrams that were sent, and reasons why some could not be. Of more than 1024 that
        nobody took, the newest are kept: `errors_lost`.
        """
        return [error_report(queued) for queued in self._channel.reports(self._socket.fileno())]

    @property
    def errors_lost(self) -> int:
        """Reports that were thrown away because nobody took them."""
        return self._channel.errors_lost

    @property
    def stale_sources(self) -> int:
        """Answers that left from the route's source, since the host had lost the address that was asked."""
        return self._channel.stale_sources

    @property
    def dropped(self) -> int:
        """Datagrams that the kernel dropped here, mostly since the receive buffer was full (SO_RXQ_OVFL)."""
        return drops(self._socket)

    @property
    def local(self) -> Endpoint:
        """The endpoint that it is bound to."""
        return endpoint(self._socket.getsockname())

    @property
    def port(self) -> int:
        """The local port."""
        return int(self._socket.getsockname()[1])

    @property
    def peer(self) -> Endpoint | None:
        """The endpoint that it is connected to."""
        return endpoint(self._socket.getpeername()) if is_connected(self._socket) else None

    @property
    def receive_buffer(self) -> int:
        """Bytes that the kernel gave, its own bookkeeping included: it doubles what was asked (socket(7))."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    @property
    def send_buffer(self) -> int:
        """The same for sending."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)

    def getsockopt(self, level: int, option: int, length: int = 0) -> int | bytes:
        """As socket.getsockopt()."""
        return (
            self._socket.getsockopt(level, option, length)
            if length
            else self._socket.getsockopt(level, option)
        )

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """As socket.setsockopt(): to join a group, or for options that have no argument here."""
        self._socket.setsockopt(level, option, value)

    def fileno(self) -> int:
        """The descriptor, for select and its kin; -1 once closed. An error report makes it readable, too."""
        return self._socket.fileno()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self.fileno() < 0 else self.local}>"
