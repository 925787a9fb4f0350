"""Servers that leave the source of their answers to the routes, as their system calls show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.services import ASKED_AS_GROUP
from udpkit.diagnosis.traces import askers, bound_by, connected, is_wildcard, may_be_client, sent
from udpkit.diagnosis.why import place
from udpkit.facts import Calls, Case, Endpoint, Reference, TracedSocket
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.options import TELLS_ADDRESS

CODE = "wildcard-without-pktinfo"

CHOOSES_ROUTE = ("SO_BINDTODEVICE", "IP_UNICAST_IF", "IPV6_UNICAST_IF", "IPV6_PKTINFO")
"""Options of a program that knows on which interface, or from which address, it answers."""
MOST_CLIENTS = 8
"""Of one socket, with findings of their own."""
JOINS_GROUP = ("_MEMBERSHIP", "_JOIN_GROUP", "_JOIN_SOURCE_GROUP")


@dataclass(frozen=True, slots=True)
class BareAnswers:
    """What a wildcard socket answered a client that had asked it, without a source address."""

    socket: TracedSocket
    client: Endpoint
    asked: Calls
    calls: Sequence[Calls]

    @property
    def server(self) -> Endpoint:
        return self.socket.bound or Endpoint(self.client.address, 0)

    @property
    def evidence(self) -> list[Reference]:
        bind = bound_by(self.socket)
        bound = bind.first if bind else self.socket.first
        return [bound.seen, self.asked.first.seen, self.calls[0].first.seen]

    @property
    def is_dual_stack(self) -> bool:
        return self.server.address.version == 6 and self.client.address.version == 4


def bare_answers(case: Case) -> Iterator[BareAnswers]:
    """Those of each socket and client."""
    for socket in filter(_is_exposed, case.traces):
        sent_to: dict[Endpoint | None, list[Calls]] = defaultdict(list)
        for call in sent(socket):
            sent_to[call.peer].append(call)
        for client, asked in askers(socket):
            if client.port in ASKED_AS_GROUP or client.address.is_link_local or may_be_client(socket, client):
                continue
            if answers := [one for one in sent_to[client] if _is_bare(one, asked)]:
                yield BareAnswers(socket, client, asked, answers)


def answered_without_source(case: Case) -> Iterator[Finding]:
    """One finding for each client that a wildcard socket answered and did not say from which address.

    Of many clients, one finding for the first of them. Where a capture shows that such an answer came from
    an address that was not asked, that is told instead (`reply-from-other-address`).
    """
    seen_wrong = {
        (one.client, actual.port) for one in case.conversations if not one.replies for actual in one.strays
    }
    by_socket: dict[int, list[BareAnswers]] = defaultdict(list)
    for one in bare_answers(case):
        if (one.client, one.server.port) not in seen_wrong:
            by_socket[id(one.socket)].append(one)
    for several in by_socket.values():
        many = len(several) > MOST_CLIENTS
        for one in several[:1] if many else several:
            yield _finding(case, one, others=len(several) - 1 if many else 0)


def _is_exposed(socket: TracedSocket) -> bool:
    return (
        is_wildcard(socket)
        and not connected(socket)
        and (socket.bound is None or socket.bound.port not in ASKED_AS_GROUP)
        and not any(socket.options.get(name) for name in CHOOSES_ROUTE)
        and not any(name.endswith(JOINS_GROUP) for name in socket.options)
        and not any(one.peer and _is_group(one.peer) for one in sent(socket))
    )


def _is_group(peer: Endpoint) -> bool:
    return peer.address.is_multicast or str(peer.address) == "255.255.255.255"


def _is_bare(call: Calls, asked: Calls) -> bool:
    """It answered, and the log shows that no control message chose a source."""
    return call.pktinfo is False and call.local is None and call.last.order > asked.first.order


def _finding(case: Case, one: BareAnswers, *, others: int) -> Finding:
    client, answer = one.client, one.calls[0]
    dual = one.is_dual_stack
    what, routed = ("dual-stack socket", "routed IPv4 address") if dual else ("socket", "routed address")
    more = f" and {others} others" if others else ""
    of = f" of {one.socket.process}" if one.socket.process else ""
    moments = [call.first.time_ns for call in one.calls] + [call.last.time_ns for call in one.calls]
    times = [moment for moment in moments if moment is not None]
    functions = FUNCTIONS[client.address.version]
    return Finding(
        code=CODE,
        severity="warning",
        summary=f"The {what} on {one.server}{of} answers {client}{more} with {answer.name}() and does not "
        f"say from which address: on a host with several the answer leaves from the {routed}, "
        "which need not be the one that was asked.",
        client=client,
        server=one.server,
        actual=None,
        process=one.socket.process or None,
        count=sum(call.count for call in one.calls),
        first=min(times, default=None),
        last=max(times, default=None),
        why=[
            *without_source(case, one),
            f"{functions.lookup} on the client: where that is another address than the one that was asked, a "
            "connected socket does not take the answer, and its host refuses it with port unreachable.",
        ],
        evidence=one.evidence,
    )


def without_source(case: Case, one: BareAnswers, prefers: str = "") -> list[str]:
    """The steps on the server up to the answer's source; `prefers` is that, if it is known."""
    client, server, asked, answer = one.client, one.server, one.asked, one.calls[0]
    functions = FUNCTIONS[client.address.version]
    recvmsg = FUNCTIONS[server.address.version].recvmsg  # the socket's, whatever the datagram is
    option = "IPV6_RECVPKTINFO" if server.address.version == 6 else "IP_PKTINFO"
    bind = bound_by(one.socket)
    bound = (
        f"bind() to {server} ({place(case, bind.first.seen)})" if bind else f"the socket is bound to {server}"
    )
    received = f"{asked.name}() ({place(case, asked.first.seen)})"
    told = asked.pktinfo or any(
        one.socket.options.get(name) for name in TELLS_ADDRESS[client.address.version]
    )
    four = ", and without IPV6_V6ONLY those of IPv4 too" if one.is_dual_stack else ""
    return [
        f"{functions.lookup} on the server: {bound}, so it takes what comes to every address{four}.",
        f"{recvmsg} on the server: {received} was told which address {client} asked, but the "
        "answer does not use it."
        if told
        else f"{recvmsg} on the server: {received} is told who asks, {client}, and not which "
        f"address was asked: the program did not set {option}, or did not read the control message.",
        f"{functions.route} on the server: {answer.name}() ({place(case, answer.first.seen)}) brings no "
        "control message with a source, and the socket has none, so the answer takes the one that the route "
        f"to {client.address} prefers{f': {prefers}' if prefers else ''}.",
    ]
