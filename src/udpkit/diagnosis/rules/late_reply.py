"""A reply found nobody any more: the client's socket was gone.

## What it sees

The server answered from the endpoint that was asked, and the client's host refused the reply with ICMP port
unreachable. The server's port is open: such an error quotes a reply, not a request. The client had given
up, or took the first of several answers. Where there was one request and one reply, the summary says how
long the reply took. It is always a note: only the client knows whether it had missed something.

In a log of strace: a call of a server's failed with ECONNREFUSED or the like, and the datagram that the error
is about was an answer.

Silent: where the client goes on to ask others from the same port, or asked one that did not answer, so that
its socket may merely be connected to them (an answer that goes around the NAT which was asked is refused so);
where it had got an answer for each request and the refused ones came in excess (repeated by the server or by
the network, a stream that goes on for a moment after a hang-up), and for what came from another endpoint
(`reply-from-other-address`, `reply-from-other-port`) or was refused by a router (`prohibited`).

## Why it happens

A resolver waits for seconds, then closes its socket; the answer comes after that. Or a program sends and
ends, such as `echo x | nc -u -w0`. A server that sees many of these is slow, or far away, or behind a slow
one.

## Example

    10.0.0.9:40000 > 10.0.0.1:53 UDP, 28 bytes
    10.0.0.1:53 > 10.0.0.9:40000 UDP, 44 bytes   6 seconds later
    10.0.0.9 > 10.0.0.1 ICMP port unreachable
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udpkit.diagnosis.errors import (
    first_ns,
    known,
    last_ns,
    on_the_sender,
    refused_replies,
    seen,
    total,
)
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.refusals import refused_requests
from udpkit.diagnosis.services import is_group, is_service, reversed_ends
from udpkit.diagnosis.traced_errors import refused_calls
from udpkit.diagnosis.why import first_and_last, place
from udpkit.facts import Case, Conversation, Endpoint, Errors
from udpkit.kernel.functions import FUNCTIONS

CODE = "late-reply"
STREAM = 20
"""So many datagrams between ports of no known service: calls and games end with a few refusals."""


def find(case: Case) -> Iterator[Finding]:
    yield from refused_calls(case, CODE)
    asking = _asking(case)
    for one in case.conversations:
        if reversed_ends(one.client, one.server):
            client, server, refusals = one.server, one.client, refused_requests(one)
        else:
            client, server, refusals = one.client, one.server, refused_replies(one)
        if refusals and not is_group(server.address) and not _in_excess(one, refusals):
            gone = max(each.last.order for each in refusals)
            others = [(other, last) for other, last in asking.get(client, []) if other is not one]
            if not any(last > gone or not other.replies for other, last in others):
                yield _finding(case, one, client, server, refusals)


def _asking(case: Case) -> dict[Endpoint, list[tuple[Conversation, int]]]:
    """When each client last asked anybody: one that asks others has not gone, it is connected to them.

    One that waits for another's answer may be, too.
    """
    last: dict[Endpoint, list[tuple[Conversation, int]]] = {}
    for one in case.conversations:
        if one.requests:
            last.setdefault(one.client, []).append((one, one.requests.last.order))
    return last


def _in_excess(one: Conversation, refusals: Sequence[Errors]) -> bool:
    """Has the client got all it asked for, so that what was refused came on top?"""
    if not one.requests or not one.replies:
        return False
    accepted = one.replies.count - total(refusals)
    datagrams = one.requests.count + one.replies.count
    is_stream = not is_service(one.server.port) and datagrams >= STREAM
    return accepted >= one.requests.count or is_stream or _asked_again(one, accepted)


def _asked_again(one: Conversation, accepted: int) -> bool:
    """A question that was repeated before its first answer came needs no second one."""
    requests, replies = one.requests, one.replies
    return bool(accepted > 0 and requests and replies and requests.last.order < replies.first.order)


def _delay(one: Conversation) -> str:
    requests, replies = one.requests, one.replies
    if reversed_ends(one.client, one.server) or not requests:
        return "its question was not captured"
    if not replies:
        return "the reply itself was not captured"
    asked, answered = requests.first, replies.first
    one_clock = asked.seen.source == answered.seen.source
    if (
        requests.count > 1
        or replies.count > 1
        or not one_clock
        or asked.time_ns is None
        or answered.time_ns is None
    ):
        if requests.count == replies.count == 1:
            return "the only reply to its one request"
        answers = _number(replies.count, "reply", "replies")
        return f"of {answers} to {_number(requests.count, 'request', 'requests')}"
    return f"{(answered.time_ns - asked.time_ns) / 1e9:.3g} s after the request"


def _number(count: int, one: str, several: str) -> str:
    return f"one {one}" if count == 1 else f"{count} {several}"


def _finding(
    case: Case, one: Conversation, client: Endpoint, server: Endpoint, refusals: Sequence[Errors]
) -> Finding:
    functions = FUNCTIONS[client.address.version]
    return Finding(
        code=CODE,
        severity="note",
        summary=f"{server} answered {known(client)}, which had closed its socket and refused the reply: "
        f"{_delay(one)}.",
        client=client,
        server=server,
        actual=None,
        process=None,
        count=total(refusals),
        first=first_ns(refusals),
        last=last_ns(refusals),
        why=[
            f"{functions.lookup} on {client.address}: no socket takes a datagram from {server} to "
            f"{known(client)} any more; the one that asked was closed, or has another local port by now, or "
            "is connected to an address that NAT translated to this one.",
            f"{functions.refuse} on {client.address}: nobody to deliver to, so it answers port unreachable "
            f"({place(case, refusals[0].first.seen)}).",
            on_the_sender(refusals[0].error),
        ],
        evidence=[*seen(one, refusals), *first_and_last([one.replies])[:1]],
    )
