"""/proc/net/udp and its siblings (proc_pid_net(5))."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

from udpkit.facts import Endpoint, Reference, SocketEntry, SocketTable

ESTABLISHED = "01"  # net/tcp_states.h; for UDP: connected
WAITING = {"07", "0A"}
"""TCP_CLOSE, which for UDP means unconnected, and TCP_LISTEN."""

ENDPOINT = r"(?:[0-9A-F]{8}|[0-9A-F]{32}):[0-9A-F]{4}"
ROW = re.compile(
    rf"^ *\d+: (?P<local>{ENDPOINT}) (?P<remote>{ENDPOINT}) (?P<state>[0-9A-F]{{2}}) "
    r"[0-9A-F]{8}:(?P<queued>[0-9A-F]{8}) \S+ \S+ +(?P<uid>\d{1,10}) +\d+ "
    r"(?P<inode>\d{1,20}) \d+ \S+ (?P<drops>\d{1,20})\b",
    re.ASCII,
)


def proc_net_udp(
    text: str, owners: Mapping[int, str], *, source: int, time_ns: int | None = None, host: str = ""
) -> SocketTable:
    """The UDP sockets in the text of /proc/net/udp, of /proc/net/udp6, or of one after the other.

    `owners` names the programs of inodes. Lines that are not rows of the table are passed over.
    """
    entries = [_entry(row, Reference(source, line=number), owners) for number, row in _rows(text)]
    return SocketTable(entries, time_ns, host)


def proc_net_udp_row(line: str, seen: Reference) -> SocketEntry | None:
    """The socket in one line of /proc/net/udp or /proc/net/udp6."""
    row = ROW.match(line)
    # A row of /proc/net/tcp goes on behind what would be the drops.
    if row is None or line[row.end() :].strip() or len(row["local"]) != len(row["remote"]):
        return None
    return _entry(row, seen, {})


def proc_net_waiting_ports(text: str) -> set[int]:
    """The local ports in /proc/net/udp or /proc/net/tcp (or …6) on which something waits for strangers."""
    return {_endpoint(row["local"]).port for _, row in _rows(text) if row["state"] in WAITING}


def _rows(text: str) -> Iterator[tuple[int, re.Match[str]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if (row := ROW.match(line)) and len(row["local"]) == len(row["remote"]):
            yield number, row


def _entry(row: re.Match[str], seen: Reference, owners: Mapping[int, str]) -> SocketEntry:
    inode = int(row["inode"])
    return SocketEntry(
        seen=seen,
        local=_endpoint(row["local"]),
        peer=_endpoint(row["remote"]) if row["state"] == ESTABLISHED else None,
        inode=inode,
        process=owners.get(inode),
        drops=int(row["drops"]),
        queued=int(row["queued"], 16),
    )


def _endpoint(column: str) -> Endpoint:
    """`0100007F:0035` is 127.0.0.1:53: 32-bit words in the order of the host's bytes, the port as written."""
    digits, port = column.split(":")
    words = [bytes.fromhex(digits[start : start + 8]) for start in range(0, len(digits), 8)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    address = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
    return Endpoint(address, int(port, 16))
