"""Whom else a server served that refused a client: a port that is open for one is not simply closed.

Theory of operation. Of a listener that was connected to its first peer, others are refused while that peer is
answered. A server that restarts, one of several behind an address, and a firewall's REJECT look alike; but
while a server is away its other clients are refused as well. What was seen by another clock tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from udpkit.diagnosis.dropped import is_rejected, rejections
from udpkit.diagnosis.listeners import on_its_port, tables_of_server
from udpkit.diagnosis.refusals import refused_requests
from udpkit.diagnosis.services import is_group, is_service, reversed_ends
from udpkit.diagnosis.shapes import shapes
from udpkit.facts import Case, Conversation, Endpoint, Errors, Flow


@dataclass(frozen=True, slots=True)
class Beside:
    """Another client of a server that refused one.

    `flow` is what the server answered it, or what it sent without being refused. It began `before` the first
    refusal, went on `after` that, or began only `after_all` of them. `alone`: no third one was answered.
    """

    peer: Endpoint
    flow: Flow
    answered: bool
    alone: bool
    before: bool
    after: bool
    after_all: bool


MOST = 64
"""Clients of one server that are looked at, of those that it did not answer."""
Refused = Mapping[tuple[Endpoint, Endpoint], Beside]
"""By client and server."""


def others_served(case: Case) -> Refused:
    """For the conversations that were refused and never answered."""
    unrefused: dict[Endpoint, list[tuple[Endpoint, Flow]]] = {}
    refused_too: set[tuple[Endpoint, Endpoint]] = set()
    asking = [one for one in case.conversations if one.errors and not one.replies and refused_requests(one)]
    servers = {one.server for one in asking}
    for one in case.conversations if servers else ():
        if one.server in servers and one.errors:
            refused_too.add((one.client, one.server))
        elif one.server in servers and one.requests and not one.replies:
            waiting = unrefused.setdefault(one.server, [])
            if len(waiting) < MOST:
                waiting.append((one.client, one.requests))
    found: dict[tuple[Endpoint, Endpoint], Beside] = {}
    for one in asking:
        answered = list(one.also_answered.items())
        others = answered or unrefused.get(one.server, [])
        refusals = refused_requests(one)
        first, last = min(each.first.order for each in refusals), max(each.last.order for each in refusals)
        for peer, flow in others:
            if (peer, one.server) in refused_too or not _one_clock(flow, refusals):
                continue
            beside = Beside(
                peer,
                flow,
                answered=bool(answered),
                alone=len(others) == 1,
                before=flow.first.order < first,
                after=flow.last.order > first,
                after_all=flow.first.order > last,
            )
            if answered or (beside.before and beside.after):
                found[one.client, one.server] = beside
                break
    return found


def _one_clock(flow: Flow, refusals: Sequence[Errors]) -> bool:
    moments = [flow.first, flow.last, *(each.first for each in refusals), *(each.last for each in refusals)]
    return len({moment.seen.source for moment in moments}) == 1


def locked_out(case: Case) -> Iterator[tuple[Conversation, Beside]]:
    """Clients that were refused while the only other one was answered, by no known service, where no table of
    the host tells who has the port."""
    served, seen_shapes, by_firewall = others_served(case), shapes(case), rejections(case)
    for one in case.conversations if served else ():
        beside = served.get((one.client, one.server))
        if (
            beside
            and beside.answered
            and beside.alone
            and beside.before
            and beside.after
            and not one.strays
            and not one.about_replies()
            and not is_group(one.server.address)
            and not is_service(one.server.port)
            and not reversed_ends(one.client, one.server)
            and one.client.port != one.server.port
            and not (seen_shapes.sweeps(one) or seen_shapes.among_peers(one))
            and not is_rejected(one, by_firewall)
            and not any(on_its_port(table, one) for table, _ in tables_of_server(case, one))
        ):
            yield one, beside
