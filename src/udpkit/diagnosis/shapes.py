"""What many conversations look like together: sweeps over ports or hosts, and peer-to-peer programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from udpkit.diagnosis.errors import of_kind, total
from udpkit.diagnosis.finding import Severity
from udpkit.diagnosis.services import FIRST_UNPRIVILEGED, SPECULATIVE, TRACED, is_group, is_own
from udpkit.facts import Address, Case, Conversation, Endpoint, Errors
from udpkit.kernel.icmp import TIME_EXCEEDED

FEW = 3
"""Probes that a sweep sends to one port."""

PORTS = 5
"""From so many ports on, each asked a few times only, it is a sweep."""

HOSTS = 8
"""And from so many hosts on, asked on one port."""

PEERS = 4
"""A client that meets trouble with so many hosts from one port talks to peers, which come and go."""


Pair = tuple[Address, Address, int | None]
"""Client and server. Every host has loopback: there, a source too, as the next may be another host's."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """Sweeps over ports (client and server address), over hosts (client address and port), peer programs."""

    over_ports: frozenset[Pair]
    over_hosts: frozenset[tuple[Address, int]]
    peer_programs: frozenset[Endpoint]
    in_error: frozenset[Address]
    """Servers that any ICMP error is about."""

    def sweeps(self, one: Conversation) -> bool:
        """Is it part of a port scan, a traceroute or a search for servers? What fails there is no fault."""
        return _few(one) and (
            _pair(one) in self.over_ports
            or (one.client.address, one.server.port) in self.over_hosts
            or one.server.port in TRACED
        )

    def among_peers(self, one: Conversation) -> bool:
        return one.client in self.peer_programs and one.server.port >= FIRST_UNPRIVILEGED


_latest: list[tuple[Case, Shapes]] = []
"""Of the last case: several rules ask for them, and hashing a hundred thousand addresses takes a second."""


def shapes(case: Case) -> Shapes:
    if not _latest or _latest[0][0] is not case:
        _latest[:] = [(case, _shapes(case))]
    return _latest[0][1]


def _shapes(case: Case) -> Shapes:
    unanswered = [one for one in case.conversations if one.replies is None]
    few = [one for one in unanswered if _few(one)]
    ports = Counter(pair for pair, _ in {(_pair(one), one.server.port) for one in few})
    ends = {(one.client.address, one.server.address, one.server.port) for one in few}
    hosts = Counter((client, port) for client, _, port in ends)
    peers = Counter(
        client for client, _ in {(one.client, one.server.address) for one in unanswered if one.client.port}
    )
    traced = {_pair(one) for one in few if of_kind(one.about_requests(), TIME_EXCEEDED)}
    return Shapes(
        frozenset(traced | {pair for pair, count in ports.items() if count >= PORTS}),
        frozenset(pair for pair, count in hosts.items() if count >= HOSTS),
        frozenset(client for client, count in peers.items() if count >= PEERS),
        frozenset(one.server.address for one in case.conversations if one.errors),
    )


def _pair(one: Conversation) -> Pair:
    client, server = one.client.address, one.server.address
    flows = (one.requests, *one.errors)
    first = next((each.first.seen.source for each in flows if each), None) if is_own(server) else None
    return client, server, first


def _few(one: Conversation) -> bool:
    return one.requests is None or one.requests.count <= FEW


def severity_of(one: Conversation, errors: Sequence[Errors], known: Shapes) -> Severity:
    """How bad it is that datagrams of a conversation met these errors on their way."""
    last = max(each.last.order for each in errors)
    if known.among_peers(one) or one.server.port in SPECULATIVE or is_group(one.server.address):
        return "note"
    if errors[0].error.quoted_source != one.client:  # about answers
        return "error" if one.replies is None or total(errors) >= one.replies.count else "warning"
    if one.replies is None:
        return "error"
    return "note" if one.replies.last.order > last else "warning"
