"""A firewall, or a route of the type `prohibit`, forbids the datagrams and says so.

## What it sees

An ICMP error that names a prohibition (net, host or administratively prohibited, policy failed), or port
unreachable from *another* address than the one that was asked: the host itself would have answered from
that address, so a firewall or router on the way spoke (iptables' REJECT says port unreachable unless told
otherwise). The summary tells who. Or a host refuses with port unreachable although its own socket tables,
from before and from after, show a socket that takes the datagram: then its own REJECT did it. Or the kernel
itself says that it sent an ICMP error and then dropped the datagram for a firewall rule (`udpkit watch`, with
root): that is known, whatever the error is called. It is an
error while nothing gets through, a warning where answers came before, a note where they came afterwards or
a peer-to-peer program asked.

In a log of strace: the error queue tells that another than the peer refused, or that it was forbidden; or a
call that sends failed with EPERM, which is the own host's firewall (a note).

Silent: for port scans and traceroute; for what a client's firewall says to a reply from the wrong address,
which is its consequence; and where the address that refused is known to be the asked host's own.

## Why it happens

A rule with REJECT (iptables, nftables, firewalld, ufw) meets the datagram; which error it answers with is
the rule's choice. The same rule with DROP says nothing. A router's route of the type `prohibit` is answered
with administratively prohibited, and with nothing else; on the sender's own host no error is sent, but the
call fails with EACCES.

## Example

    10.0.0.9:40000 > 10.0.0.1:53 UDP, 28 bytes
    10.0.0.1 > 10.0.0.9 ICMP administratively prohibited
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udpkit.diagnosis import dropped
from udpkit.diagnosis.dropped import (
    BY_FIREWALL,
    Rejections,
    datagrams,
    is_rejected,
    of_reason,
    rejection,
    rejections,
)
from udpkit.diagnosis.errors import (
    exchange,
    finding,
    name,
    of_kind,
    on_the_sender,
    whose,
)
from udpkit.diagnosis.finding import Finding, Severity
from udpkit.diagnosis.listeners import addresses_of, there_all_along
from udpkit.diagnosis.refusals import refused_requests
from udpkit.diagnosis.services import is_group
from udpkit.diagnosis.shapes import severity_of, shapes
from udpkit.diagnosis.traced_errors import with_calls
from udpkit.diagnosis.why import place
from udpkit.facts import Case, Conversation, Errors, IcmpError, Reference
from udpkit.kernel import icmp
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.icmp import OF_PRECEDENCE, OF_ROUTES, PORT_UNREACHABLE, PROHIBITED

CODE = "prohibited"


def find(case: Case) -> Iterator[Finding]:
    yield from with_calls(case, CODE, _in_captures(case))


def _in_captures(case: Case) -> Iterator[Finding]:
    seen_shapes = shapes(case)
    by_firewall = rejections(case)
    yield from _of_drops(case, by_firewall)
    for one in case.conversations:
        if is_rejected(one, by_firewall) or not one.errors or seen_shapes.sweeps(one):
            continue
        for errors in (_prohibitions(case, one.about_requests()), _about_answers(case, one)):
            if errors:
                yield _finding(case, one, errors, severity_of(one, errors, seen_shapes))
        refusals = refused_requests(one)
        if refusals and (sockets := there_all_along(case, one, refusals)):
            yield _by_its_own_reject(case, one, refusals, sockets)


def _of_drops(case: Case, by_firewall: Rejections) -> Iterator[Finding]:
    for one in of_reason(case, BY_FIREWALL):
        if kind := rejection(one, by_firewall):
            reject = FUNCTIONS[one.source.address.version].reject
            said = icmp.name(*kind)
            yield dropped.finding(
                CODE,
                one,
                f"A firewall here rejected {datagrams(one)}: {said}.",
                [
                    f"{reject} on this host: a rule with REJECT met the datagram and answered {said}, even "
                    "if a socket would have taken it.",
                    f"{dropped.place(one)} then drops it ({BY_FIREWALL}).",
                ],
            )


def _prohibitions(case: Case, errors: Sequence[Errors]) -> list[Errors]:
    by_others = [
        each
        for each in of_kind(errors, PORT_UNREACHABLE)
        if each.error.sender != each.error.quoted_destination.address
        and not is_group(each.error.quoted_destination.address)
        and not _is_the_same_host(case, each.error)
    ]
    return of_kind(errors, PROHIBITED) + by_others


def _about_answers(case: Case, one: Conversation) -> list[Errors]:
    own = [each for each in one.about_replies() if each.error.quoted_source == one.server]
    return _prohibitions(case, own)


def _is_the_same_host(case: Case, error: IcmpError) -> bool:
    ends = {error.sender, error.quoted_destination.address}
    return any(ends <= addresses_of(case, state.name) for state in case.hosts) or any(
        ends <= addresses_of(case, table.host, table) for table in case.tables
    )


def _finding(case: Case, one: Conversation, errors: Sequence[Errors], severity: Severity) -> Finding:
    error = errors[0].error
    by = whose(error.sender, one)
    return finding(
        code=CODE,
        severity=severity,
        summary=f"{exchange(one, error)}, and that was prohibited by {by}: {name(error)}.",
        one=one,
        errors=errors,
        why=[
            f"{_step(error)} ({place(case, errors[0].first.seen)}){_or_a_route(error)}.",
            *_not_the_host(error),
            on_the_sender(error),
        ],
    )


def _step(error: IcmpError) -> str:
    by_precedence = ", or a router that goes by precedence," if error.kind in OF_PRECEDENCE else ""
    return (
        f"{FUNCTIONS[error.sender.version].reject} on {error.sender}: a firewall rule with "
        f"REJECT{by_precedence} met the datagram to {error.quoted_destination} and answered {name(error)}"
    )


def _or_a_route(error: IcmpError) -> str:
    """A host's own route of that type makes the send fail (EACCES), and what is for a host meets no route."""
    ends = error.quoted_source.address, error.quoted_destination.address
    if error.kind not in OF_ROUTES or error.sender in ends:
        return ""
    return f"; a route of the type prohibit says the same, from {FUNCTIONS[error.sender.version].prohibit}"


def _not_the_host(error: IcmpError) -> list[str]:
    if error.sender == error.quoted_destination.address or error.kind not in PORT_UNREACHABLE:
        return []
    return [
        f"{FUNCTIONS[error.sender.version].refuse} on {error.quoted_destination.address} would have "
        "answered from that address: it never saw the datagram."
    ]


def _by_its_own_reject(
    case: Case, one: Conversation, refusals: Sequence[Errors], sockets: Sequence[Reference]
) -> Finding:
    functions = FUNCTIONS[one.server.address.version]
    return finding(
        code=CODE,
        severity="error",
        summary=f"{exchange(one, refusals[0].error)}, and that was prohibited by {one.server.address} "
        "itself: a socket was there all along, so its own firewall answered port unreachable.",
        one=one,
        errors=refusals,
        why=[
            f"{functions.lookup} on {one.server.address} would have found the socket, before "
            f"({place(case, sockets[0])}) and after ({place(case, sockets[1])}).",
            f"{functions.reject} on {one.server.address}: a firewall rule with REJECT came first and "
            f"answered port unreachable ({place(case, refusals[0].first.seen)}).",
            on_the_sender(refusals[0].error),
        ],
        more=[*sockets],
    )
