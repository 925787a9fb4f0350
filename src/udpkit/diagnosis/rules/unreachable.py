"""Datagrams do not get to the host: no route, or nobody answers on its link.

## What it sees

An ICMP error that says so: net, host or address unreachable, no route, protocol unreachable, beyond scope.
The summary tells who sent it. From the client's own host it means that the host did not find the neighbour
on its own link, or that its own firewall rejects; from a router that the router has no route or did not find
the neighbour there. Or one
router says again and again, to a client that keeps asking, that a datagram passed too many others: a loop,
or a TTL that is too small. It is an error while nothing comes back, a warning where answers came before and
for a TTL that ran out, a note where they came afterwards or where a peer-to-peer program asked.

In a log of strace: a call failed with EHOSTUNREACH, ENETUNREACH, EHOSTDOWN or the like, and so about which
datagram. Only a note where the own host may have said so, without any datagram having left.

Silent: for port scans and traceroute, which live on such errors, and for an answer from the wrong address.

## Why it happens

The last router, or the client itself where the server is on its own link, asks for the server's link
address (ARP, neighbour discovery), three times, a second apart; then it gives up and reports host
unreachable (IPv6: address unreachable). Without a route for the destination, or with one of the type
`unreachable` (IPv4: host unreachable, IPv6: no route), it says so at once, and so does a firewall's REJECT.
A server's answer may meet the same fate. Linux tells the program only if its socket asks for it (IP_RECVERR).

## Example

    10.0.0.9:40000 > 10.1.0.1:53 UDP, 28 bytes
    10.0.0.254 > 10.0.0.9 ICMP host unreachable
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udpkit.diagnosis.errors import (
    exchange,
    finding,
    name,
    of_kind,
    on_the_sender,
    seconds,
    whose,
)
from udpkit.diagnosis.finding import Finding, Severity
from udpkit.diagnosis.shapes import severity_of, shapes
from udpkit.diagnosis.traced_errors import with_calls
from udpkit.diagnosis.why import place
from udpkit.facts import Case, Conversation, Errors, IcmpError
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.icmp import NO_NEIGHBOUR, NO_ROUTE, TIME_EXCEEDED, UNREACHABLE

CODE = "unreachable"
AT_ONCE_NS = 500_000_000
"""Who asks for a link address does so for longer, by default for three seconds."""
LOOPS = 3
"""So many times, over so long, one router says that the TTL ran out before it is no traceroute."""
LOOP_SECONDS = 1.0


def find(case: Case) -> Iterator[Finding]:
    yield from with_calls(case, CODE, _in_captures(case))


def _in_captures(case: Case) -> Iterator[Finding]:
    seen_shapes = shapes(case)
    for one in case.conversations:
        if not one.errors or seen_shapes.sweeps(one):
            continue
        answers = [each for each in one.about_replies() if each.error.quoted_source == one.server]
        for errors in (one.about_requests(), answers):
            if unreachable := of_kind(errors, UNREACHABLE):
                yield _finding(case, one, unreachable, severity_of(one, unreachable, seen_shapes))
            elif (ran_out := of_kind(errors, TIME_EXCEEDED)) and _is_no_trace(ran_out):
                severity = severity_of(one, ran_out, seen_shapes)
                yield _finding(case, one, ran_out, "warning" if severity == "error" else severity)


def _is_no_trace(errors: Sequence[Errors]) -> bool:
    """One router, several times: traceroute gets each of its errors from another one."""
    return len(errors) == 1 and errors[0].count >= LOOPS and (seconds(errors) or 0) >= LOOP_SECONDS


def _finding(case: Case, one: Conversation, errors: Sequence[Errors], severity: Severity) -> Finding:
    error = errors[0].error
    address = error.quoted_destination.address
    outcome = (
        f"{address} itself answered {name(error)}"
        if error.sender == address
        else f"{address} cannot be reached: {name(error)}, says {whose(error.sender, one)}"
    )
    return finding(
        code=CODE,
        severity=severity,
        summary=f"{exchange(one, error)}, but {outcome}.",
        one=one,
        errors=errors,
        why=[
            f"{_step(error, _delay(one, errors[0]))} ({place(case, errors[0].first.seen)}).",
            on_the_sender(error),
        ],
    )


def _delay(one: Conversation, errors: Errors) -> tuple[int, int] | None:
    """Nanoseconds from its datagram to the first error, at least and at most; None without times."""
    flow = one.requests if errors.error.quoted_source == one.client else one.replies
    told = errors.first.time_ns
    if flow is None or told is None or flow.first.time_ns is None or flow.last.time_ns is None:
        return None
    return max(0, told - flow.last.time_ns), told - flow.first.time_ns


def _step(error: IcmpError, delay: tuple[int, int] | None) -> str:
    address, sender = error.quoted_destination.address, error.sender
    functions = FUNCTIONS[sender.version]
    if error.kind in TIME_EXCEEDED:
        return (
            f"{functions.forward} on {sender}: the datagram to {address} had passed as many routers as its "
            "TTL allows; routers may be sending it in a circle, or the program set a small TTL"
        )
    if error.kind in NO_NEIGHBOUR and sender != address:
        return _no_neighbour(error, delay)
    if sender == error.quoted_source.address:
        return (
            f"{functions.reject} on {sender}: a rule with REJECT in its own OUTPUT chain answered "
            f"{name(error)}; without a route the send itself would have failed, and no error been sent"
        )
    if sender == address:
        return f"{functions.reject} on {sender}: the host got the datagram and answered {name(error)} to it"
    if error.kind in NO_ROUTE:
        or_one = "" if sender.version == 4 else ", or one of the type unreachable"
        return f"{functions.no_route} on {sender}: it has no route to {address}{or_one}"
    return (
        f"{functions.reject} on {sender}: a rule with REJECT met the datagram to {address}, or a router of "
        f"another kind did, and answered {name(error)}"
    )


def _no_neighbour(error: IcmpError, delay: tuple[int, int] | None) -> str:
    """Linux asks for a link address first: what comes at once comes from elsewhere, as a rule."""
    address, sender = error.quoted_destination.address, error.sender
    functions = FUNCTIONS[sender.version]
    link = "its own link" if sender == error.quoted_source.address else "the last link"
    silent = f"{functions.no_neighbour} on {sender}: {address} did not answer on {link}"
    down = "so the host is down or has another address"
    if delay and delay[0] >= AT_ONCE_NS:
        return f"{silent} for {delay[0] / 1e9:.1f} seconds, {down}"
    others = f"{functions.reject} on {sender}: a rule with REJECT says so"
    # IPv6 calls such a route "no route"; the own host's makes the send fail, and sends no error.
    if sender.version == 4 and sender != error.quoted_source.address:
        others = (
            f"{functions.no_route} on {sender}: a route of the type unreachable says so, or a rule with "
            f"REJECT, from {functions.reject}"
        )
    if delay and delay[1] < AT_ONCE_NS:
        return (
            f"{others}; it came at once, and from {functions.no_neighbour} it would come after seconds of "
            f"asking for {address}, unless others had begun that"
        )
    return f"{silent}, {down}; or, if the error came at once, {others}"
