"""Cases, written as the conversations they hold, and read back from the captures that they would be.

Packet n of a capture is seen at second n. An endpoint is written as `10.0.0.1:53` or `[fd00::1]:53`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from itertools import groupby

from udpkit.diagnosis import Finding, diagnose
from udpkit.evidence import Evidence, read_captures
from udpkit.facts import (
    Address,
    Case,
    Datagram,
    Endpoint,
    IcmpError,
    Reference,
    SocketEntry,
    SocketTable,
    Source,
)

SECOND = 1_000_000_000
Message = Datagram | IcmpError
Step = Callable[[Reference, int], Message]


def at(text: str) -> Endpoint:
    address, _, port = text.rpartition(":")
    return Endpoint(ip_address(address.strip("[]")), int(port))


def sent(source: str, destination: str) -> Step:
    return lambda seen, time_ns: Datagram(seen, time_ns, at(source), at(destination), length=6)


def refused(source: str, destination: str, *, by: str | None = None, code: int | None = None) -> Step:
    """An ICMP error about the datagram: port unreachable from its destination, or what is asked for."""
    quoted = at(source), at(destination)
    sender = ip_address(by) if by else quoted[1].address
    icmp_type, port_unreachable = (3, 3) if sender.version == 4 else (1, 4)
    code = port_unreachable if code is None else code
    return lambda seen, time_ns: IcmpError(seen, time_ns, sender, quoted[0].address, icmp_type, code, *quoted)


def capture(*steps: Step, source: int = 0) -> list[Message]:
    return [step(Reference(source, packet=n), n * SECOND) for n, step in enumerate(steps, start=1)]


def socket(
    local: str, peer: str | None = None, *, inode: int | None = 7, process: str | None = "nc"
) -> SocketEntry:
    return SocketEntry(Reference(0, line=2), at(local), at(peer) if peer else None, inode, process)


def tables(*moments: tuple[float | None, Sequence[SocketEntry]], source: int = 1) -> list[SocketTable]:
    """Socket tables of one host: when (in seconds, between which packets), and what was there."""
    return [
        SocketTable(
            [
                SocketEntry(
                    Reference(source + number, line=line), *(one.local, one.peer, one.inode, one.process)
                )
                for line, one in enumerate(entries, start=2)
            ],
            None if when is None else int(when * SECOND),
        )
        for number, (when, entries) in enumerate(moments)
    ]


def messages(*steps: Step | Sequence[Message]) -> list[Message]:
    """One capture of these steps, or whole captures one after the other."""
    single = [one for one in steps if callable(one)]
    captures = [one for one in steps if not callable(one)]
    return capture(*single) + [message for one in captures for message in one]


def case(*steps: Step | Sequence[Message], tables: Sequence[SocketTable] = ()) -> Case:
    captures = {
        source: pcap(list(seen))
        for source, seen in groupby(
            sorted(messages(*steps), key=lambda one: (one.seen.source, one.seen.packet)),
            key=lambda one: one.seen.source,
        )
    }
    read, conversations, unjudged = read_captures(
        [Evidence.of(f"{source}.pcap", data) for source, data in captures.items()],
        sources=list(captures),
        tables=tables,
    )
    lines = [entry.seen.source for table in tables for entry in table.entries]
    sources = [Source("sockets", "sockets")] * (1 + max([*captures, *lines, 0]))
    for source, one in zip(captures, read, strict=True):
        sources[source] = one
    return Case(sources, tables=tables, conversations=conversations, unjudged=unjudged)


def pcap(seen: Sequence[Message]) -> bytes:
    """A capture in nanoseconds; of the datagrams only the headers were captured."""
    records = []
    for message in seen:
        packet, missing = encoded(message)
        frame = bytes(12) + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet
        seconds, fraction = divmod(message.time_ns, SECOND)
        records.append(struct.pack("<IIII", seconds, fraction, len(frame), len(frame) + missing) + frame)
    return struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1) + b"".join(records)


def encoded(message: Message) -> tuple[bytes, int]:
    """The packet, and how many bytes of it were not captured."""
    if isinstance(message, Datagram):
        source, destination = message.source, message.destination
        header = struct.pack("!4H", source.port, destination.port, 8 + message.length, 0)
        return ip(source.address, destination.address, 17, header, message.length), message.length
    quoted = Datagram(message.seen, 0, message.quoted_source, message.quoted_destination, 0)
    icmp = struct.pack("!BBHI", message.icmp_type, message.code, 0, 0) + encoded(quoted)[0]
    protocol = 1 if message.sender.version == 4 else 58
    return ip(message.sender, message.receiver, protocol, icmp), 0


def ip(source: Address, destination: Address, protocol: int, payload: bytes, missing: int = 0) -> bytes:
    length = len(payload) + missing
    if source.version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, protocol, 0)
    else:
        header = struct.pack("!IHBB", 6 << 28, length, protocol, 64)
    return header + source.packed + destination.packed + payload


def findings(*steps: Step | Sequence[Message], tables: Sequence[SocketTable] = ()) -> dict[str, Finding]:
    """The findings by their codes, of which each must be there once."""
    found = diagnose(case(*steps, tables=tables))
    assert len({one.code for one in found}) == len(found), found
    return {one.code: one for one in found}


def codes(*steps: Step | Sequence[Message], tables: Sequence[SocketTable] = ()) -> list[tuple[str, str]]:
    return [(one.code, one.severity) for one in diagnose(case(*steps, tables=tables))]
