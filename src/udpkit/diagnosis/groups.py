"""Answers to what a group of hosts was asked, refused by the very client that had asked.

Theory of operation. A member of the group answers from an address of its own: nobody can send from a
multicast or broadcast address. A client that called connect() has fixed the group's address as its peer, so
its kernel finds no socket for any answer. One that took the first answer and closed its socket refuses the
others as well; so all answers must have been refused, and soon, unless a socket table shows it connected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udpkit.diagnosis.errors import total
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.refusals import is_refusal
from udpkit.diagnosis.services import is_group
from udpkit.diagnosis.why import first_and_last, place
from udpkit.facts import Case, Conversation, Errors, SocketEntry
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.lookup import plain

CODE = "reply-from-other-address"
SOON_NS = 1_000_000_000
"""Who waits for answers at all does so for longer."""


def refused_answers(case: Case) -> Iterator[Finding]:
    """One finding for each client, group and member whose answers the client's host refused."""
    for one in case.conversations:
        if not is_group(one.server.address) or not one.requests:
            continue
        refusals = [each for each in one.about_replies() if is_refusal(each)]
        socket = _connected(case, one) if refusals else None
        if socket or (refusals and _all_at_once(one, refusals)):
            for each in refusals:
                yield _finding(case, one, each, socket, certain=bool(socket) or _asked_on(one, refusals))


def _connected(case: Case, one: Conversation) -> SocketEntry | None:
    """The client's socket, where a table shows it connected to the group."""
    for table in case.tables:
        for entry in table.entries:
            if entry.peer and (plain(entry.local), plain(entry.peer)) == (one.client, one.server):
                return entry
    return None


def _all_at_once(one: Conversation, refusals: Sequence[Errors]) -> bool:
    """No answer was taken, and the first came while anybody would still wait."""
    requests, replies = one.requests, one.replies
    if not requests or not replies or total(refusals) < replies.count:
        return False
    asked, answered = requests.first, replies.first
    if asked.time_ns is None or answered.time_ns is None:
        return True
    return answered.time_ns - asked.time_ns <= SOON_NS


def _asked_on(one: Conversation, refusals: Sequence[Errors]) -> bool:
    """The client's socket was still there after a refusal. Two clocks would not tell."""
    refused, requests = refusals[0].first, one.requests
    return (
        requests is not None
        and requests.last.seen.source == refused.seen.source
        and requests.last.order > refused.order
    )


def _finding(
    case: Case, one: Conversation, refusals: Errors, socket: SocketEntry | None, *, certain: bool
) -> Finding:
    client, server, actual = one.client, one.server, refusals.error.quoted_source
    functions = FUNCTIONS[client.address.version]
    kind = "multicast" if server.address.is_multicast else "broadcast"
    or_gone = "" if certain else ", or had closed its socket"
    return Finding(
        code=CODE,
        severity="error" if certain else "warning",
        summary=f"{client} asked {server}, a {kind} address; the reply came from {actual}, and "
        f"{client.address} refused it, since it is connected to {server.address}{or_gone}.",
        client=client,
        server=server,
        actual=actual,
        process=socket.process if socket else None,
        count=refusals.count,
        first=refusals.first.time_ns,
        last=refusals.last.time_ns,
        why=[
            f"{functions.route} on the server: nobody can answer from a {kind} address, so the reply left "
            f"from an address of the server's own, {actual.address}, as it must.",
            f"{functions.connect} on the client: connect() fixed {server} as the peer of its socket"
            + (f" ({socket.seen})." if socket else "; a socket that is not connected takes the reply."),
            f"{functions.lookup} on the client: no socket takes a datagram from {actual}: it compares the "
            f"sender with the peer, {server}.",
            f"{functions.refuse} on the client: nobody to deliver to, so it answers port unreachable "
            f"({place(case, refusals.first.seen)}).",
        ],
        evidence=[
            *first_and_last([one.requests])[:1],
            *first_and_last([one.replies])[:1],
            *first_and_last([refusals]),
            *([socket.seen] if socket else []),
        ],
    )
