"""Opening sockets: addresses to bind and connect to, and the options that make the kernel tell more.

The names are those of linux/in.h, linux/in6.h, linux/udp.h and asm-generic/socket.h; Python has only some.
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypedDict

from udpkit.facts import Address, Endpoint

Peer = Endpoint | tuple[str, int] | tuple[str, int, int, int]
"""Who a datagram is for: an Endpoint, `(host, port)`, or `(host, port, flowinfo, scope_id)` for IPv6."""

LARGEST = 65_535
"""Bytes: no datagram's payload is longer (RFC 768)."""


class Options(TypedDict, total=False):
    """How to open a socket. All may be left out; what is not said otherwise is off then."""

    peer: Peer | None
    """Connect: talk to this endpoint only, and hear nobody else."""
    v6only: bool
    """An IPv6 socket takes no IPv4 (IPV6_V6ONLY)."""
    reuse_port: bool
    """Several sockets share the port, and the datagrams among them (SO_REUSEPORT)."""
    broadcast: bool
    """May send to broadcast addresses (SO_BROADCAST)."""
    interface: str | None
    """Only through this interface or VRF (SO_BINDTODEVICE)."""
    timestamps: bool
    """Datagrams know when the kernel received them (SO_TIMESTAMPNS)."""
    gso: bool
    """`send_many` and `reply_many` give datagrams of one size for one peer to the kernel as one."""
    gro: bool
    """Take such datagrams from the kernel as one, and split them (UDP_GRO). Some may be waiting here when the
    descriptor is not readable: with select, take until there is none."""
    dont_fragment: bool
    """Too big a datagram is an error with the path's MTU, not fragments (IP_PMTUDISC_DO)."""
    receive_buffer: int | None
    """Bytes to ask the kernel for; what it gave is an attribute. As root beyond net.core.rmem_max, too."""
    send_buffer: int | None
    """The same for sending."""
    largest: int
    """Bytes of payload to make room for, 65,535 by default or with `gro`. What is longer is `truncated`."""
    batch: int
    """Datagrams to take from the kernel at once, 1 to 1024; 128 by default."""
    report_errors: bool
    """Hear of ICMP errors (IP_RECVERR, IPV6_RECVERR): `errors`. On by default."""


IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2
UDP_GRO = 104
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SO_TIMESTAMPNS = 35
SO_MEMINFO, MEMINFO_DROPS = 55, 8

IP_PKTINFO, IP_RECVERR, IP_RECVTTL, IP_RECVTOS = 8, 11, 12, 13
IPV6_RECVERR, IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS = 25, 49, 51, 66

PACKET_INFO = ([IP_PKTINFO], [IPV6_RECVPKTINFO])
HEADER = ([IP_RECVTOS, IP_RECVTTL], [IPV6_RECVTCLASS, IPV6_RECVHOPLIMIT])
ERRORS = ([IP_RECVERR], [IPV6_RECVERR])
"""What a socket can be told, and the options of IPv4 and of IPv6 that ask for it."""


