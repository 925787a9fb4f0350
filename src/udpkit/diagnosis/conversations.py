"""Datagrams and ICMP errors, put together by who asked whom.

Theory of operation. The first datagram between two endpoints makes its sender the client. A datagram to a
client from an endpoint that it never asked is a *stray*: an answer, perhaps, of a server that the client did
ask, from another address on the same port or from another port of the same address. Which server that was is
known when the capture ends: one that never answered by itself. It is no stray if

- the client then writes to that endpoint, so that it was a peer in its own right (TFTP works so, RFC 1350
  section 4);
- the client asked a group of hosts, any of which may answer for itself (SSDP, mDNS, DHCP);
- the client uses a service's port, to which anyone may write first: the server's own (NTP, SIP) or one from
  which no client sends (a DHCP server, in a capture that has no request to it);
- it was not refused, and more than one server may have sent it (peer-to-peer nodes ask many on one port), or
  other strangers write to the client too (it serves as well as it asks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from udpkit.facts import Address, Datagram, Endpoint, IcmpError, Reference
from udpkit.kernel.icmp import PORT_UNREACHABLE

FIRST_CLIENT_PORT = 512
"""Not even rresvport(3) and bindresvport(3) give a client a lower port."""


@dataclass(slots=True)
class Conversation:
    """What one client and one server that it asked sent each other, each list in the order of the capture.

    `strays` may be answers of a server that sent no replies.
    """

    client: Endpoint
    server: Endpoint
    requests: list[Datagram] = field(default_factory=list)
    replies: list[Datagram] = field(default_factory=list)
    strays: dict[Endpoint, list[Datagram]] = field(default_factory=dict)
    refused_requests: list[IcmpError] = field(default_factory=list)
    """Port unreachable, from the server's own address, about a request."""
    refused_replies: list[IcmpError] = field(default_factory=list)
    """Port unreachable, from the client's own address, about a reply or a stray."""

    def refusals_of(self, stray: Endpoint) -> list[IcmpError]:
        """The client's refusals of what came from `stray`.

        One that quotes a source which was never seen is about it too: where addresses are translated, the
        datagram and the error about it are captured on different sides of the translation.
        """
        return [
            error
            for error in self.refused_replies
            if error.quoted_source == stray or error.quoted_source not in {self.server, *self.strays}
        ]


def conversations(messages: Iterable[Datagram | IcmpError]) -> list[Conversation]:
    """Put messages together, which come in the order of their times, by who asked whom."""
    book = _Book()
    for message in messages:
        if isinstance(message, Datagram):
            book.datagram(message)
        else:
            book.error(message)
    book.settle_strays()
    return list(book.by_ends.values())


def without_copies(messages: Iterable[Datagram | IcmpError]) -> Iterator[Datagram | IcmpError]:
    """What was captured on several links only once: the n-th of its kind is the same one on each."""
    counts: Counter[tuple[int, object]] = Counter()
    known: Counter[object] = Counter()
    for message in messages:
        kind = replace(message, seen=NOWHERE, time_ns=0)
        counts[message.seen.source, kind] += 1
        if counts[message.seen.source, kind] > known[kind]:
            known[kind] += 1
            yield message


NOWHERE = Reference(0)


@dataclass(slots=True)
class _Stray:
    """What one endpoint sent unasked to one client; `origins` may have sent it, the latest first.

    Of some only the refusal was captured.
    """

    origins: list[Conversation]
    datagrams: list[Datagram] = field(default_factory=list)
    refusals: list[IcmpError] = field(default_factory=list)


class _Book:
    def __init__(self) -> None:
        self.by_ends: dict[tuple[Endpoint, Endpoint], Conversation] = {}
        self.by_client: dict[Endpoint, list[Conversation]] = {}
        self.strays: dict[tuple[Endpoint, Endpoint], _Stray] = {}

    def datagram(self, datagram: Datagram) -> None:
        source, destination = datagram.source, datagram.destination
        if answered := self.by_ends.get((destination, source)):
            answered.replies.append(datagram)
        elif asked := self.by_ends.get((source, destination)):
            asked.requests.append(datagram)
        elif origins := self.origins_of_stray(source, destination):
            asked_group = next((origin for origin in origins if _is_group(origin.server.address)), None)
            if asked_group:
                asked_group.replies.append(datagram)
            else:
                self.strays.setdefault((destination, source), _Stray(origins)).datagrams.append(datagram)
        else:
            self.open(source, destination).requests.append(datagram)

    def open(self, client: Endpoint, server: Endpoint) -> Conversation:
        opened = self.by_ends[client, server] = Conversation(client, server)
        if known := self.strays.pop((client, server), None):
            opened.replies += known.datagrams
        self.by_client.setdefault(client, []).append(opened)
        return opened

    def origins_of_stray(self, source: Endpoint, client: Endpoint) -> list[Conversation]:
        """The conversations that a datagram to `client` may be a stray of."""
        if client.port < FIRST_CLIENT_PORT:
            return []
        return [
            candidate
            for candidate in reversed(self.by_client.get(client, []))
            if candidate.server.port != client.port
            and (candidate.server.port == source.port) != (candidate.server.address == source.address)
        ]

    def error(self, error: IcmpError) -> None:
        if (error.sender.version, error.icmp_type, error.code) not in PORT_UNREACHABLE:
            return
        source, destination = error.quoted_source, error.quoted_destination
        if error.sender != destination.address:
            return  # not the host itself: a firewall or router on the way
        if asked := self.by_ends.get((source, destination)):
            asked.refused_requests.append(error)
        elif answered := self.by_ends.get((destination, source)):
            answered.refused_replies.append(error)
        elif origins := self.origins_of_stray(source, destination):
            self.strays.setdefault((destination, source), _Stray(origins)).refusals.append(error)

    def settle_strays(self) -> None:
        strangers = Counter(client for (client, _), stray in self.strays.items() if stray.datagrams)
        for (client, source), stray in self.strays.items():
            unanswered = [origin for origin in stray.origins if not origin.replies]
            certain = len(unanswered) == 1 and strangers[client] == 1
            if unanswered and (certain or stray.refusals):
                unanswered[0].refused_replies += stray.refusals
                if stray.datagrams:
                    unanswered[0].strays[source] = stray.datagrams


def _is_group(address: Address) -> bool:
    """Multicast or broadcast. Whether an address that ends in 255 is its subnet's, the wire does not tell."""
    return address.is_multicast or (address.version == 4 and address.packed[-1] == 255)
