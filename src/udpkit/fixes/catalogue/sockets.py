"""Answer from the address that was asked: IP_PKTINFO, which udpkit.sockets uses."""

from udpkit.fixes.fix import Fix

FIX = Fix(
    title="a server that uses udpkit.sockets",
    codes=frozenset(
        {"reply-from-other-address", "listener-locked-to-first-peer", "wildcard-without-pktinfo"}
    ),
    asked="one",
    tradeoff="The program must be changed; it is then right on every address, whatever the routes are.",
    advice="in the server, answer from the address that was asked: udpkit.sockets.Socket, or IP_PKTINFO with "
    "recvmsg() and sendmsg()",
    servers={
        "connected": "udpkit-serve {wildcard} {port}",
        "unconnected": "udpkit-serve {wildcard} {port}",
        "nc": "udpkit-serve {wildcard} {port}",
    },
)
