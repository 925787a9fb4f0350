"""Opening sockets: addresses to bind and connect to, and the options that make the kernel tell more.

The names are those of linux/in.h, linux/in6.h, linux/udp.h and asm-generic/socket.h; Python has only some.
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv6Address, ip_address

from udpkit.facts import Endpoint

Peer = Endpoint | tuple[str, int] | tuple[str, int, int, int]
"""Who a datagram is for: an Endpoint, `(host, port)`, or `(host, port, flowinfo, scope_id)` for IPv6."""

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


def open_socket(
    address: str,
    port: int,
    *,
    peer: Peer | None,
    v6only: bool,
    reuse_port: bool,
    broadcast: bool,
    interface: str | None,
    timestamps: bool,
    gro: bool,
    dont_fragment: bool,
    receive_buffer: int | None,
    send_buffer: int | None,
    report_errors: bool,
) -> socket.socket:
    """A socket, bound and, where there is a peer, connected; what the arguments mean: `Socket`."""
    remote = resolve(*(peer if isinstance(peer, tuple) else (str(peer.address), peer.port))) if peer else None
    if address or remote:
        family, local = resolve(address or None, port, family=remote[0] if remote else 0)
    else:
        family, local = every_address(port)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        tell(sock, header=True, errors=report_errors)
        switches = [
            (reuse_port, socket.SOL_SOCKET, socket.SO_REUSEPORT, 1),
            (broadcast, socket.SOL_SOCKET, socket.SO_BROADCAST, 1),
            (timestamps, socket.SOL_SOCKET, SO_TIMESTAMPNS, 1),
            (gro, socket.IPPROTO_UDP, UDP_GRO, 1),
            (dont_fragment, socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO),
            (
                dont_fragment and family == socket.AF_INET6,
                socket.IPPROTO_IPV6,
                IPV6_MTU_DISCOVER,
                PMTUDISC_DO,
            ),
        ]
        for wanted, level, option, value in switches:
            if wanted:
                sock.setsockopt(level, option, value)
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        if receive_buffer is not None:
            set_buffer(sock, SO_RCVBUFFORCE, socket.SO_RCVBUF, receive_buffer)
        if send_buffer is not None:
            set_buffer(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF, send_buffer)
        sock.bind(local)
        if remote:
            sock.connect(remote[1])
    except BaseException:
        sock.close()
        raise
    return sock


def resolve(
    host: str | None, port: int, *rest: int, family: int = 0
) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    """The first address of a name, or an address as it is. Raises socket.gaierror, OverflowError."""
    if not 0 <= port <= 65535:
        raise OverflowError(f"port {port} is not from 0 to 65535")
    found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM, 0, socket.AI_PASSIVE)
    family, _, _, _, sockaddr = found[0]
    if family == socket.AF_INET6 and rest:
        return family, (sockaddr[0], port, *rest)  # type: ignore[return-value]
    return family, sockaddr  # type: ignore[return-value]


def every_address(port: int) -> tuple[int, tuple[str, int]]:
    """Every address of IPv6 and IPv4; of IPv4 alone where the kernel has no IPv6."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
        return resolve("0.0.0.0", port)  # type: ignore[return-value] # noqa: S104 - what was asked for
    return resolve("::", port)  # type: ignore[return-value]


def endpoint(sockaddr: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
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
