"""Which addresses an experiment's hosts may have: those that its file names, or leaves to programs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network

from udpkit.facts import Address, Network

V4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
V6 = r"[0-9a-fA-F]{0,4}:[0-9a-fA-F:]*:[0-9a-fA-F.]*"
NAMED = re.compile(rf"(?<![\w.])(?:{V6}|{V4})(?:/[0-9]{{1,3}})?(?!\w)|{V4}")
RANGE = re.compile(rf"({V4}|{V6})-({V4}|{V6})")
BEGUN = re.compile(r"(?<![\w.])((?:[0-9]{1,3}\.){2,3}|[0-9a-fA-F]{1,4}:[0-9a-fA-F:]*:)(?![\w.:])")
"""What a shell or a program ends by itself: `10.0.0.$n`."""
CHOSEN = re.compile(r"dhc|kea|accept_ra|radvd|enable-ra|slaac|ra-only|ipaddress", re.IGNORECASE)
"""Programs that hand out addresses, or count them."""
ANYWHERE = IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a file says of addresses. With `open` a program of it may choose any."""

    named: frozenset[Address]
    networks: tuple[Network, ...]
    ranges: tuple[tuple[Address, Address], ...]
    begun: tuple[str, ...]
    open: bool

    @classmethod
    def of(cls, interfaces: Iterable[str], lines: Iterable[str], *, engines: bool) -> Addresses:
        """`interfaces` are addresses with prefixes; `engines`: Docker gives its containers some."""
        own = [ip_interface(address) for address in interfaces]
        text = "\n".join(lines)
        named: set[Address] = {one.ip for one in own} | {one.network.broadcast_address for one in own}
        networks: list[Network] = []
        for word in NAMED.findall(text):
            with suppress(ValueError):
                named.add(_plain(ip_interface(word.rstrip(":.")).ip))
                networks += [ip_network(word)] if "/" in word else []
        ranges: list[tuple[Address, Address]] = []
        for first, last in RANGE.findall(text):
            with suppress(ValueError):
                ranges.append((ip_address(first), ip_address(last)))
        return cls(
            frozenset(named),
            tuple(networks),
            tuple(ranges),
            tuple(BEGUN.findall(text)),
            engines or CHOSEN.search(text) is not None,
        )

    def may_be(self, address: Address) -> bool:
        """Whether a datagram of this experiment may come from, or go to, this address."""
        address = _plain(address)
        return (
            self.open
            or address in self.named
            or address == ANYWHERE
            or address.is_loopback
            or address.is_link_local
            or address.is_multicast
            or address.is_unspecified
            or any(address in network for network in self.networks)
            or any(
                first.version == address.version == last.version and int(first) <= int(address) <= int(last)
                for first, last in self.ranges
            )
            or str(address).startswith(self.begun)
        )


def _plain(address: Address) -> Address:
    """An IPv4 address in IPv6's clothes (`::ffff:192.0.2.1`) is the same address."""
    return (address.version == 6 and address.ipv4_mapped) or address
