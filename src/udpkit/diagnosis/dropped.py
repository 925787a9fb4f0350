"""What the rules about drops share: the kernel said which datagrams it dropped, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from udpkit.diagnosis.finding import Finding
from udpkit.facts import Address, Case, Conversation, Drops, Endpoint, Errors

BY_FIREWALL = "NETFILTER_DROP"
"""include/net/dropreason-core.h"""
APART_NS = 10**9
"""What is said of a drop is said within this time of it."""

Rejections = Mapping[tuple[Address, Endpoint], tuple[int, int, int]]
"""What the sender was told, as a key of `kernel.icmp.KINDS`, by its address and the destination."""


def of_reason(case: Case, reason: str) -> Iterator[Drops]:
    return (one for one in case.drops if one.reason == reason)


def rejections(case: Case) -> Rejections:
    """Whose datagrams a firewall here drops but not without a word: by REJECT.

    The error comes before the drop. The kernel limits how many it sends, so it counts for all ports of the
    sender's. Where the kernel does not tell what it sends, an error that was captured around then does.
    """
    dropped = list(of_reason(case, BY_FIREWALL))
    told: dict[tuple[Address, Endpoint], tuple[int, int, int]] = {
        _ends(one): (one.source.address.version, *one.icmp) for one in dropped if one.icmp
    }
    if len(told) < len(dropped):
        captured = {
            (errors.error.quoted_source, errors.error.quoted_destination): errors
            for one in case.conversations
            for errors in one.errors
        }
        for one in dropped:
            errors = captured.get((one.source, one.destination))
            if errors and _around(errors, one):
                told.setdefault(_ends(one), errors.error.kind)
    return told


def is_rejected(one: Conversation, told: Rejections) -> bool:
    """Its requests are."""
    return (one.client.address, one.server) in told


def rejection(one: Drops, told: Rejections) -> tuple[int, int, int] | None:
    return told.get(_ends(one))


def _ends(one: Drops) -> tuple[Address, Endpoint]:
    return one.source.address, one.destination


def _around(errors: Errors, drops: Drops) -> bool:
    times = errors.first.time_ns, errors.last.time_ns, drops.first.time_ns, drops.last.time_ns
    first_error, last_error, first_drop, last_drop = (time or 0 for time in times)
    return first_error - APART_NS <= last_drop and first_drop <= last_error + APART_NS


def finding(code: str, one: Drops, summary: str, why: Sequence[str]) -> Finding:
    """An error: the kernel itself has told it. Of answers, client and server change places."""
    client, server = (one.destination, one.source) if one.answers else (one.source, one.destination)
    return Finding(
        code=code,
        severity="error",
        summary=summary,
        client=client,
        server=server,
        actual=None,
        process=one.process,
        count=one.count,
        first=one.first.time_ns,
        last=one.last.time_ns,
        why=why,
        evidence=[one.first.seen, one.last.seen] if one.count > 1 else [one.first.seen],
    )


def datagrams(one: Drops) -> str:
    """`3 datagrams from 192.0.2.1:40000 to 192.0.2.2:53`."""
    number = "a datagram" if one.count == 1 else f"{one.count} datagrams"
    return f"{number} from {one.source} to {one.destination}"


def place(one: Drops) -> str:
    """The kernel's function, which is an address where its names are hidden."""
    return one.where if one.where.startswith("0x") else f"{one.where}()"
