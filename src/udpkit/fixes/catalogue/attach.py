"""eBPF under the program: it answers from the address that was asked and knows nothing of it."""

from udpkit.fixes.exchanges import EXCHANGES
from udpkit.fixes.fix import Fix

FIX = Fix(
    title="eBPF under the program",
    codes=frozenset(
        {"reply-from-other-address", "listener-locked-to-first-peer", "wildcard-without-pktinfo"}
    ),
    asked="one",
    tradeoff="Needs root, Linux 5.10 and cgroup2; costs some nanoseconds for each datagram; ends with the "
    "command unless --persist.",
    advice="udpkit fix attach --pid {pid}, or start the server with udpkit fix run -- PROGRAM",
    otherwise="udpkit fix attach --pid PID, or start the server with udpkit fix run -- PROGRAM",
    servers={name: f"udpkit fix run -- {exchange.server}" for name, exchange in EXCHANGES.items()},
)
