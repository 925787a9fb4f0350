"""Answers that go around the NAT which the client had asked: hairpin NAT.

Theory of operation. A router translates the destination of a request and sends it on to a server that has a
shorter way back to the client than through the router: both are on one link. Its answer comes with its own
address, since nobody translates it back, and a client that is connected to the router's address refuses it.
With captures of both sides the request is seen twice, on one before and on the other after its translation.
"""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.errors import refused_replies, total
from udpkit.diagnosis.translations import is_the_same
from udpkit.facts import Case, Conversation, Endpoint, Flow
from udpkit.kernel.functions import FUNCTIONS

MOST = 64
"""Conversations of one client that are compared."""


def answered_around(case: Case) -> Iterator[tuple[Conversation, Conversation, Flow]]:
    """What a client asked and got no answer to; the same requests as the server got them; and the answers to
    these, all of which the client's host refused."""
    unanswered: dict[Endpoint, list[Conversation]] = {}
    for one in case.conversations:
        if one.requests and not (one.replies or one.strays or one.errors):
            unanswered.setdefault(one.client, []).append(one)
    for behind in case.conversations:
        refusals = refused_replies(behind)
        if refusals and behind.replies and total(refusals) >= behind.replies.count:
            same = [one for one in unanswered.get(behind.client, [])[:MOST] if _was_translated(one, behind)]
            if len(same) == 1:
                yield same[0], behind, behind.replies


def _was_translated(asked: Conversation, behind: Conversation) -> bool:
    """Only the destination differs, and each was captured elsewhere: the client did not send both itself."""
    before, after = asked.requests, behind.requests
    return (
        before is not None
        and after is not None
        and asked.server.address != behind.server.address
        and asked.client.port != asked.server.port
        and before.first.seen.source != after.first.seen.source
        and is_the_same(before, after)
    )


def on_the_way(asked: Conversation, behind: Endpoint) -> list[str]:
    """How the answer came by the server's address."""
    functions = FUNCTIONS[asked.client.address.version]
    return [
        f"nf_nat_inet_fn() on {asked.server.address}, or a router before it: a rule (DNAT) sent what was for "
        f"{asked.server} on to {behind}, and left {asked.client} as its sender.",
        f"{functions.route} on the server: it has a way of its own to {asked.client.address}, so the reply "
        f"does not come by the host that would have translated {behind.address} back.",
    ]
