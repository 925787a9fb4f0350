"""Sockets and datagrams from their text."""

from __future__ import annotations

from ipaddress import ip_address

from udpkit.facts import Endpoint, Reference, SocketEntry


def at(text: str) -> Endpoint:
    """`10.0.0.1:53` or `[fd00::1]:53`."""
    address, _, port = text.rpartition(":")
    return Endpoint(ip_address(address.strip("[]")), int(port))


def bound(local: str, peer: str | None = None) -> SocketEntry:
    return SocketEntry(Reference(0, line=1), at(local), at(peer) if peer else None)
