"""Socket options by which a program asks the kernel to be told more (ip(7), ipv6(7))."""

from __future__ import annotations

TELLS_ADDRESS = {
    4: ("IP_PKTINFO", "IP_RECVORIGDSTADDR", "IPV6_RECVPKTINFO", "IPV6_RECVORIGDSTADDR", "IPV6_2292PKTINFO"),
    6: ("IPV6_RECVPKTINFO", "IPV6_RECVORIGDSTADDR", "IPV6_2292PKTINFO"),
}
"""Any of them tells which address was asked, by the client's IP version; the first is the usual one."""

TELLS_ERRORS = ("IP_RECVERR", "IPV6_RECVERR")
"""Any of them lets an unconnected socket hear of ICMP errors."""
