"""ICMP port unreachable from the very host that a datagram was for: no socket of it took the datagram.

Another error, or one from a router or firewall on the way, is no refusal.
"""

from __future__ import annotations

from udpkit.facts import Conversation, Endpoint, Errors
from udpkit.kernel.icmp import PORT_UNREACHABLE


def is_refusal(errors: Errors) -> bool:
    error = errors.error
    return error.kind in PORT_UNREACHABLE and error.sender == error.quoted_destination.address


def refused_requests(conversation: Conversation) -> list[Errors]:
    return [one for one in conversation.about_requests() if is_refusal(one)]


def refusals_of(conversation: Conversation, stray: Endpoint) -> list[Errors]:
    """The client's refusals of what came from `stray`.

    One that quotes a source which was never seen is about it too: where addresses are translated, the
    datagram and the error about it are captured on different sides of the translation.
    """
    seen = {conversation.server, *conversation.strays} - {stray}
    return [
        one for one in conversation.about_replies() if is_refusal(one) and one.error.quoted_source not in seen
    ]


def distorted(conversation: Conversation, stray: Endpoint) -> bool:
    """Do the addresses and ports of the stray, or of all requests, not fit their checksums?

    A kernel drops such a datagram before it looks for a socket; what was refused came as it was seen.
    """
    flows = [conversation.requests, conversation.strays[stray]]
    return not refusals_of(conversation, stray) and any(
        flow is not None and flow.bad_checksums == flow.count for flow in flows
    )
