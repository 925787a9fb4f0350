"""Give a socket more room for bursts."""

from udpkit.fixes.fix import Check, Fix

ROOM = {"rmem_max": 8388608, "rmem_default": 2097152}
"""Bytes; a limit that is larger stays."""
SYSCTL = "net.core."

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
    remembers={name: f"sysctl -n {SYSCTL}{name}" for name in ROOM}
    | {
        f"new_{name}": f"old=$(sysctl -n {SYSCTL}{name}) && echo $((old > {room} ? old : {room}))"
        for name, room in ROOM.items()
    },
    commands=[f"sysctl -w {SYSCTL}{name}={{new_{name}}}" for name in ROOM],
    undo=[
        f'test "$(sysctl -n {SYSCTL}{name})" = {{new_{name}}} && sysctl -w {SYSCTL}{name}={{{name}}}'
        for name in ROOM
    ],
    checks=[Check(asks=f"sysctl -n {SYSCTL}{name}", wants=f"^{{new_{name}}}$") for name in ROOM],
    once="-",
    tried=False,
)
