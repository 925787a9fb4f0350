"""Bind the server to the address that clients ask."""

from udpkit.fixes.fix import Fix
from udpkit.fixes.servers import hint

FIX = Fix(
    title="bind the server to the address",
    codes=frozenset(
        {"reply-from-other-address", "listener-locked-to-first-peer", "wildcard-without-pktinfo"}
    ),
    asked="one",
    tradeoff="Breaks when the address changes; datagrams to the host's other addresses are refused.",
    advice="bind the server to {server} instead of {listener}",
    otherwise="bind the server to the address that clients ask, instead of all addresses",
    known=hint,
    servers={
        "connected": "talk serve {address} {port}",
        "unconnected": "talk serve {address} {port}",
        "nc": "nc -{six}ul {address} {port}",
    },
)
