"""What the same datagram was before and after network address translation, where the evidence shows both."""

from __future__ import annotations

from udpkit.diagnosis.errors import of_kind
from udpkit.facts import Conversation, Endpoint, Errors, Flow, Reference
from udpkit.kernel.icmp import PORT_UNREACHABLE

TOGETHER_NS = 100_000_000


def before_translation(one: Conversation, moved: Endpoint) -> tuple[Endpoint, Reference] | None:
    """The source that a stray from another port had before it was translated, and where that was seen."""
    flow = one.strays[moved]
    if moved.address != one.server.address:
        return None
    for source, other in one.strays.items():
        if _is_elsewhere(one, source) and is_the_same(other, flow):
            return source, other.first.seen
    for each in refusals_by_client(one):
        quoted = each.error.quoted_source
        if _is_elsewhere(one, quoted) and quoted not in one.strays and each.first.order > flow.first.order:
            return quoted, each.first.seen
    return None


def _is_elsewhere(one: Conversation, source: Endpoint) -> bool:
    return source.port == one.server.port and source.address != one.server.address


def is_the_same(one: Flow, other: Flow) -> bool:
    """As many, as long and at the same time."""
    times = one.first.time_ns, other.first.time_ns
    return (
        (one.count, one.largest) == (other.count, other.largest)
        and times[0] is not None
        and times[1] is not None
        and abs(times[0] - times[1]) <= TOGETHER_NS
    )


def refusals_by_client(one: Conversation) -> list[Errors]:
    about = of_kind(one.about_replies(), PORT_UNREACHABLE)
    return [each for each in about if each.error.sender == one.client.address]
