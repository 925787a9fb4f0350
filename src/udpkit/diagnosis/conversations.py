"""Datagrams and ICMP errors, put together by who asked whom.

Theory of operation. The first datagram between two endpoints makes its sender the client. A datagram to a
client from an endpoint that it never asked is a *stray*: an answer, perhaps, of a server that the client did
ask, from another address on the same port or from another port of the same address. If the client then
writes to that endpoint, it was a peer in its own right (TFTP works so, RFC 1350 section 4) and no stray.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from udpkit.facts import Datagram, Endpoint, IcmpError
from udpkit.kernel.icmp import PORT_UNREACHABLE


@dataclass(slots=True)
class Conversation:
    """What one client and one server that it asked sent each other, each list in the order of the capture."""

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
    """Put one capture's messages together, in the order in which the conversations began."""
    book = _Book()
    for message in messages:
        if isinstance(message, Datagram):
            book.datagram(message)
        else:
            book.error(message)
    return list(book.by_ends.values())


class _Book:
    def __init__(self) -> None:
        self.by_ends: dict[tuple[Endpoint, Endpoint], Conversation] = {}
        self.by_client: dict[Endpoint, list[Conversation]] = {}

    def datagram(self, datagram: Datagram) -> None:
        source, destination = datagram.source, datagram.destination
        if answered := self.by_ends.get((destination, source)):
            answered.replies.append(datagram)
        elif asked := self.by_ends.get((source, destination)):
            asked.requests.append(datagram)
        elif origin := self.origin_of_stray(source, destination):
            origin.strays.setdefault(source, []).append(datagram)
        else:
            self.open(source, destination).requests.append(datagram)

    def open(self, client: Endpoint, server: Endpoint) -> Conversation:
        opened = self.by_ends[client, server] = Conversation(client, server)
        for other in self.by_client.setdefault(client, []):
            opened.replies += other.strays.pop(server, [])
        self.by_client[client].append(opened)
        return opened

    def origin_of_stray(self, source: Endpoint, client: Endpoint) -> Conversation | None:
        """The conversation that a datagram to `client` may be a stray of: the latest that fits."""
        for candidate in reversed(self.by_client.get(client, [])):
            server = candidate.server
            if (server.port == source.port) != (server.address == source.address):
                return candidate
        return None

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
        elif origin := self.origin_of_stray(source, destination):
            origin.refused_replies.append(error)