def tell(sock: socket.socket, *, header: bool = False, errors: bool = False) -> None:
    """Have the kernel say more of each datagram: to which address it came, what is in its header, its errors.

    An IPv6 socket that takes IPv4 as well needs both families' options: IPV6_RECVPKTINFO does not know the
    address to answer a broadcast from, and IPV6_RECVERR alone is silent about IPv4 peers.
    """
    ipv6 = sock.family == socket.AF_INET6
    ipv4 = not (ipv6 and sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    for wanted, (ipv4_options, ipv6_options) in ((True, PACKET_INFO), (header, HEADER), (errors, ERRORS)):
        if wanted and ipv4:
            for option in ipv4_options:
                sock.setsockopt(socket.IPPROTO_IP, option, 1)
        if wanted and ipv6:
            for option in ipv6_options:
                sock.setsockopt(socket.IPPROTO_IPV6, option, 1)


def open_socket(address: str | Address, port: int, options: Options) -> socket.socket:
    """A socket with these options, bound and, if there is a peer, connected."""
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"no such option: {', '.join(sorted(unknown))}")
    peer = options.get("peer")
    if isinstance(peer, Endpoint):
        peer = (str(peer.address), peer.port)
    if not (peer is None or (isinstance(peer, tuple) and len(peer) in (2, 4))):
        raise TypeError("a peer is (host, port) or an Endpoint")
    remote = resolve(*peer) if peer else None
    if address or remote:
        family, local = resolve(address or None, port, family=remote[0] if remote else 0)
    else:
        family, local = every_address(port)
    ipv6 = family == socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, options.get("v6only", False))
        tell(sock, header=True, errors=options.get("report_errors", True))
        for wanted, level, option, value in (
            (options.get("reuse_port"), socket.SOL_SOCKET, socket.SO_REUSEPORT, 1),
            (options.get("broadcast"), socket.SOL_SOCKET, socket.SO_BROADCAST, 1),
            (options.get("timestamps"), socket.SOL_SOCKET, SO_TIMESTAMPNS, 1),
            (options.get("gro"), socket.IPPROTO_UDP, UDP_GRO, 1),
            (options.get("dont_fragment"), socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO),
            (ipv6 and options.get("dont_fragment"), socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO),
        ):
            if wanted:
                sock.setsockopt(level, option, value)
        if interface := options.get("interface"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        for size, force, option in (
            (options.get("receive_buffer"), SO_RCVBUFFORCE, socket.SO_RCVBUF),
            (options.get("send_buffer"), SO_SNDBUFFORCE, socket.SO_SNDBUF),
        ):
            if size is not None:
                set_buffer(sock, force, option, size)
        for act, where in ((sock.bind, local), (sock.connect, remote and remote[1])):
            if where:
                try:
                    act(where)
                except OSError as error:
                    raise OSError(error.errno, f"{error.strerror}: {where[0]} port {where[1]}") from None
    except BaseException:
        sock.close()
        raise
    return sock


SocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""An address as Python's own sockets have it."""


def resolve(host: str | Address | None, port: int, *rest: int, family: int = 0) -> tuple[int, SocketAddress]:
    """The first address of a name, or an address as it is, with its family."""
    if not isinstance(host, str | IPv4Address | IPv6Address | None):
        raise TypeError(f"an address is a str such as '127.0.0.1', not {type(host).__name__}")
    if not isinstance(port, int):
        raise TypeError(f"a port is an int, not {type(port).__name__}")
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is not from 0 to 65535")
    name = None if host is None else str(host)
    try:
        found = socket.getaddrinfo(name, port, family, socket.SOCK_DGRAM, 0, socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise socket.gaierror(error.errno, f"{error.strerror}: {host}") from None
    family, _, _, _, sockaddr = found[0]
    if family == socket.AF_INET6 and rest:
        return family, (sockaddr[0], port, *rest)  # type: ignore[return-value]
    return family, sockaddr  # type: ignore[return-value]


def every_address(port: int) -> tuple[int, SocketAddress]:
    """Every address of IPv6 and IPv4; of IPv4 alone where the kernel has no IPv6."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
        return resolve("0.0.0.0", port)  # noqa: S104 - what was asked for
    return resolve("::", port)


def endpoint(sockaddr: SocketAddress) -> Endpoint:
    """What getsockname() says, as an Endpoint: IPv4 as IPv4, a link-local address with its scope."""
    host, port = sockaddr[:2]
    address = ip_address(host)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return Endpoint(address.ipv4_mapped, port)
        if len(sockaddr) == 4 and sockaddr[3] and not address.scope_id:
            return Endpoint(IPv6Address(f"{address}%{sockaddr[3]}"), port)
    return Endpoint(address, port)


def is_connected(sock: socket.socket) -> bool:
    """Whether it has a peer."""
    try:
        sock.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return False
    return True


def set_buffer(sock: socket.socket, force: int, option: int, size: int) -> None:
    """Ask for a buffer of `size` bytes; with CAP_NET_ADMIN beyond net.core.rmem_max and wmem_max, too."""
    if not isinstance(size, int):
        raise TypeError(f"a buffer's size is an int, not {type(size).__name__}")
    if not 0 <= size < 1 << 31:
        raise ValueError(f"a buffer has 0 to 2147483647 bytes, not {size}")
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, option, size)


def drops(sock: socket.socket) -> int:
    """Datagrams that the kernel has dropped since the socket was made: the count of SO_RXQ_OVFL.

    SO_MEMINFO tells it at any time, SO_RXQ_OVFL only beside the next datagram that arrives.
    """
    info = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * (MEMINFO_DROPS + 1))
    return int(struct.unpack("=9I", info)[MEMINFO_DROPS])
