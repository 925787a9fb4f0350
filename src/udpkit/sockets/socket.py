"""The socket for programs that wait: blocking, with a timeout, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING

from udpkit._native import Datagram
from udpkit.facts import Address
from udpkit.sockets.common import Common, Data
from udpkit.sockets.errors import too_late
from udpkit.sockets.opening import Options, Peer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Socket(Common):
    """A UDP socket over IPv4, IPv6 or both, blocking or not, and a context manager.

    >>> with Socket("0.0.0.0", 5300) as server:  # doctest: +SKIP
    ...     while True:
    ...         request = server.recv()
    ...         server.reply(request, request.data)
    """

    def __init__(
        self,
        address: str | Address = "",
        port: int = 0,
        *,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Bind to a local address and port; with `peer`, connect.

        timeout: seconds that a call may wait; None waits for ever, 0 not at all.
        """
        self.timeout = timeout
        super().__init__(address, port, **options)

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may wait; None waits for ever, 0 not at all (socket.settimeout())."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        if seconds is not None and not 0 <= seconds < inf:
            raise ValueError(f"timeout {seconds} is not a number of seconds")
        self._timeout = None if seconds is None else float(seconds)

    def recv(self) -> Datagram:
        """Wait for a datagram.

        Raises TimeoutError, or BlockingIOError with a timeout of 0. On a connected socket Refused and its kin
        when an earlier datagram met an error. TruncatedControl if the kernel cut the control messages.
        """
        datagram = self._channel.recv(self._socket, self._timeout)
        if datagram is None:
            raise too_late(self._timeout)
        return datagram

    def recv_many(self, maximum: int | None = None) -> list[Datagram]:
        """Wait for datagrams, and take those that are there: at most `maximum`, a batch by default.

        Empty when none came in time, or an error report came instead: see `errors`. Raises no NetworkError.
        """
        timeout = 0 if self._is_news() else self._timeout
        datagrams = self._channel.recv_many(self._socket, self._wanted(maximum), timeout, False)
        if not datagrams:
            self._heard = self._channel.reported
        return datagrams

    def reply(self, request: Datagram, data: Data) -> bool:
        """Answer from the address that was asked. Returns whether the kernel took the answer.

        If not, `errors` says why: a peer cannot make this raise. If the host has lost the address that was
        asked, the answer leaves from the one that the route prefers; `stale_sources` counts it and `errors`
        has it. Raises TimeoutError or BlockingIOError if the send buffer stays full.
        """
        taken = self._channel.reply(self._socket, request, data, self._timeout)
        if taken is None:
            raise too_late(self._timeout)
        return taken

    def reply_many(self, answers: Iterable[tuple[Datagram, Data]]) -> int:
        """Answer many: pairs of a request and data, in their order. Returns how many are done with.

        Done with is an answer that the kernel took, or that `errors` reports. All are, unless the send buffer
        stayed full until the timeout.
        """
        return self._channel.reply_many(self._socket, answers, self._timeout)

    def send(self, data: Data, peer: Peer | None = None) -> None:
        """Send a datagram to a peer, whose address is numeric; on a connected socket to its own.

        Raises Refused, Prohibited or NetworkError if it cannot be sent (`report.mtu` if it is too big), and
        on a connected socket, before anything is sent, if an earlier datagram met an error. TimeoutError or
        BlockingIOError if the send buffer stays full.
        """
        if not self._channel.send(self._socket, data, peer, self._timeout):
            raise too_late(self._timeout)

    def send_many(self, datagrams: Iterable[tuple[Data, Peer | None]]) -> int:
        """Send many: pairs of data and a peer, in their order. Returns what `reply_many` does."""
        return self._channel.send_many(self._socket, datagrams, self._timeout)

    def close(self) -> None:
        """Close it; every later call fails with EBADF."""
        self._socket.close()

    def __enter__(self) -> Socket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
