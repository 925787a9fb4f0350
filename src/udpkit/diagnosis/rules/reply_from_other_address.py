"""A server answers, but from another address than the one that was asked.

## What it sees

A client asked one address; what came back has the port that was asked, but the address of another
interface of the server. The server never answered from the right address, and the client never asked the
other one. It is an error if the client's host refused the reply with ICMP port unreachable, a warning if
no refusal was seen: an unconnected client receives such a reply, with the wrong sender, unless its firewall
drops it. A log of strace or a
socket table of the server adds the program, and how its calls left the source to the route.

Where NAT sent the request on to a server that answers the client directly, around the NAT (hairpin), this
takes a capture of each side of the translation: the request that got no answer, and the same request as the
server got it, whose answers the client's host refused, all of them. It is an error, then.

Where a multicast or broadcast address was asked, an answer comes from an address of whoever answers, as it
must, and is found only if the client's host refused it: an error where a socket table shows the client
connected to the group, or where it went on asking although all answers were refused; a warning where all were
refused, the first within a second of the request, since a client may as well have closed its socket. The
remedy is in the client: it must not connect() to a group.

Silent: where both sides use the same port (NTP, SIP: any peer may speak first) or the client a well-known
one, where the address asked answered as well, where it is a loopback address that another host asked (MPLS
ping), where the client went on to talk to the other address, and where a client that asked a group took any
of its answers.

Silent, too, where the checksums of the requests or of the reply say that addresses or ports may be wrong.

## Why it happens

A socket bound to 0.0.0.0 or :: has no source address of its own, so the kernel takes the one that the route
to the client prefers. On a host with several addresses, such as one with a docker bridge, that need not be
the one that was asked. The client's socket is connected to the address it asked: its kernel finds no socket
for the reply and refuses it. TCP does not have the fault, since an accepted connection keeps its addresses.
Neither netfilter nor conntrack takes part.

But a server behind a NAT, on one link with the client, answers by its own short way: nobody translates its
address back. And from a multicast or broadcast address nobody can answer, so a client that is connected to
one hears nobody.

## Example

    172.17.0.3:38908 > 172.16.13.13:56789 UDP, 6 bytes
    172.17.0.1:56789 > 172.17.0.3:38908 UDP, 6 bytes
    172.17.0.3 > 172.17.0.1 ICMP port unreachable
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.groups import CODE, refused_answers
from udpkit.diagnosis.hairpin import answered_around, on_the_way
from udpkit.diagnosis.listeners import takers
from udpkit.diagnosis.refusals import distorted, refusals_of
from udpkit.diagnosis.traced_answers import BareAnswers, bare_answers, without_source
from udpkit.diagnosis.why import first_and_last, on_the_client
from udpkit.facts import Case, Conversation, Endpoint, Flow, SocketEntry
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.lookup import plain

__all__ = ["CODE", "find"]


def find(case: Case) -> Iterator[Finding]:
    yield from refused_answers(case)
    traced = {(one.client, one.server.port): one for one in bare_answers(case)}
    for unanswered, behind, replies in answered_around(case):
        whole = replace(unanswered, strays={behind.server: replies}, errors=behind.errors)
        calls = traced.get((behind.client, behind.server.port))
        yield _finding(case, whole, behind.server, calls, translated=behind.requests)
    for conversation in case.conversations:
        asked, client = conversation.server.address, conversation.client.address
        if conversation.replies or (asked.is_loopback and not client.is_loopback):
            continue  # MPLS ping asks 127.0.0.0/8 of other hosts, whose answers cannot come from there
        for actual in conversation.strays:
            if actual.port == conversation.server.port and not distorted(conversation, actual):
                calls = traced.get((conversation.client, actual.port))
                yield _finding(case, conversation, actual, calls)


def _finding(
    case: Case,
    one: Conversation,
    actual: Endpoint,
    calls: BareAnswers | None,
    *,
    translated: Flow | None = None,
) -> Finding:
    """`translated`: the same requests, as the server behind a NAT saw them."""
    client, flow, refusals = one.client, one.strays[actual], refusals_of(one, actual)
    sender = _sender(case, actual, client)
    outcome = f"and {client.address} refused it" if refusals else "which it never asked"
    return Finding(
        code=CODE,
        severity="error" if refusals else "warning",
        summary=f"{client} asked {one.server}; the reply came from {actual}, {outcome}.",
        client=client,
        server=one.server,
        actual=actual,
        process=(sender and sender.process) or (calls and calls.socket.process) or None,
        count=flow.count,
        first=flow.first.time_ns,
        last=flow.last.time_ns,
        why=[
            *(on_the_way(one, actual) if translated else _on_the_server(case, one, actual, sender, calls)),
            *on_the_client(case, one, actual),
        ],
        evidence=[
            *first_and_last([one.requests])[:1],
            *([translated.first.seen] if translated else []),
            *first_and_last([flow, *refusals]),
            *([sender.seen] if sender else []),
            *(calls.evidence if calls else []),
        ],
        listener=calls.socket.bound if calls else _listener(case, one),
        translated=translated is not None,
    )


def _sender(case: Case, actual: Endpoint, client: Endpoint) -> SocketEntry | None:
    """The server's socket, where a table shows it connected to the client."""
    for table in case.tables:
        for entry in table.entries:
            if entry.peer and (plain(entry.local), plain(entry.peer)) == (actual, client):
                return entry
    return None


def _listener(case: Case, conversation: Conversation) -> Endpoint | None:
    """Where the server waits, if a table shows it on all addresses."""
    waiting = (entry.local for _, entry in takers(case, conversation))
    return next((local for local in waiting if local.address.is_unspecified), None)


def _on_the_server(
    case: Case, one: Conversation, actual: Endpoint, sender: SocketEntry | None, calls: BareAnswers | None
) -> list[str]:
    """How the reply got its source, as a table or a log of strace shows it; else what must have been."""
    client, asked = one.client, one.server.address
    functions = FUNCTIONS[client.address.version]
    if sender:
        return [
            f"{functions.connect} on the server: connect() to {client} stored the address that "
            f"{functions.route} prefers on the way there, {actual.address}, in the socket; every reply has "
            "left from it since."
        ]
    if calls:
        return without_source(case, calls, prefers=str(actual.address))
    took = (
        f"{functions.route} on the server: the socket has no source address of its own, so the reply "
        f"took the one that the route to {client.address} prefers: {actual.address}"
    )
    if one.about_requests():  # the host that was asked speaks for itself
        return [f"{took}."]
    return [
        f"{took}. Or, if that is another host than {asked}: NAT sent the request on to it, and it answered "
        "the client directly, around the NAT; a capture at the server tells."
    ]
