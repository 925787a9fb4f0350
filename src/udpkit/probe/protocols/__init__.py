"""Payloads that make services answer, and how their answers are told: docs/payloads.md has the table.

Most UDP services say nothing to bytes that they do not understand, so a probe speaks the protocol that is
usually found on the port. What is sent changes nothing on the server, and asks for as little as the protocol
allows. A reply counts as an answer only if it carries back what identifies the request, wherever the
protocol has such a thing; anything else is a datagram of so many bytes, and the engine says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from udpkit.probe.protocols import asn1, names, secure, services, text, tunnels
from udpkit.probe.protocols.protocol import Protocol
from udpkit.probe.protocols.text import LINE

__all__ = ["LINE", "PROTOCOLS", "Protocol", "for_port"]

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {one.name: one for family in (names, asn1, services, text, secure, tunnels) for one in family.FAMILY}
)
"""Every protocol by its name, in the order of docs/payloads.md."""

_BY_PORT = {port: one for one in PROTOCOLS.values() for port in one.ports}


def for_port(port: int) -> Protocol:
    """The protocol that is usually found on this port; LINE if none is known."""
    return _BY_PORT.get(port, LINE)
