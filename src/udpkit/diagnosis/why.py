"""Steps of an explanation that several rules share."""

from __future__ import annotations

from udpkit.diagnosis.conversations import Conversation
from udpkit.facts import Endpoint
from udpkit.kernel.functions import FUNCTIONS


def on_the_client(conversation: Conversation, actual: Endpoint) -> list[str]:
    """What becomes of an answer that came from `actual` instead of the server that was asked."""
    client, server = conversation.client, conversation.server
    functions = FUNCTIONS[client.address.version]
    if refusals := conversation.refusals_of(actual):
        return [
            f"{functions.lookup} on the client: no socket takes a datagram from {actual} to port "
            f"{client.port}; the one that asked is connected to {server}.",
            f"{functions.refuse} on the client: nobody to deliver to, so it answers port unreachable "
            f"({refusals[0].seen}).",
            f"{functions.hear} on the server: the error goes to the socket that sent the reply, if it is "
            "connected (ECONNREFUSED at its next call); an unconnected one never hears of it.",
        ]
    return [
        f"{functions.lookup} on the client: nothing shows a refusal. A socket that is not connected takes "
        f"the datagram, and recvfrom() says {actual}, which the program never asked; a connected one does "
        "not."
    ]
