"""A server answers, but from another port than the one that was asked.

## What it sees

A client asked one port; what came back has the same address, but another port, which the client never
asked. It is an error if the client's host refused the reply with ICMP port unreachable, a warning if the
client went on asking the old port as if nothing had come.

Silent: for protocols that answer from a new port by design, such as TFTP, where the client goes on with the
new port; where both sides use the same port (NTP, SIP: either may ask from another one) or the client a
well-known one; where the port asked answered as well; where the evidence shows the reply before it was
translated, too (`nat-moved-port`); and where the checksums say that addresses or ports may be wrong.

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

from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.refusals import distorted, refusals_of
from udpkit.diagnosis.services import OTHER_PORT
from udpkit.diagnosis.translations import before_translation
from udpkit.diagnosis.why import first_and_last, on_the_client
from udpkit.facts import Case, Conversation, Endpoint, Flow

CODE = "reply-from-other-port"


def find(case: Case) -> Iterator[Finding]:
    for conversation in case.conversations:
        if conversation.replies or conversation.server.port in OTHER_PORT:
            continue
        for actual, flow in conversation.strays.items():
            refused = bool(refusals_of(conversation, actual))
            if actual.address != conversation.server.address or distorted(conversation, actual):
                continue
            if before_translation(conversation, actual):
                continue  # `nat-moved-port` knows who moved it
            if refused or _asked_on(conversation, flow):
                yield _finding(case, conversation, actual, flow)


def _asked_on(conversation: Conversation, strays: Flow) -> bool:
    """Did the client go on asking after the stray, as if it had heard nothing? Two clocks would not tell."""
    requests = conversation.requests
    return (
        requests is not None
        and requests.last.seen.source == strays.first.seen.source
        and requests.last.order > strays.first.order
    )


def _finding(case: Case, conversation: Conversation, actual: Endpoint, strays: Flow) -> Finding:
    client, server = conversation.client, conversation.server
    refusals = refusals_of(conversation, actual)
    why = [
        f"The reply left the server's host from port {actual.port}: network address translation moved it "
        "(nf_nat_l4proto_unique_tuple(): the tuple it wanted was taken), or the server answers from another "
        "socket.",
        *on_the_client(case, conversation, actual),
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
        count=strays.count,
        first=strays.first.time_ns,
        last=strays.last.time_ns,
        why=why,
        evidence=[
            *first_and_last([conversation.requests])[:1],
            *first_and_last([strays, *refusals]),
        ],
    )
