"""A drop-in for asyncio's create_datagram_endpoint(): existing protocols, answers from the right address.

The transport takes datagrams from the kernel in batches and hands them to the protocol one by one. What the
protocol sends meanwhile leaves as a batch, too: at the end, or as soon as there are `TOGETHER` bytes of it or
the batch has taken longer than `AT_ONCE`, so that a slow protocol delays no answer.
"""

from __future__ import annotations

import asyncio
import select
import socket
import warnings
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any, TypeVar, cast

from udpkit._native import Channel
from udpkit.sockets.errors import TruncatedControl, network_error
from udpkit.sockets.opening import LARGEST, is_connected, tell
from udpkit.sockets.packet_info import PeerAddress
from udpkit.sockets.readiness import readable, writable

BATCH = 64
"""Datagrams taken at a time; then other callbacks of the loop run."""

TOGETHER = 64 * 1024
"""Bytes that are sent at once at most."""

AT_ONCE = 0.001
"""Seconds that an answer may wait for others."""

HIGH = 64 * 1024
"""Bytes in the buffer above which the protocol is paused, as in asyncio."""

UDP_HEADER = 8
"""What a datagram counts beyond its payload, so that empty ones count, too (as in asyncio from 3.13 on)."""

IP_FAMILIES = (socket.AF_INET, socket.AF_INET6)

ProtocolT = TypeVar("ProtocolT", bound=asyncio.DatagramProtocol)


