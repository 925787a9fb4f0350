"""A server answers, but from another port than the one that was asked.

## What it sees

A client asked one port; what came back has the same address, but another port, which the client never
asked. It is an error if the client's host refused the reply with ICMP port unreachable, a warning if the
client went on asking the old port as if nothing had come.

Silent: for protocols that answer from a new port by design, such as TFTP, where the client goes on with the
new port; where both sides use the same port (NTP, SIP: either may ask from another one) or the client a
well-known one; and where the port asked answered as well.

## Why it happens

Network address translation moved the port. A reply that is rewritten to the address which was asked wants
the very tuple that the conntrack entry of the request holds already, so the translation takes another port.
Or the server answers from a second socket.

## Example

    172.17.0.3:38908 > 172.16.13.13:56789 UDP, 6 bytes
    172.16.13.13:1024 > 172.17.0.3:38908 UDP, 6 bytes
    172.17.0.3 > 172.16.13.13 ICMP port unreachable
"""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.conversations import Conversation
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.why import on_the_client
from udpkit.facts import Case, Datagram, Endpoint

CODE = "reply-from-other-port"
TFTP = 69
"""Answers from a new port by design; a refusal there only says that the client had gone."""


def find(_case: Case, conversations: list[Conversation]) -> Iterator[Finding]:
    for conversation in conversations:
        if conversation.replies or conversation.server.port == TFTP:
            continue
        for actual, strays in conversation.strays.items():
            refused = bool(conversation.refusals_of(actual))
            if actual.address != conversation.server.address:
                continue
            if refused or _asked_on(conversation, strays[0]):
                yield _finding(conversation, actual, strays)


def _asked_on(conversation: Conversation, stray: Datagram) -> bool:
    """Did the client go on asking after the stray, as if it had heard nothing?"""
    return conversation.requests[-1].time_ns > stray.time_ns


def _finding(conversation: Conversation, actual: Endpoint, strays: list[Datagram]) -> Finding:
    client, server = conversation.client, conversation.server
    refusals = conversation.refusals_of(actual)
    why = [
        f"The reply left the server's host from port {actual.port}: network address translation moved it "
        "(nf_nat_l4proto_unique_tuple(): the tuple it wanted was taken), or the server answers from another "
        "socket.",
        *on_the_client(conversation, actual),
    ]
    outcome = f"and {client.address} refused it" if refusals else "which it never asked"
    return Finding(
        code=CODE,
        severity="error" if refusals else "warning",
        summary=f"{client} asked {server}; the reply came from port {actual.port}, {outcome}.",
        client=client,
        server=server,
        actual=actual,
        process=None,
        count=len(strays),
        first=strays[0].time_ns,
        last=strays[-1].time_ns,
        why=why,
        evidence=[
            conversation.requests[0].seen,
            *(stray.seen for stray in strays),
            *(error.seen for error in refusals),
        ],
    )
