"""Let the kernel tell the program what ICMP says."""

from udpkit.fixes.exchanges import NOT_TRIED
from udpkit.fixes.fix import Fix

FIX = Fix(
    title="ask for errors",
    codes=frozenset({"error-not-heard"}),
    tradeoff="The program must be changed, and know what to do with an error that may come from anybody on "
    "the way.",
    advice="in the client, connect() its socket to {server}, or set IP_RECVERR (IPV6_RECVERR) and read the "
    "error queue; udpkit.sockets asks for them",
    servers=NOT_TRIED,
)