class DatagramTransport(asyncio.DatagramTransport):
    """asyncio's datagram transport: made by `create_datagram_endpoint`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.DatagramProtocol,
        remote: Any,
    ) -> None:
        peername = sock.getpeername() if is_connected(sock) else None
        super().__init__(
            {"socket": TransportSocket(sock), "sockname": sock.getsockname(), "peername": peername}
        )
        self._loop = loop
        self._socket = sock
        self._protocol = protocol
        self._remote = remote
        ipv6 = sock.family == socket.AF_INET6
        self._channel = Channel(
            ipv6=ipv6, port=0, connected_to=peername, raises=False, batch=BATCH, largest=LARGEST, gso=False
        )
        self._connected = peername is not None
        # Where everything goes that names no address.
        self._default = self._channel.address_of(remote) if remote and not peername else None
        self._closing = False
        self._ended = False
        self._receiving = False
        self._since = 0.0
        self._readable = readable(sock)
        self._writable: select.epoll | None = None
        self._paused = False
        self._heard = 0
        self._unsent: list[tuple[bytes, Any]] = []
        self._size = 0
        self.set_write_buffer_limits()
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._listen)

    def _listen(self) -> None:
        if not self._closing:
            self._loop.add_reader(self._readable.fileno(), self._receive)

    def _receive(self) -> None:
        """The socket is readable: a batch of datagrams, or an error report."""
        try:
            received = self._channel.recv_from(self._socket, BATCH, 0, False)
        except TruncatedControl as error:
            self._complain(error, "A datagram is lost")
            return
        except OSError as error:
            self._fail(error, "Fatal read error on datagram transport")
            return
        self._receiving = True
        self._since = self._loop.time()
        try:
            for data, address in received:
                if self._closing:
                    break
                try:
                    self._protocol.datagram_received(data, address)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # as the loop does with what a callback raises
                    self._complain(error, "Exception in datagram_received()")
        finally:
            self._receiving = False
            self._flush()
        self._hear()

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send a datagram; to an address that datagram_received() gave, from the address that was asked.

        What the kernel has no room for is buffered; error_received() hears of what it refuses, and of names
        that nobody knows. Raises TypeError for what is no bytes-like object, ValueError for another address
        than the remote one.
        """
        if type(data) is not bytes:
            data = bytes(memoryview(data))
        if self._remote and addr not in (None, self._remote):
            raise ValueError(f"Invalid address: must be None or {self._remote}")
        if self._remote or self._connected:
            addr = self._default
        elif type(addr) is not PeerAddress:
            try:
                addr = self._address(addr)
            except OSError as error:  # an unknown name
                self._protocol.error_received(error)
                return
        if self._closing:
            return
        self._unsent.append((data, addr))
        self._size += len(data) + UDP_HEADER
        if self._writable:
            self._pause_if_full()
        elif not self._receiving or self._size >= TOGETHER or self._loop.time() - self._since >= AT_ONCE:
            self._flush()

    def _address(self, addr: Any) -> Any:
        try:
            return self._channel.address_of(addr)
        except ValueError:  # a name
            host, port = addr[:2]
            family = self._socket.family
            flags = socket.AI_V4MAPPED if family == socket.AF_INET6 else 0
            found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM, 0, flags)
            return self._channel.address_of(found[0][4])

    def _flush(self) -> None:
        """Send what is there; what the kernel has no room for waits until it has."""
        self._since = self._loop.time() if self._receiving else 0.0
        unsent = self._unsent
        if unsent and not self._ended:
            try:
                done = self._channel.send_many(self._socket, unsent, 0)
            except OSError as error:
                self._fail(error, "Fatal write error on datagram transport")
                return
            if done == len(unsent):
                unsent.clear()
                self._size = 0
            else:
                self._size -= sum(len(data) + UDP_HEADER for data, _ in unsent[:done])
                del unsent[:done]
            self._hear()
        if unsent and not self._writable:
            self._writable = writable(self._socket)
            self._loop.add_reader(self._writable.fileno(), self._flush)
        elif not unsent:
            self._stop_writing()
        self._pause_if_full()
        self._resume_if_empty()
        if self._closing and not unsent:
            self._end(None)

    def _hear(self) -> None:
        """Tell the protocol of errors that are new, as asyncio does at once."""
        if self._channel.reported == self._heard:
            return
        reports = self._channel.reports(self._socket)
        self._heard = self._channel.reported
        for queued in reports:
            if not self._closing:  # by what was told before
                self._call_protocol(self._protocol.error_received, network_error(queued))

    def get_write_buffer_size(self) -> int:
        """Bytes in the buffer, with 8 for each datagram's header."""
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Bytes below which the protocol is resumed, and above which it is paused."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As asyncio.WriteTransport.set_write_buffer_limits(), in bytes."""
        if high is None:
            high = HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        if self._size > self._high and not self._paused:
            self._paused = True
            self._call_protocol(self._protocol.pause_writing)

    def _resume_if_empty(self) -> None:
        if self._paused and self._size <= self._low:
            self._paused = False
            self._call_protocol(self._protocol.resume_writing)

    def _call_protocol(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._complain(error, f"protocol.{method.__name__}() failed")

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand datagrams to another protocol from now on."""
        self._protocol = protocol  # type: ignore[assignment]

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that datagrams are handed to."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing

    def close(self) -> None:
        """Receive no more, send what is buffered, then connection_lost(None)."""
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._readable.fileno())
        if not self._unsent:
            self._end(None)

    def abort(self) -> None:
        """Close at once; what is buffered is lost."""
        self._end(None)

    def _fail(self, error: BaseException, message: str) -> None:
        self._complain(error, message)
        self._end(error if isinstance(error, Exception) else None)

    def _complain(self, error: BaseException, message: str) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    def _end(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._closing = self._ended = True
        self._loop.remove_reader(self._readable.fileno())
        self._stop_writing()
        self._unsent.clear()
        self._size = 0
        self._loop.call_soon(self._lose, error)

    def _stop_writing(self) -> None:
        if self._writable:
            self._loop.remove_reader(self._writable.fileno())
            self._writable.close()
            self._writable = None

    def _lose(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._readable.close()
            self._socket.close()

    def __del__(self) -> None:
        if self._socket.fileno() >= 0:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=2)
            self._readable.close()
            self._socket.close()

    def __repr__(self) -> str:
        state = "closed" if self._ended else "closing" if self._closing else f"fd={self._socket.fileno()}"
        return f"<{type(self).__name__} {state}>"


async def create_datagram_endpoint(
    protocol_factory: Callable[[], ProtocolT],
    local_addr: tuple[str, int] | None = None,
    remote_addr: tuple[str, int] | None = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
) -> tuple[DatagramTransport, ProtocolT]:
    """As `loop.create_datagram_endpoint()` of asyncio, on the running loop; UDP over IPv4 and IPv6.

    `transport.sendto(data, addr)` with an `addr` that `datagram_received()` gave answers from the address
    that was asked. ICMP errors come to `error_received()` as Refused, Prohibited or NetworkError, whose
    `report` says about whom.
    """
    loop = asyncio.get_running_loop()
    made = sock is None
    if sock is not None:
        if sock.type != socket.SOCK_DGRAM or sock.family not in IP_FAMILIES:
            raise ValueError(f"A datagram socket was expected, got {sock!r}")
        modifiers = {
            "local_addr": local_addr,
            "remote_addr": remote_addr,
            "family": family,
            "proto": proto,
            "flags": flags,
            "reuse_port": reuse_port,
            "allow_broadcast": allow_broadcast,
        }
        if given := ", ".join(f"{name}={value}" for name, value in modifiers.items() if value):
            raise ValueError(
                f"socket modifier keyword arguments can not be used when sock is specified. ({given})"
            )
        tell(sock, errors=True)
        remote = None
    else:
        ends = await _resolve(loop, local_addr, remote_addr, family, proto, flags)
        sock, remote = _open_first(ends, proto, bool(reuse_port), bool(allow_broadcast))
    try:
        sock.setblocking(False)
        transport = DatagramTransport(loop, sock, protocol_factory(), remote)
    except BaseException:
        if made:
            sock.close()
        raise
    # As with asyncio, connection_made() has been called when this returns.
    started = loop.create_future()
    loop.call_soon(_done, started)
    try:
        await started
    except BaseException:
        transport.close()
        raise
    return transport, cast(ProtocolT, transport.get_protocol())


def _done(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.set_result(None)


async def _resolve(
    loop: asyncio.AbstractEventLoop,
    local_addr: tuple[str, int] | None,
    remote_addr: tuple[str, int] | None,
    family: int,
    proto: int,
    flags: int,
) -> list[tuple[int, Any, Any]]:
    """The combinations to try: family, local and remote address, in the order of getaddrinfo()."""
    if family not in (0, *IP_FAMILIES):
        raise ValueError("only AF_INET and AF_INET6 are supported")
    if not (local_addr or remote_addr or family):
        raise ValueError("unexpected address family")
    ends: list[dict[int, Any]] = []
    for addr in (local_addr, remote_addr):
        if addr is not None and not (isinstance(addr, tuple) and len(addr) == 2):
            raise TypeError("2-tuple is expected")
        found: dict[int, Any] = {}
        if addr is not None:
            for kind, _, _, _, sockaddr in await loop.getaddrinfo(
                *addr, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags
            ):
                found.setdefault(int(kind), sockaddr)
        ends.append(found)
    local, remote = ends
    usable = [
        (kind, local.get(kind), remote.get(kind))
        for kind in local or remote or {family: None}
        if (kind in local or not local_addr) and (kind in remote or not remote_addr)
    ]
    if not usable:
        raise ValueError("can not get address information")
    return usable


def _open_first(
    ends: list[tuple[int, Any, Any]], proto: int, reuse_port: bool, allow_broadcast: bool
) -> tuple[socket.socket, Any]:
    """A socket on the first addresses that work, and the remote one. Raises what the first attempt did."""
    failures = []
    for family, local, remote in ends:
        sock = socket.socket(family, socket.SOCK_DGRAM, proto)
        try:
            tell(
                sock, errors=True
            )  # first: of what arrives before, the kernel would not say where it came to
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if allow_broadcast:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if local:
                sock.bind(local)
            if remote and not allow_broadcast:  # connected, it would not hear the answers to a broadcast
                sock.connect(remote)
        except OSError as error:
            sock.close()
            failures.append(error)
        else:
            return sock, remote
    raise failures[0]
