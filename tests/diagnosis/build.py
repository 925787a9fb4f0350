"""Cases, written as the conversations they hold.

Packet n of a capture is seen at second n. An endpoint is written as `10.0.0.1:53` or `[fd00::1]:53`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from udpkit.diagnosis import Finding, diagnose
from udpkit.facts import Case, Datagram, Endpoint, IcmpError, Reference, SocketEntry, SocketTable, Source

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


def case(*messages: Step | Sequence[Message], tables: Sequence[SocketTable] = ()) -> Case:
    """One capture of these steps, or whole captures one after the other."""
    steps = [one for one in messages if callable(one)]
    captures = [one for one in messages if not callable(one)]
    return Case([Source("x.pcap", "pcap")], capture(*steps) + [m for one in captures for m in one], tables)


def findings(*messages: Step | Sequence[Message], tables: Sequence[SocketTable] = ()) -> dict[str, Finding]:
    """The findings by their codes, of which each must be there once."""
    found = diagnose(case(*messages, tables=tables))
    assert len({one.code for one in found}) == len(found), found
    return {one.code: one for one in found}


def codes(*messages: Step | Sequence[Message], tables: Sequence[SocketTable] = ()) -> list[tuple[str, str]]:
    return [(one.code, one.severity) for one in diagnose(case(*messages, tables=tables))]
