"""A host refuses a port that is open on another of its addresses.

## What it sees

A request that was refused with ICMP port unreachable by the address that was asked, while a socket waits on
the same port elsewhere on that host: a socket table shows it bound to another address or to IPv4 alone, or
a capture shows another address of the host answering on that port. It is an error where the table is
certainly the host's: it has the address that was asked, or `udpkit check` saw it there. A table of which
that is not known, as it has only wildcards and loopback, makes it a note beside `nobody-listens`.

Silent: where a socket takes the datagram, where the table is the client's own, and for another host's
sockets.

## Why it happens

A socket that is bound to an address takes only what was sent to it. Programs bind 127.0.0.1 by default, or
the one address that their configuration names; a socket of AF_INET takes no IPv6.

## Example

    10.0.0.9:40000 > 10.0.0.1:53 UDP, 28 bytes
    10.0.0.1 > 10.0.0.9 ICMP port unreachable
    table    127.0.0.1:53   unconnected
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udpkit.diagnosis.errors import finding, known, on_the_sender
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.listeners import addresses_of, connected_there, waits_elsewhere
from udpkit.diagnosis.refusals import refused_requests
from udpkit.diagnosis.services import reversed_ends
from udpkit.diagnosis.why import place
from udpkit.facts import Address, Case, Conversation, Endpoint, Errors, Reference
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.lookup import mismatch, plain

CODE = "listens-elsewhere"


def find(case: Case) -> Iterator[Finding]:
    answering = _answering(case)
    for one in case.conversations:
        refusals = refused_requests(one)
        if not refusals or one.replies or reversed_ends(one.client, one.server) or connected_there(case, one):
            continue
        if waiting := waits_elsewhere(case, one):
            entry, sure = waiting
            reason = mismatch(entry, one.client, one.server)
            holder = f"the socket of {entry.process}" if entry.process else "the one socket on that port"
            yield _finding(
                case,
                one,
                refusals,
                plain(entry.local),
                entry.process,
                f"{holder}: {reason}",
                entry.seen,
                sure,
            )
        elif elsewhere := _answers(case, one, answering):
            local, where = elsewhere
            yield _finding(
                case,
                one,
                refusals,
                local,
                None,
                f"its sockets there are bound to {local.address}",
                where,
                True,
            )


def _answering(case: Case) -> dict[int, list[Conversation]]:
    """The conversations in which a server answers, by its port."""
    found: dict[int, list[Conversation]] = {}
    for one in case.conversations:
        if one.replies:
            found.setdefault(one.server.port, []).append(one)
    return found


def _answers(
    case: Case, refused: Conversation, answering: dict[int, list[Conversation]]
) -> tuple[Endpoint, Reference] | None:
    """Where another address of the same host answers on that port."""
    candidates = answering.get(refused.server.port, [])
    others = _other_addresses(case, refused.server.address) if candidates else set()
    found = (
        (one.server, one.replies.first.seen)
        for one in candidates
        if one.replies and one.server.address in others
    )
    return next(found, None)


def _other_addresses(case: Case, address: Address) -> set[Address]:
    known_hosts = [addresses_of(case, state.name) for state in case.hosts]
    known_hosts += [addresses_of(case, table.host, table) for table in case.tables]
    return {one for addresses in known_hosts if address in addresses for one in addresses} - {address}


def _finding(
    case: Case,
    one: Conversation,
    refusals: Sequence[Errors],
    actual: Endpoint,
    process: str | None,
    reason: str,
    where: Reference,
    sure: bool,
) -> Finding:
    functions = FUNCTIONS[one.server.address.version]
    doubt = "" if sure else ", if that socket table is of the host that was asked"
    return finding(
        code=CODE,
        severity="error" if sure else "note",
        summary=f"{known(one.client)} asked {one.server}, which refused it; the port is open on "
        f"{actual}{doubt}.",
        one=one,
        errors=refusals,
        actual=actual,
        process=process,
        why=[
            f"{functions.lookup} on {one.server.address}: no socket takes a datagram to {one.server}; "
            f"{reason} ({place(case, where)}).",
            f"{functions.refuse} on {one.server.address}: nobody to deliver to, so it answers port "
            f"unreachable ({place(case, refusals[0].first.seen)}).",
            on_the_sender(refusals[0].error),
        ],
        more=[where],
    )
