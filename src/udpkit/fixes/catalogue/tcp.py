"""Use TCP: an accepted connection keeps the address that was asked."""

from udpkit.fixes.fix import Fix

FIX = Fix(
    title="TCP instead of UDP",
    codes=frozenset({"reply-from-other-address", "listener-locked-to-first-peer"}),
    asked="one",
    tradeoff="Both programs must speak TCP; its connection set-up, ordering and retransmission come along.",
    advice="use TCP between {client} and {server}, if both programs can (nc: leave out -u)",
    otherwise="use TCP, if both programs can (nc: leave out -u)",
    servers={
        "connected": "talk serve --tcp {wildcard} {port}",
        "unconnected": None,  # TCP has no unconnected clients
        "nc": "nc -{six}l {port}",
    },
    clients={"connected": "talk ask --tcp {address} {port}", "nc": "nc {address} {port}"},
)
