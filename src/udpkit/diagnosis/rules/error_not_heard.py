"""A client goes on sending, since its kernel does not tell it of the errors that come back.

## What it sees

ICMP errors about requests, no answer, and further requests from the same socket after them. Two kinds:

- errors that Linux takes for passing (host or net unreachable, a TTL that ran out) are told to no socket
  that did not ask for them with IP_RECVERR or IPV6_RECVERR, connected or not;
- port unreachable and prohibitions are told to a connected socket, at its next call, but to an unconnected
  one only if it asked for errors (IP_RECVERR, IPV6_RECVERR). After three of them, a client that goes on is an
  unconnected one that hears nothing, or one that hears and goes on by design. A capture does not tell which.

It is always a note beside what the errors themselves mean.

Silent: where answers came, where a trace shows that the program was told, for fewer than three errors, and
for a client that had less than a second to react.

## Why it happens

UDP has no connection that could fail, so the kernel has to guess which socket an error is for. It tells a
socket only if that named its peer with connect(), or asked for errors. Without either, a program waits for
its own time-out.

## Example

    10.0.0.9:40000 > 10.0.0.1:53 UDP, 28 bytes     and so on, each second
    10.0.0.1 > 10.0.0.9 ICMP port unreachable      and so on, after each
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from udpkit.diagnosis.errors import (
    finding,
    known,
    name,
    on_the_sender,
    total,
)
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.services import ONE_WAY, is_group, reversed_ends
from udpkit.diagnosis.shapes import Shapes, shapes
from udpkit.facts import Case, Conversation, Endpoint, Errors
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.icmp import KINDS, TOO_BIG

CODE = "error-not-heard"
ENOUGH = 3
"""A client that heard would have stopped by then, or goes on by design."""
TO_REACT_NS = 1_000_000_000
TOLD = {errno.errorcode[kind.errno] for kind in KINDS.values() if kind.errno is not None}
"""The names of the errors that ICMP can become."""


def find(case: Case) -> Iterator[Finding]:
    seen_shapes, told = shapes(case), _told(case)
    for one in case.conversations:
        errors = [each for each in one.about_requests() if _has_errno(each)]
        if total(errors) >= ENOUGH and one.server not in told and _goes_on(one, errors, seen_shapes):
            yield _finding(one, errors)


def _has_errno(each: Errors) -> bool:
    kind = KINDS.get(each.error.kind)
    return kind is not None and kind.errno is not None and each.error.kind not in TOO_BIG


def _told(case: Case) -> set[Endpoint]:
    """The peers of traced sockets whose programs got an error from a call."""
    return {
        call.peer
        for socket in case.traces
        if any(call.errno in TOLD for call in socket.calls)
        for call in socket.calls
        if call.peer
    }


def _goes_on(one: Conversation, errors: Sequence[Errors], seen_shapes: Shapes) -> bool:
    if one.requests is None or one.replies or one.strays or seen_shapes.sweeps(one):
        return False
    if is_group(one.server.address) or reversed_ends(one.client, one.server):
        return False
    first, last = min((each.first for each in errors), key=lambda moment: moment.order), one.requests.last
    if first.time_ns is not None and last.time_ns is not None and last.time_ns - first.time_ns < TO_REACT_NS:
        return False
    return one.requests.count > ENOUGH and last.order > first.order


def _finding(one: Conversation, errors: Sequence[Errors]) -> Finding:
    error = errors[0].error
    hard = KINDS[error.kind].hard
    functions = FUNCTIONS[one.client.address.version]
    sent = one.requests.count if one.requests else 0
    reading = (
        "either its socket is not connected and did not ask for errors, or its program hears and goes on by "
        "design"
        if hard
        else f"Linux tells it only if its socket asks for errors ({functions.asks})"
    )
    steps = [on_the_sender(error)]
    if hard:
        steps.append(
            f"{functions.connect} on {one.client.address}: a socket that was connected to {one.server} is "
            f"told; without connect() it takes {functions.asks} and a look into the error queue "
            "(MSG_ERRQUEUE)."
        )
    if one.server.port in ONE_WAY:
        steps.append("The protocol expects no answer, so nobody may ever notice.")
    return finding(
        code=CODE,
        severity="note",
        summary=f"{known(one.client)} sent {sent} datagrams to {one.server} and went on after "
        f"{total(errors)} ICMP errors ({name(error)}): {reading}.",
        one=one,
        errors=errors,
        why=steps,
        more=[*([one.requests.last.seen] if one.requests else [])],
    )
