"""An IP address with a UDP port."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
"""Of the standard library's ipaddress."""
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a conversation. `str()` gives `ip:port` or `[ip6]:port`."""

    address: Address
    """A link-local IPv6 address may have a scope."""
    port: int
    """0 to 65535."""

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


class NamedIPv4(IPv4Address):
    """A host known by its name only. An address of 240.0.0.0/4 stands for it; `str()` is the name."""

    __slots__ = ("name",)

    def __init__(self, address: int, name: str) -> None:
        super().__init__(address)
        self.name = name

    def __str__(self) -> str:
        return self.name


class NamedIPv6(IPv6Address):
    """The same where an IPv6 address stood: one of 100::/64 (RFC 6666) stands for it."""

    __slots__ = ("name",)

    def __init__(self, address: int, name: str) -> None:
        super().__init__(address)
        self.name = name

    def __str__(self) -> str:
        return self.name
