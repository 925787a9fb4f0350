"""Words that several rules share."""

from __future__ import annotations

from collections.abc import Iterable

from udpkit.diagnosis.refusals import refusals_of
from udpkit.facts import Case, Conversation, Endpoint, Errors, Flow, Reference
from udpkit.kernel.functions import FUNCTIONS

CAPTURES = ("pcap", "pcapng")
"""Kinds of sources whose messages are packets; those of the others are lines."""


def place(case: Case, seen: Reference) -> str:
    """`packet 3`, and of which source where several have packets (or lines): `packet 3 of a.pcap`."""
    numbered_alike = [
        source for source in case.sources if (source.kind in CAPTURES) == (seen.packet is not None)
    ]
    return f"{seen} of {case.sources[seen.source].path}" if len(numbered_alike) > 1 else str(seen)


def first_and_last(seen: Iterable[Flow | Errors | None]) -> list[Reference]:
    """Where the first and the last of each were seen, each place once."""
    moments = [moment for one in seen if one for moment in (one.first, one.last)]
    return list(dict.fromkeys(moment.seen for moment in moments))


def on_the_client(case: Case, conversation: Conversation, actual: Endpoint) -> list[str]:
    """What becomes of an answer that came from `actual` instead of the server that was asked."""
    client, server = conversation.client, conversation.server
    functions = FUNCTIONS[client.address.version]
    if refusals := refusals_of(conversation, actual):
        return [
            f"{functions.lookup} on the client: no socket takes a datagram from {actual} to port "
            f"{client.port}; the one that asked is connected to {server}.",
            f"{functions.refuse} on the client: nobody to deliver to, so it answers port unreachable "
            f"({place(case, refusals[0].first.seen)}).",
            f"{functions.hear} on the server: the error goes to the socket that sent the reply, if it is "
            "connected (ECONNREFUSED at its next call); an unconnected one hears of it only if it asked for "
            f"errors ({functions.asks}).",
        ]
    return [
        f"{functions.lookup} on the client: nothing shows a refusal. A socket that is not connected takes "
        f"the datagram, if no firewall of that host drops it before, and recvfrom() says {actual}, which the "
        "program never asked; a connected one does not."
    ]
