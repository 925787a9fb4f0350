"""The kernel's functions that a datagram passes, by IP version.

A datagram that a program sends gets its source address in one of two places: from the route, at every send
(`route`), or once and for all at connect(2) (`connect`). On arrival `lookup` finds the socket it is for.
Where there is none, `refuse` answers with ICMP; at the sender's side `hear` gives that error to the socket
which sent the datagram.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Functions:
    """Names as in Linux 5.10 to 6.18."""

    route: str
    connect: str
    lookup: str
    refuse: str
    hear: str


FUNCTIONS = {
    4: Functions(
        route="ip_route_output_flow()",  # net/ipv4/route.c, from udp_sendmsg()
        connect="__ip4_datagram_connect()",  # net/ipv4/datagram.c
        lookup="__udp4_lib_lookup()",  # net/ipv4/udp.c
        refuse="icmp_send()",  # net/ipv4/icmp.c, from __udp4_lib_rcv()
        hear="udp_err()",  # net/ipv4/udp.c
    ),
    6: Functions(
        route="ip6_dst_lookup_flow()",  # net/ipv6/ip6_output.c, from udpv6_sendmsg()
        connect="__ip6_datagram_connect()",  # net/ipv6/datagram.c
        lookup="__udp6_lib_lookup()",  # net/ipv6/udp.c
        refuse="icmpv6_send()",  # net/ipv6/icmp.c, from __udp6_lib_rcv()
        hear="udpv6_err()",  # net/ipv6/udp.c
    ),
}
