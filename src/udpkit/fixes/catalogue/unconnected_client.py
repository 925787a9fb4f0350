"""Ask a group of hosts from a socket that takes an answer from any of them."""

from udpkit.fixes.exchanges import NOT_TRIED
from udpkit.fixes.fix import Fix

FIX = Fix(
    title="do not connect the client's socket",
    codes=frozenset({"reply-from-other-address"}),
    asked="group",
    tradeoff="The client then takes datagrams from anybody and must look at who sent them, and it hears no "
    "ICMP errors unless it sets IP_RECVERR (IPV6_RECVERR).",
    advice="in the client, do not connect() to {address}: sendto() it and take the answers with recvfrom(), "
    "which says who sent each (socat: UDP-DATAGRAM:{server}; nc connects, and cannot); nothing is wrong with "
    "the server",
    otherwise="in the client, do not connect() to the group: sendto() it and take the answers with "
    "recvfrom()",
    servers=NOT_TRIED,
)
