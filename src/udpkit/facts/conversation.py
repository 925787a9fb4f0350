"""What two endpoints said to each other, added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from udpkit.facts.endpoint import Endpoint
from udpkit.facts.packets import IcmpError
from udpkit.facts.reference import Reference


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where something was seen.

    `order` counts what was read of all captures of a case, in the order of their times: it tells what came
    before what, also where the evidence has no times. `time_ns` is since the epoch, None without a date.
    """

    order: int
    time_ns: int | None
    seen: Reference


@dataclass(frozen=True, slots=True)
class Flow:
    """Datagrams of one direction. What was captured on several links counts as often as one of them saw it.

    `largest` is the longest payload in bytes. `bad_checksums` counts those whose UDP checksum is wrong, and
    not merely left to the network card; `lost_fragments` those of which a fragment never came.
    """

    count: int
    first: Moment
    last: Moment
    largest: int = 0
    bad_checksums: int = 0
    lost_fragments: int = 0


@dataclass(frozen=True, slots=True)
class Errors:
    """ICMP errors of one sender and kind about one flow of a conversation; `error` is the first."""

    error: IcmpError
    count: int
    first: Moment
    last: Moment


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one client and one server that it asked sent each other.

    `requests` is None where only an error that quotes one was seen. `strays` may be answers of this server
    from other endpoints: it sent no replies itself, and the client never asked them. Where the server is
    a group (multicast, broadcast), its members' answers are the replies, and an error about one quotes whose.
    """

    client: Endpoint
    server: Endpoint
    requests: Flow | None = None
    replies: Flow | None = None
    strays: Mapping[Endpoint, Flow] = field(default_factory=dict)
    errors: Sequence[Errors] = ()
    """What ICMP said about requests, replies and strays, in the order of the first of each kind."""
    answers_others: bool = False
    """The server answered another client."""
    client_hears: bool = False
    """Datagrams to the client's address were captured: what was not seen was not merely on another link."""
    also_answered: Mapping[Endpoint, Flow] = field(default_factory=dict)
    """Where there are errors: the server's replies to the other client that it answered first, and to the one
    that it answered last, or last but one where that is the first."""

    def about_requests(self) -> list[Errors]:
        return [one for one in self.errors if one.error.quoted_source == self.client]

    def about_replies(self) -> list[Errors]:
        """About what came from the server or from a stray."""
        return [one for one in self.errors if one.error.quoted_destination == self.client]
