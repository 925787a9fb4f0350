"""Names to addresses, services to ports."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv6Address

from udpkit.facts import Endpoint
from udpkit.netcat.plan import Plan, Trouble
from udpkit.sockets.opening import SocketAddress, endpoint

Found = tuple[int, SocketAddress]
"""Address family, and an address as Python's sockets have it."""

FAMILIES = {0: "", socket.AF_INET: "IPv4 ", socket.AF_INET6: "IPv6 "}


def port_number(text: str, *, udp: bool, numeric: bool) -> int:
    """A port by its number or, unless `numeric`, its name in services(5). Raises Trouble."""
    if text.isascii() and text.isdigit():
        if len(text) > 5 or not 1 <= int(text) <= 65535:
            raise Trouble(f"port {text} is not from 1 to 65535")
        return int(text)
    if not numeric:
        try:
            return socket.getservbyname(text, "udp" if udp else "tcp")
        except (OSError, UnicodeError, ValueError):  # ValueError: a NUL
            pass
    known = "a number" if numeric else f"a number nor a {'UDP' if udp else 'TCP'} service"
    raise Trouble(f"port {text} is {'not' if numeric else 'neither'} {known}")


def find(host: str, port: int, plan: Plan, family: int = 0) -> list[Found]:
    """Every address of a host, in the order of getaddrinfo(3). Raises Trouble."""
    family = family or plan.family
    kind = socket.SOCK_DGRAM if plan.udp else socket.SOCK_STREAM
    flags = socket.AI_NUMERICHOST if plan.numeric else 0
    try:
        found = socket.getaddrinfo(host, port, family, kind, 0, flags)
    except (socket.gaierror, UnicodeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a name"
        hint = "; -n takes addresses only" if plan.numeric else ""
        raise Trouble(f"{host}: no {FAMILIES[family]}address: {why}{hint}") from None
    addresses: list[Found] = [(family, sockaddr) for family, _, _, _, sockaddr in found]  # type: ignore[misc]
    if lacks_scope(addresses[0][1]):
        raise Trouble(f"{host} is link-local: add its interface, {host}%eth0")
    return addresses


def lacks_scope(sockaddr: SocketAddress) -> bool:
    """Whether it is a link-local address of no link: connect(2) and bind(2) say EINVAL (ipv6(7))."""
    return len(sockaddr) == 4 and not sockaddr[3] and IPv6Address(sockaddr[0]).is_link_local


def peer(found: Found) -> Endpoint:
    """As a datagram from there has it: the scope is a number, "any address" the loopback's (connect(2))."""
    family, sockaddr = found
    if sockaddr[0] in ("0.0.0.0", "::"):  # noqa: S104 - not bound to
        sockaddr = ("127.0.0.1" if family == socket.AF_INET else "::1", sockaddr[1])
    if len(sockaddr) == 4 and sockaddr[3]:
        return Endpoint(IPv6Address(f"{sockaddr[0].partition('%')[0]}%{sockaddr[3]}"), sockaddr[1])
    return endpoint(sockaddr)


def is_group(one: Endpoint) -> bool:
    """Whether many hear what is sent there: multicast, or broadcast."""
    if one.address.version == 6 or one.address.is_multicast:
        return one.address.is_multicast
    # EACCES without SO_BROADCAST is a broadcast address (connect(2)); with it, a `prohibit` route.
    return is_denied(one, broadcast=False) and not is_denied(one, broadcast=True)


def is_denied(one: Endpoint, *, broadcast: bool) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, broadcast)
        return sock.connect_ex((str(one.address), one.port)) == errno.EACCES
