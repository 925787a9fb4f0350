"""Give a socket more room for bursts."""

from udpkit.fixes.fix import Fix

FIX = Fix(
    title="a larger receive buffer",
    codes=frozenset({"receive-buffer-overflow"}),
    tradeoff="Room for a longer burst costs kernel memory for each socket, and what waits there is answered "
    "late; it does not help a program that is always too slow. A running program keeps the buffer it has.",
    advice="in the program that waits on port {port}: setsockopt(SO_RCVBUF) to what a burst needs, allowed "
    "by sysctl -w net.core.rmem_max=8388608; for a program that nobody can change, sysctl -w "
    "net.core.rmem_default=2097152 and start it anew; and read with recvmmsg(), or in more threads",
    otherwise="in the program: setsockopt(SO_RCVBUF) to what a burst needs, allowed by sysctl -w "
    "net.core.rmem_max=8388608; and read with recvmmsg(), or in more threads",
    tried=False,
)
