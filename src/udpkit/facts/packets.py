"""What was on the wire."""

from __future__ import annotations

from dataclasses import dataclass

from udpkit.facts.endpoint import Address, Endpoint
from udpkit.facts.reference import Reference


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram. `time_ns` is since the epoch, `length` is the payload's (RFC 768, less the header).

    `payload` is what was captured of it.
    """

    seen: Reference
    time_ns: int
    source: Endpoint
    destination: Endpoint
    length: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP or ICMPv6 error about a UDP datagram (RFC 792, RFC 4443).

    `sender` sent it to `receiver`. The quoted datagram went from `quoted_source` to `quoted_destination`;
    either may be a request or a reply. `mtu` is the next hop's, where the message carries one (RFC 1191).
    """

    seen: Reference
    time_ns: int
    sender: Address
    receiver: Address
    icmp_type: int
    code: int
    quoted_source: Endpoint
    quoted_destination: Endpoint
    mtu: int | None = None

    @property
    def kind(self) -> tuple[int, int, int]:
        """IP version, type and code: a key of `kernel.icmp.KINDS`."""
        return self.sender.version, self.icmp_type, self.code
