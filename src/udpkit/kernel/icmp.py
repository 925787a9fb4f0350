"""ICMP and ICMPv6 errors: what they are called and what a socket is told.

A socket without IP_RECVERR hears of an error only while it is connected, and only of a *hard* one
(icmp_err_convert[] in net/ipv4/icmp.c, icmpv6_err_convert() in net/ipv6/icmp.c; udp_err() and udpv6_err()
take "too big" for hard as well).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IcmpKind:
    """One kind of error. `hard` errors reach a connected socket that did not ask for them.

    `errno` is None where the kernel tells no socket, not even with IP_RECVERR.
    """

    name: str
    errno: int | None
    hard: bool


PORT_UNREACHABLE = {(4, 3, 3), (6, 1, 4)}
"""(IP version, type, code): no socket took the datagram. The only way in which a host itself refuses."""

PROHIBITED = {(4, 3, 9), (4, 3, 10), (4, 3, 13), (4, 3, 14), (4, 3, 15), (6, 1, 1), (6, 1, 5), (6, 1, 6)}
"""A rule forbids it: a firewall's, or a route of the type `prohibit`."""

OF_ROUTES = {(4, 3, 13), (6, 1, 1)}
"""What a route of the type `prohibit` says; fib_props[] in net/ipv4/fib_semantics.c, ip6_pkt_prohibit()."""

OF_PRECEDENCE = {(4, 3, 14), (4, 3, 15)}
"""Only routers that go by precedence say so (RFC 1812 5.3.3): Linux itself does not."""

NO_ROUTE = {(4, 3, 0), (6, 1, 0)}

NO_NEIGHBOUR = {(4, 3, 1), (6, 1, 3)}

UNREACHABLE = {
    *((4, 3, code) for code in (0, 1, 2, 5, 6, 7, 8, 11, 12)),
    *((6, 1, code) for code in (0, 2, 3)),
}
"""There is no way to the host, or it does not answer on its link."""

TIME_EXCEEDED = {(4, 11, 0), (6, 3, 0)}
"""It passed more routers than it may: a loop, or traceroute(8)."""

REASSEMBLY_EXCEEDED = {(4, 11, 1), (6, 3, 1)}
TOO_BIG = {(4, 3, 4), (6, 2, 0)}

KINDS = {
    (4, 3, 0): IcmpKind("net unreachable", errno.ENETUNREACH, hard=False),
    (4, 3, 1): IcmpKind("host unreachable", errno.EHOSTUNREACH, hard=False),
    (4, 3, 2): IcmpKind("protocol unreachable", errno.ENOPROTOOPT, hard=True),
    (4, 3, 3): IcmpKind("port unreachable", errno.ECONNREFUSED, hard=True),
    (4, 3, 4): IcmpKind("fragmentation needed", errno.EMSGSIZE, hard=True),  # unless IP_PMTUDISC_DONT
    (4, 3, 5): IcmpKind("source route failed", errno.EOPNOTSUPP, hard=False),
    (4, 3, 6): IcmpKind("net unknown", errno.ENETUNREACH, hard=True),
    (4, 3, 7): IcmpKind("host unknown", errno.EHOSTDOWN, hard=True),
    (4, 3, 8): IcmpKind("source host isolated", errno.ENONET, hard=True),
    (4, 3, 9): IcmpKind("net prohibited", errno.ENETUNREACH, hard=True),
    (4, 3, 10): IcmpKind("host prohibited", errno.EHOSTUNREACH, hard=True),
    (4, 3, 11): IcmpKind("net unreachable for this TOS", errno.ENETUNREACH, hard=False),
    (4, 3, 12): IcmpKind("host unreachable for this TOS", errno.EHOSTUNREACH, hard=False),
    (4, 3, 13): IcmpKind("administratively prohibited", errno.EHOSTUNREACH, hard=True),
    (4, 3, 14): IcmpKind("host precedence violation", errno.EHOSTUNREACH, hard=True),
    (4, 3, 15): IcmpKind("precedence cutoff", errno.EHOSTUNREACH, hard=True),
    (4, 11, 0): IcmpKind("time exceeded", errno.EHOSTUNREACH, hard=False),
    (4, 11, 1): IcmpKind("reassembly time exceeded", None, hard=False),
    (4, 12, 0): IcmpKind("parameter problem", errno.EPROTO, hard=True),
    (6, 1, 0): IcmpKind("no route", errno.ENETUNREACH, hard=False),
    (6, 1, 1): IcmpKind("administratively prohibited", errno.EACCES, hard=True),
    (6, 1, 2): IcmpKind("beyond scope of source address", errno.EHOSTUNREACH, hard=False),
    (6, 1, 3): IcmpKind("address unreachable", errno.EHOSTUNREACH, hard=False),
    (6, 1, 4): IcmpKind("port unreachable", errno.ECONNREFUSED, hard=True),
    (6, 1, 5): IcmpKind("policy failed", errno.EACCES, hard=True),
    (6, 1, 6): IcmpKind("reject route", errno.EACCES, hard=True),
    (6, 2, 0): IcmpKind("packet too big", errno.EMSGSIZE, hard=True),  # unless IPV6_PMTUDISC_DONT
    (6, 3, 0): IcmpKind("hop limit exceeded", errno.EHOSTUNREACH, hard=False),
    (6, 3, 1): IcmpKind("reassembly time exceeded", errno.EHOSTUNREACH, hard=False),
    (6, 4, 0): IcmpKind("parameter problem", errno.EPROTO, hard=True),
}


def name(version: int, icmp_type: int, code: int) -> str:
    """`port unreachable`; the numbers where no standard names them."""
    kind = KINDS.get((version, icmp_type, code))
    return kind.name if kind else f"type {icmp_type} code {code}"
