"""Everything that was seen of one case, and where each piece came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from udpkit.facts.calls import TracedSocket
from udpkit.facts.conversation import Conversation
from udpkit.facts.drops import Drops
from udpkit.facts.host import HostState
from udpkit.facts.tables import SocketTable


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that was read, and how much of it was understood.

    `kind` is one of pcap, pcapng, tcpdump, strace, sockets; of what is watched, one of live, drops, sockets.
    `packets` counts a capture's packets, or the lines of text that were taken for one; of them `skipped` are
    neither datagrams nor ICMP errors about one. `unread` says of what could not be decoded why, and how
    often. `damage` has a sentence for each place that is damaged (the first of many); `last_ns` is the last
    time in it.
    """

    path: str
    kind: str
    packets: int = 0
    datagrams: int = 0
    icmp_errors: int = 0
    skipped: int = 0
    unread: Mapping[str, int] = field(default_factory=dict)
    damage: Sequence[str] = ()
    last_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """The evidence of one case. `tables` are in the order in which they were seen.

    Of the conversations only those are here in which anything is remarkable; `unjudged` counts those which
    were, but for which there was no room.
    """

    sources: Sequence[Source]
    tables: Sequence[SocketTable] = ()
    conversations: Sequence[Conversation] = ()
    traces: Sequence[TracedSocket] = ()
    drops: Sequence[Drops] = ()
    hosts: Sequence[HostState] = ()
    unjudged: int = 0
