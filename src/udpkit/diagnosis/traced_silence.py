"""Servers that did not answer a program in time, as its system calls show."""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.errors import known
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.services import ANSWERING, is_group
from udpkit.diagnosis.traces import connected, sent, taken
from udpkit.diagnosis.why import place
from udpkit.facts import Calls, Case, Endpoint, TracedSocket
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.options import TELLS_ERRORS

CODE = "no-answer"
ENOUGH = 3
"""Requests in vain that are no coincidence; of fewer the one may have been lost."""


def waited_in_vain(case: Case) -> Iterator[Finding]:
    """One finding for each peer that a socket asked, where poll() or select() then waited a second in vain.

    Only for protocols in which servers answer, and where nothing came from that peer in the whole log, nor an
    error. A note for fewer than three requests.
    """
    heard = {call.peer for socket in case.traces for call in taken(socket)}
    for socket in case.traces:
        waits = [one for one in socket.calls if one.errno == "ETIMEDOUT" and one.kind == "receive"]
        if not waits or taken(socket) or any(_is_error(one) for one in socket.calls):
            continue
        asked: dict[Endpoint, list[Calls]] = {}
        for call in sent(socket):
            if call.peer and call.peer.port in ANSWERING and not is_group(call.peer.address):
                asked.setdefault(call.peer, []).append(call)
        for peer, calls in asked.items():
            wait = next((one for one in waits if one.last.order > calls[0].first.order), None)
            if wait and peer not in heard:
                yield _finding(case, socket, peer, calls, wait)


def _is_error(call: Calls) -> bool:
    return call.errno not in (None, "EAGAIN", "ETIMEDOUT", "EINTR", "EINPROGRESS")


def _finding(case: Case, socket: TracedSocket, peer: Endpoint, calls: list[Calls], wait: Calls) -> Finding:
    functions = FUNCTIONS[peer.address.version]
    count = sum(one.count for one in calls)
    times = "once" if count == 1 else f"{count} times"
    told = connected(socket) or any(socket.options.get(name) for name in TELLS_ERRORS)
    why = [
        f"{functions.receive} on the client: nothing had come for the socket when {wait.name}() gave up "
        f"({place(case, wait.last.seen)}).",
        f"{functions.hear} on the client: "
        + (
            "its next call would have failed if the datagram had been refused; it was dropped without a "
            "word, or the answer was, or came from another address, or later."
            if told
            else "an ICMP error about a datagram of an unconnected socket without IP_RECVERR is told to "
            "nobody, so it may as well have been refused."
        ),
    ]
    return Finding(
        code=CODE,
        severity="warning" if count >= ENOUGH else "note",
        summary=f"{socket.process or 'The program'} asked {known(peer)} {times} and waited in vain, though "
        f"{ANSWERING[peer.port]} answers.",
        client=None,
        server=peer,
        actual=None,
        process=socket.process or None,
        count=count,
        first=calls[0].first.time_ns,
        last=max(calls, key=lambda one: one.last.order).last.time_ns,
        why=why,
        evidence=[calls[0].first.seen, wait.last.seen],
    )
