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
from typing import TYPE_CHECKING, overload

from udpkit._native import Channel, QueuedError
from udpkit.facts import Address, Endpoint
from udpkit.sockets.errors import ErrorReport, error_report
from udpkit.sockets.opening import LARGEST, Options, drops, endpoint, is_connected, open_socket

if TYPE_CHECKING:
    from typing_extensions import Unpack

Data = bytes | bytearray | memoryview
"""A payload: up to 65,507 bytes in IPv4, 65,527 in IPv6 (RFC 768)."""


class Common:
    """What `Socket` and `AsyncSocket` have in common: all that does not wait."""

    def __init__(self, address: str | Address = "", port: int = 0, **options: Unpack[Options]) -> None:
        """Bind to a local address and port; with the option `peer`, connect.

        address: an address or name of this host's. Empty: every address, of IPv6 and IPv4.
        port: 0 for any free one.

        Raises OSError as bind(2) and connect(2), socket.gaierror for an unknown name, ValueError and
        TypeError for wrong arguments.
        """
        self._socket = open_socket(address, port, options)
        try:
            self._batch = options.get("batch", 128)
            self._heard = 0
            peername = self._socket.getpeername() if options.get("peer") else None
            self._channel = Channel(
                ipv6=self._socket.family == socket.AF_INET6,
                port=self.port,
                connected_to=peername,
                raises=peername is not None,
                batch=self._batch,
                # Several datagrams that GRO has made one need the room of the largest.
                largest=LARGEST if options.get("gro") else options.get("largest", LARGEST),
                gso=options.get("gso", False),
            )
        except BaseException:
            self._socket.close()
            raise

    def _wanted(self, maximum: int | None) -> int:
        """How many datagrams to receive at once."""
        if maximum is None:
            return self._batch
        if maximum < 0:
            raise ValueError(f"{maximum} datagrams are less than none")
        return maximum

    def errors(self) -> list[ErrorReport]:
        """What happened to datagrams since the last call, oldest first; does not wait.

        ICMP errors about datagrams that were sent, and reasons why some could not be. Of more than 1024 that
        nobody took, the newest are kept: `errors_lost`.
        """
        return [error_report(queued) for queued in self._queued_errors()]

    def _queued_errors(self) -> list[QueuedError]:
        """The same as the native module has them: for who takes very many and looks at most later."""
        queued = self._channel.reports(self._socket)
        self._heard = self._channel.reported
        return queued

    def _is_news(self) -> bool:
        """Whether there are reports that neither an empty recv_many() nor errors() has told of."""
        return self._channel.reported > self._heard

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
        """Datagrams that the kernel dropped here, mostly since the receive buffer was full (SO_RXQ_OVFL).

        With `gro` several that came as one count as one.
        """
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

    @overload
    def getsockopt(self, level: int, option: int) -> int: ...

    @overload
    def getsockopt(self, level: int, option: int, length: int) -> bytes: ...

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
