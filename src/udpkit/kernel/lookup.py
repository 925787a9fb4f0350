"""Which socket takes a datagram: compute_score() of net/ipv4/udp.c and net/ipv6/udp.c.

Theory of operation. A socket is a candidate if nothing it has fixed contradicts the datagram: its local port
and, once it has them, its local address and its peer. Of the candidates the one that has fixed most wins. A
wildcard-bound socket has fixed only its port. connect(2) fixes the other two, and the local address that it
fixes is the one which the route to the peer prefers, not the one to which the peer had sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address

from udpkit.facts import Address, Endpoint, SocketEntry

LOCAL_ADDRESS_SCORE = 16
"""More than all else: the lookup tries sockets bound to the very address first, wildcards only after them."""

PEER_SCORE = 8
"""compute_score() gives 4 for a matching peer address and 4 for its port; connect(2) fixes both."""

DEVICE_SCORE = 4
"""For a socket that is bound to the interface on which the datagram came."""

FAMILY_SCORE = 1
"""For an IPv4 datagram, a socket of AF_INET goes before one of AF_INET6."""


def score(entry: SocketEntry, source: Endpoint) -> int:
    """How much of a datagram's addresses a socket that takes it has fixed."""
    total = FAMILY_SCORE if entry.local.address.version == source.address.version else 0
    if not unmapped(entry.local.address).is_unspecified:
        total += LOCAL_ADDRESS_SCORE
    return total + (PEER_SCORE if entry.peer else 0) + (DEVICE_SCORE if entry.device else 0)


def mismatch(entry: SocketEntry, source: Endpoint, destination: Endpoint) -> str | None:
    """Why a socket does not take a datagram, in a few words; None if it does."""
    local, peer = unmapped(entry.local.address), entry.peer
    if entry.local.port != destination.port:
        return f"its port is {entry.local.port}"
    if local.version == 4 and destination.address.version == 6:
        return "it takes IPv4 only"
    # A wildcard of AF_INET6 takes IPv4 too, unless IPV6_V6ONLY is set, which few tables show.
    if entry.options.get("IPV6_V6ONLY") and destination.address.version == 4:
        return "it takes IPv6 only"
    if not local.is_unspecified and local != destination.address:
        return f"its local address is {local}"
    if peer and (unmapped(peer.address), peer.port) != (source.address, source.port):
        return f"it is connected to {peer}"
    return None


def lookup(entries: Sequence[SocketEntry], source: Endpoint, destination: Endpoint) -> SocketEntry | None:
    """The socket that takes a datagram; None where the kernel would answer port unreachable.

    Of equals (SO_REUSEPORT) the first is returned; the kernel spreads by a hash.
    """
    takers = [entry for entry in entries if mismatch(entry, source, destination) is None]
    return max(takers, key=lambda entry: score(entry, source), default=None)


def unmapped(address: Address) -> Address:
    """The IPv4 address inside ::ffff:a.b.c.d (RFC 4291, 2.5.5.2); any other address as it is."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def plain(endpoint: Endpoint) -> Endpoint:
    """An endpoint as it is on the wire: a dual-stack socket calls an IPv4 one ::ffff:a.b.c.d."""
    return Endpoint(unmapped(endpoint.address), endpoint.port)
