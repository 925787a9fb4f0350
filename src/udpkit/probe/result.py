"""What a probe says of a port, and what an ICMP error says of it."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from udpkit.facts import Address, Endpoint
from udpkit.kernel import icmp
from udpkit.sockets.errors import ErrorReport


class State(str, Enum):
    """A verdict. The order is that of the exit codes: of several ports the last one counts."""

    OPEN = "open"
    """The port answered, from the address and port that were asked."""
    WRONG_SOURCE = "wrong-source"
    """It answered from another address or port: a connected client's kernel refuses that."""
    CLOSED = "closed"
    """The host itself refused: ICMP port unreachable."""
    SILENT = "silent"
    """No answer, and no ICMP error."""
    PROHIBITED = "prohibited"
    """A rule refused it, of a firewall on the way, of the host, or of this one."""
    UNREACHABLE = "unreachable"
    """It did not get there: no route, no such host, too many hops."""


UNREACHABLE = {
    *((4, 3, code) for code in (0, 1, 5, 6, 7, 8, 11, 12)),
    *((4, 11, 0), (4, 11, 1), (4, 12, 0)),
    *((6, 1, code) for code in (0, 2, 3)),
    *((6, 3, 0), (6, 3, 1), (6, 4, 0)),
}
"""(IP version, type, code) of the errors that speak of the way; RFC 792, RFC 1122 3.2.2.1, RFC 4443 3.1.

Port unreachable by the host itself apart, all others are refusals by rule: RFC 1812 5.2.7.1 for 9, 10 and
13 to 15, RFC 4443 for ICMPv6 1, 5 and 6. No host that speaks UDP says "protocol unreachable" of its own
accord.
"""
PROHIBITED_HERE = {errno.EPERM, errno.EACCES}
"""What sendmsg(2) says where a rule or a `prohibit` route of this host forbids it."""
PORT_UNREACHABLE = {("icmp" if version == 4 else "icmp6", *kind) for version, *kind in icmp.PORT_UNREACHABLE}
"""(origin, type, code) as the error queue has them."""
TOO_BIG = {(4, 3, 4), (6, 2, 0)}
"""Says nothing of the port: the datagram must be smaller."""


def state_of(report: ErrorReport) -> State | None:
    """The verdict that an error report stands for; None if it says nothing of the port."""
    if report.origin == "local":
        if report.errno in (errno.ENOBUFS, errno.EMSGSIZE, errno.ENOMEM):
            return None
        return State.PROHIBITED if report.errno in PROHIBITED_HERE else State.UNREACHABLE
    kind = (4 if report.origin == "icmp" else 6, report.type or 0, report.code or 0)
    if kind in TOO_BIG:
        return None
    if is_closed(report.origin, report.type, report.code, report.offender, report.peer):
        return State.CLOSED
    return State.UNREACHABLE if kind in UNREACHABLE else State.PROHIBITED


def is_closed(
    origin: str, icmp_type: int | None, code: int | None, offender: Address | None, target: Endpoint | None
) -> bool:
    """Whether it is port unreachable, said by the target's own host."""
    if (origin, icmp_type, code) not in PORT_UNREACHABLE or target is None:
        return False
    return same_host(offender, target.address)


def same_host(one: Address | None, other: Address) -> bool:
    """Whether two addresses are the same, whatever their scopes: an ICMP message has none."""
    return one is other or (one is not None and int(one) == int(other) and one.version == other.version)


def unscoped(address: Address) -> Address:
    """The address without its scope."""
    return ip_address(address.packed)


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of one port, and how."""

    host: str
    """As it was asked for: a name, an address, a network."""
    target: Endpoint
    state: State
    evidence: Sequence[str]
    """Sentences: what was seen, and what follows from it; no more."""
    sent: int
    """Probes sent to this port."""
    reply_from: Endpoint | None = None
    """Who answered: the target itself if open, somebody else if `wrong-source`."""
    answer: str | None = None
    """What kind of answer it was, where it was recognised: `DNS: NOERROR`."""
    rtt: float | None = None
    """Seconds from the last probe before it to the answer or ICMP error."""
    icmp: ErrorReport | None = None
    """The ICMP error, or this host's own, that decided."""
    icmp_proven: bool = False
    """A port of the same host known to be closed was seen to be refused while this port stayed silent."""

    @property
    def address(self) -> Address:
        """The target's."""
        return self.target.address
