"""The kernel's functions that a datagram passes, by IP version.

A datagram that a program sends gets its source address in one of two places: from the route, at every send
(`route`), or once and for all at connect(2) (`connect`). A router passes it on (`forward`), or has no route
(`no_route`, `prohibit`) or no neighbour (`no_neighbour`) for it. On arrival its fragments are put together
(`reassemble` gives up), its checksum is verified (`receive`), and `lookup` finds the socket it is for. Where
there is none, `refuse` answers with ICMP; a firewall may have done so before (`reject`). How often a host
sends such errors, `limit` says. At the sender's side `hear` gives the error to the socket which sent the
datagram, or to one that is not connected if it `asks` for errors; what no socket is told stops at `unheard`.
`learn_mtu` notes how much a path takes, and `append` refuses to send more where that may not be cut.
`recvmsg` gives the program a datagram, and what else it asked to be told.
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
    asks: str
    unheard: str
    forward: str
    no_route: str
    prohibit: str
    no_neighbour: str
    reassemble: str
    receive: str
    reject: str
    limit: str
    learn_mtu: str
    append: str
    recvmsg: str


FUNCTIONS = {
    4: Functions(
        route="ip_route_output_flow()",  # net/ipv4/route.c, from udp_sendmsg()
        connect="__ip4_datagram_connect()",  # net/ipv4/datagram.c
        lookup="__udp4_lib_lookup()",  # net/ipv4/udp.c
        refuse="icmp_send()",  # net/ipv4/icmp.c, from __udp4_lib_rcv()
        hear="udp_err()",  # net/ipv4/udp.c
        asks="IP_RECVERR",
        unheard="icmp_unreach()",  # net/ipv4/icmp.c: ICMP_EXC_FRAGTIME goes out before udp_err()
        forward="ip_forward()",  # net/ipv4/ip_forward.c
        no_route="ip_error()",  # net/ipv4/route.c
        prohibit="ip_error()",  # the same: fib_props[] tells the kinds of route apart
        no_neighbour="arp_error_report()",  # net/ipv4/arp.c
        reassemble="ip_expire()",  # net/ipv4/ip_fragment.c
        receive="__udp4_lib_rcv()",  # net/ipv4/udp.c
        reject="nf_send_unreach()",  # net/ipv4/netfilter/nf_reject_ipv4.c
        limit="icmpv4_xrlim_allow()",  # net/ipv4/icmp.c
        learn_mtu="ipv4_sk_update_pmtu()",  # net/ipv4/route.c, from udp_err()
        append="__ip_append_data()",  # net/ipv4/ip_output.c, from udp_sendmsg()
        recvmsg="udp_recvmsg()",  # net/ipv4/udp.c; with IP_PKTINFO ip_cmsg_recv_offset() adds the address
    ),
    6: Functions(
        route="ip6_dst_lookup_flow()",  # net/ipv6/ip6_output.c, from udpv6_sendmsg()
        connect="__ip6_datagram_connect()",  # net/ipv6/datagram.c
        lookup="__udp6_lib_lookup()",  # net/ipv6/udp.c
        refuse="icmpv6_send()",  # net/ipv6/icmp.c, from __udp6_lib_rcv()
        hear="udpv6_err()",  # net/ipv6/udp.c
        asks="IPV6_RECVERR",
        unheard="icmpv6_notify()",  # net/ipv6/icmp.c
        forward="ip6_forward()",  # net/ipv6/ip6_output.c
        no_route="ip6_pkt_discard()",  # net/ipv6/route.c
        prohibit="ip6_pkt_prohibit()",  # net/ipv6/route.c
        no_neighbour="ndisc_error_report()",  # net/ipv6/ndisc.c
        reassemble="ip6_frag_expire()",  # net/ipv6/reassembly.c
        receive="__udp6_lib_rcv()",  # net/ipv6/udp.c
        reject="nf_send_unreach6()",  # net/ipv6/netfilter/nf_reject_ipv6.c
        limit="icmpv6_xrlim_allow()",  # net/ipv6/icmp.c
        learn_mtu="ip6_sk_update_pmtu()",  # net/ipv6/route.c, from udpv6_err()
        append="__ip6_append_data()",  # net/ipv6/ip6_output.c, from udpv6_sendmsg()
        recvmsg="udpv6_recvmsg()",  # net/ipv6/udp.c; ip6_datagram_recv_ctl()
    ),
}
