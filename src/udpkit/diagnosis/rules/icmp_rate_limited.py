"""A host refuses fewer datagrams than it would like to: its ICMP errors are rate limited.

## What it sees

Many datagrams from one client to closed ports of one host, or to one closed port; no answer to any of them;
and far fewer ICMP errors than datagrams, at the pace of Linux's own limit: a burst of about six to one
peer, then one a second (in IPv6 up to sixteen, since the limit shrinks with the length of the route's
prefix). It is a note: silence on the other ports proves nothing. Port scanners that take silence for an
open port are wrong there.

Silent: where the errors keep up with the datagrams, come faster than the limit, or are two or fewer; where
the evidence has no times.

## Why it happens

net.ipv4.icmp_ratelimit and net.ipv6.icmp.ratelimit: by default 1000 ms for each error to one peer, saved up
to a burst of six. What is above is dropped without a word, and `nc -vzu` prints "succeeded!" for a closed
port.

## Example

    10.0.0.9:40000 > 10.0.0.1:7001 … 7060 UDP
    10.0.0.1 > 10.0.0.9 ICMP port unreachable      for six of the sixty
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from udpkit.diagnosis.errors import first_ns, last_ns, seconds, seen, total
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.refusals import refused_requests
from udpkit.diagnosis.services import is_group, is_service
from udpkit.diagnosis.shapes import FEW
from udpkit.diagnosis.why import place
from udpkit.facts import Address, Case, Conversation, Errors
from udpkit.kernel.functions import FUNCTIONS

CODE = "icmp-rate-limited"
BURST = 6
"""XRLIM_BURST_FACTOR, net/ipv4/route.c."""
PER_SECOND = {4: 1, 6: 16}
"""By IP version; icmpv6_xrlim_allow() lets more pass, the shorter the route's prefix: 16 without one."""
LEAST = 3
"""Errors that it takes to speak of a pace."""
FAR_MORE = 2
"""So many times as many datagrams as errors."""
SPARE = 5
"""And so many more at least: a few were merely lost."""


@dataclass(slots=True)
class _Asked:
    """What one client's host sent to one server's host without an answer."""

    refused: list[Conversation] = field(default_factory=list)
    refusals: list[Errors] = field(default_factory=list)
    datagrams: int = 0
    ports: set[int] = field(default_factory=set)


def find(case: Case) -> Iterator[Finding]:
    pairs: dict[tuple[Address, Address], _Asked] = {}
    for one in case.conversations:
        refusals = refused_requests(one)
        if one.requests is None or one.replies or one.strays or is_group(one.server.address):
            continue
        if not refusals and (one.requests.count > FEW or is_service(one.server.port)):
            continue  # may well be open
        asked = pairs.setdefault((one.client.address, one.server.address), _Asked())
        asked.datagrams += one.requests.count
        asked.ports.add(one.server.port)
        if refusals:
            asked.refused.append(one)
            asked.refusals += refusals
    for asked in pairs.values():
        if asked.refused and _is_limited(asked):
            yield _finding(case, asked)


def _is_limited(asked: _Asked) -> bool:
    count, span = total(asked.refusals), seconds(asked.refusals)
    if span is None or count < LEAST:
        return False
    pace = PER_SECOND[asked.refused[0].server.address.version]
    return (
        count <= BURST + 1 + pace * span
        and asked.datagrams >= count * FAR_MORE
        and asked.datagrams >= count + SPARE
    )


def _finding(case: Case, asked: _Asked) -> Finding:
    first, refusals = asked.refused[0], asked.refusals
    functions = FUNCTIONS[first.server.address.version]
    count, ports = total(refusals), len(asked.ports)
    where = f"{ports} ports of {first.server.address}" if ports > 1 else str(first.server)
    return Finding(
        code=CODE,
        severity="note",
        summary=f"{first.client.address} sent {asked.datagrams} datagrams to {where}, and {count} were "
        "refused, at the pace of the kernel's limit for ICMP errors: that the others were not proves "
        "nothing.",
        client=first.client,
        server=first.server,
        actual=None,
        process=None,
        count=count,
        first=first_ns(refusals),
        last=last_ns(refusals),
        why=[
            f"{functions.refuse} on {first.server.address}: each datagram to a closed port is to be "
            f"answered with port unreachable ({place(case, refusals[0].first.seen)}).",
            f"{functions.limit} on {first.server.address}: to one peer it lets a burst of {BURST} pass and, "
            f"by default, about one a second after that{_faster(first)}; the other errors are dropped "
            "without a word.",
        ],
        evidence=seen(first, refusals),
    )


def _faster(one: Conversation) -> str:
    return ", or more where the route's prefix is short" if one.server.address.version == 6 else ""
