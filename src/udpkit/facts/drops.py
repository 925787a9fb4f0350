"""Datagrams that a kernel says it dropped: the tracepoint skb:kfree_skb and its reason."""

from __future__ import annotations

from dataclasses import dataclass

from udpkit.facts.conversation import Moment
from udpkit.facts.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Drops:
    """Datagrams between two endpoints that the kernel dropped for one reason.

    `reason` is its name in the kernel (`NETFILTER_DROP`, include/net/dropreason-core.h), `where` the function
    that dropped them. `process` holds the socket that they were for, where that is known.
    """

    source: Endpoint
    destination: Endpoint
    reason: str
    where: str
    count: int
    first: Moment
    last: Moment
    process: str | None = None
    answers: bool = False
    """They were answers: `destination` had asked `source`."""
    icmp: tuple[int, int] | None = None
    """Type and code of the ICMP error that the kernel sent about one of them just before, if it did: a
    firewall's REJECT. From the tracepoint icmp:icmp_send, which ICMPv6 and kernels before 6.11 lack.
    """
