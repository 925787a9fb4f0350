"""Everything that was seen of one case, and where each piece came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from udpkit.facts.packets import Datagram, IcmpError
from udpkit.facts.tables import SocketTable


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that was read, and how much of it was understood.

    `kind` is one of pcap, pcapng, tcpdump, strace, sockets. `damage` says why reading stopped early.
    """

    path: str
    kind: str
    packets: int = 0
    datagrams: int = 0
    icmp_errors: int = 0
    skipped: int = 0
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """The evidence of one case: `messages` and `tables` are each in the order in which they were seen."""

    sources: Sequence[Source]
    messages: Sequence[Datagram | IcmpError]
    tables: Sequence[SocketTable] = ()
