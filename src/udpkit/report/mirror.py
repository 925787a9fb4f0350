"""A lab copy of a host: what was built, and what could not be copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from udpkit.evidence.configuration import Configuration
from udpkit.facts.text import in_one_line
from udpkit.lab.mirror import Mirror
from udpkit.report.document import SCHEMA


def lines(name: str, original: Configuration, copy: Mirror) -> Iterator[str]:
    """`name`: of the namespace, empty for the caller's own."""
    yield in_one_line(f"{copy.host.name}: the copy of {name or 'this host'}")
    width = max(len(link.name) for link in original.links)
    for link in original.links:
        state = [] if link.up else ["down"]
        yield in_one_line(
            f"  {link.name:<{width}}  {' '.join([*_addresses(original, link.name), *state])}"
        ).rstrip()
    for peer in copy.peers:
        via = f" and {peer.router}" if peer.router else ""
        yield in_one_line(f"{peer.name}: {peer.address}, in {peer.network} behind {peer.interface}{via}")
    if not copy.peers:
        yield "no clients: it has no route to anybody"
    if copy.notes:
        yield "not copied:"
        yield from (f"  {in_one_line(note)}" for note in copy.notes)


def document(name: str, original: Configuration, copy: Mirror) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "namespace": name,
        "interfaces": [
            {
                "name": link.name,
                "kind": link.kind,
                "up": link.up,
                "addresses": _addresses(original, link.name),
            }
            for link in original.links
        ],
        "clients": [
            {
                "name": peer.name,
                "address": str(peer.address),
                "network": peer.network,
                "interface": peer.interface,
                "router": peer.router,
            }
            for peer in copy.peers
        ],
        "not_copied": list(copy.notes),
    }


def _addresses(original: Configuration, interface: str) -> list[str]:
    return [
        f"{one.address}/{one.network.prefixlen}" for one in original.addresses if one.interface == interface
    ]
