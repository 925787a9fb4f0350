"""The kernel's counters of what goes wrong with UDP, and what each of them means."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

MEANINGS = {
    "RcvbufErrors": "datagrams dropped because a socket's receive buffer was full: its program reads too "
    "slowly, or the buffer is too small for a burst",
    "SndbufErrors": "datagrams not sent because a socket's send buffer or the device's queue was full",
    "InCsumErrors": "datagrams dropped for a wrong checksum: damaged on the way, or by a faulty network card",
    "NoPorts": "datagrams for a port on which nobody waited; each one is answered with port unreachable, as "
    "far as rate limits allow",
    "InErrors": "datagrams for a socket that were not delivered: RcvbufErrors, MemErrors and InCsumErrors "
    "are among them",
    "MemErrors": "datagrams dropped because all UDP sockets together used more than net.ipv4.udp_mem",
    "TcpExtIPReversePathFilter": "IPv4 packets, not of UDP alone, dropped by rp_filter: the route back "
    "to their sender leads out of another interface",
}
"""By the names of /proc/net/snmp without their `Udp`, /proc/net/snmp6 without its `Udp6`, and as nstat(8)
calls those of /proc/net/netstat (net/ipv4/proc.c, net/ipv6/proc.c); counted since the namespace began."""


def udp_counters(net: Path = Path("/proc/thread-self/net")) -> dict[str, int]:
    """Those of MEANINGS that a namespace has, by their full names: `UdpRcvbufErrors`, `Udp6RcvbufErrors`."""
    counters = _paired(net / "snmp", "Udp")
    with suppress(OSError, ValueError):
        rows = [line.split() for line in (net / "snmp6").read_text().splitlines()]
        counters |= {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[0].startswith("Udp6")}
    counters |= _paired(net / "netstat", "TcpExt")
    return {name: value for name, value in counters.items() if meaning(name)}


def _paired(path: Path, kind: str) -> dict[str, int]:
    """Of a file that has a line with the names of a kind and one with their values."""
    with suppress(OSError, ValueError):
        rows = [line.split() for line in path.read_text().splitlines()]
        names, values = [row[1:] for row in rows if row[:1] == [f"{kind}:"]]
        return {f"{kind}{name}": int(value) for name, value in zip(names, values, strict=True)}
    return {}


def meaning(name: str) -> str:
    """What a counter means, empty if it is none of ours."""
    return MEANINGS.get(name.removeprefix("Udp").removeprefix("6"), "")
