"""A host refuses what it is asked: no socket has that port.

## What it sees

A request, and ICMP port unreachable about it from the very address that was asked. Nobody listened from the
start; or the server had answered before and its program has ended. Socket tables of that host, where there
are any, say more. It is an error while nothing answers; a note where answers came afterwards (the program
had not started yet, or restarted, NAT on the way changed, or one of several servers behind the address is
down), where a peer-to-peer program meets peers that have gone, where the protocol is asked on the off chance
(NetBIOS, NAT-PMP), or where the socket closed at the end of an exchange. A table of that host that shows a
socket on the port makes it a warning: the program may have started later, or a firewall's REJECT may pose as
the host. A table without the host's address may be another's, and only adds a word. Where the capture shows
that the same port served another client before or after, the summary says so: a warning if that one was
answered both before and after, a note if only after.

In a log of strace: a call failed with ECONNREFUSED. The summary says which datagram of the socket that is
about: the error was kept in the socket until its next call, whichever that was. A warning, since the log
does not show who refused, except in the error queue. Where a capture shows the refusal as well, it is one
finding, which tells of the call, too.

Silent: where the only other client was answered before and after (`listener-locked-to-first-peer`, unless
the port is a known service's), where the refused datagram was a reply (`late-reply`), where the refusal came
from another address than the one asked (`prohibited`), where the port is bound elsewhere on the host
(`listens-elsewhere`) or its listener was connected to one peer (`listener-locked-to-first-peer`), where the
kernel says that its firewall dropped the datagram (`prohibited`), and for port scans and traceroute, whose
ends are refusals.

## Why it happens

No program has bound the port: it was not started, it crashed, it lives in another network namespace, or the
port is wrong. The kernel then answers with ICMP port unreachable. A connected client hears ECONNREFUSED
once for each error; an unconnected one hears nothing, unless it asked for errors (IP_RECVERR).

## Example

    172.16.0.62:40000 > 172.16.0.46:8888 UDP, 1 byte
    172.16.0.46 > 172.16.0.62 ICMP port unreachable
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udpkit.diagnosis.beside import Beside, locked_out, others_served
from udpkit.diagnosis.dropped import is_rejected, rejections
from udpkit.diagnosis.errors import (
    finding,
    known,
    on_the_sender,
    seconds,
    total,
)
from udpkit.diagnosis.finding import Finding, Severity
from udpkit.diagnosis.listeners import (
    connected_there,
    tables_of_server,
    takers,
    there_all_along,
    waits_elsewhere,
)
from udpkit.diagnosis.refusals import refused_requests
from udpkit.diagnosis.services import SPECULATIVE, is_group, is_service, may_be_reversed, reversed_ends
from udpkit.diagnosis.shapes import Shapes, shapes
from udpkit.diagnosis.traced_errors import with_calls
from udpkit.diagnosis.why import first_and_last, place
from udpkit.facts import Case, Conversation, Errors, SocketEntry
from udpkit.kernel.functions import FUNCTIONS

CODE = "nobody-listens"
SAME_PORT = 2
"""Where both ends use one port, as with NTP, a single refusal may be about an answer."""
PERSISTENT = 2.0
"""Seconds of refusals after which it is no exchange that merely ended."""


def find(case: Case) -> Iterator[Finding]:
    yield from with_calls(case, CODE, _in_captures(case))


def _in_captures(case: Case) -> Iterator[Finding]:
    seen_shapes = shapes(case)
    by_firewall = rejections(case)
    served = others_served(case)
    locked = {(one.client, one.server) for one, _ in locked_out(case)}
    for one in case.conversations:
        refusals = refused_requests(one)
        if (
            refusals
            and not is_rejected(one, by_firewall)
            and (one.client, one.server) not in locked
            and _is_about_a_port(case, one, refusals, seen_shapes)
        ):
            yield _finding(case, one, refusals, seen_shapes, served.get((one.client, one.server)))


def _is_about_a_port(case: Case, one: Conversation, refusals: Sequence[Errors], seen_shapes: Shapes) -> bool:
    """Nothing but the missing socket explains the refusal."""
    return not (
        one.strays
        or one.about_replies()  # the client was gone, too: the end of an exchange
        or is_group(one.server.address)
        or reversed_ends(one.client, one.server)
        or seen_shapes.sweeps(one)
        or (one.client.port == one.server.port and total(refusals) < SAME_PORT)
        or connected_there(case, one)
        or _certainly_elsewhere(case, one)
        or there_all_along(case, one, refusals)
    )


def _certainly_elsewhere(case: Case, one: Conversation) -> bool:
    waiting = waits_elsewhere(case, one)
    return waiting is not None and waiting[1]


def _finding(
    case: Case, one: Conversation, refusals: Sequence[Errors], seen_shapes: Shapes, beside: Beside | None
) -> Finding:
    severity, reason = _judge(case, one, refusals, seen_shapes, beside)
    functions = FUNCTIONS[one.server.address.version]
    return finding(
        code=CODE,
        severity=severity,
        summary=f"{known(one.client)} asked {one.server}, and {one.server.address} refused it: {reason}.",
        one=one,
        errors=refusals,
        why=[
            f"{functions.lookup} on {one.server.address}: no socket takes a datagram from "
            f"{known(one.client)} to {one.server}{_as_tables_show(case, one)}.",
            f"{functions.refuse} on {one.server.address}: nobody to deliver to, so it answers port "
            f"unreachable ({place(case, refusals[0].first.seen)}).",
            on_the_sender(refusals[0].error),
        ],
        more=[
            *([one.replies.last.seen] if one.replies else []),
            *first_and_last([beside.flow if beside else None]),
            *(entry.seen for _, entry in takers(case, one)),
        ],
    )


def _judge(
    case: Case, one: Conversation, refusals: Sequence[Errors], seen_shapes: Shapes, beside: Beside | None
) -> tuple[Severity, str]:
    replies, first = one.replies, min(each.first.order for each in refusals)
    last = max(each.last.order for each in refusals)
    if replies and replies.last.order > last:
        if one.requests and one.requests.count == 1:
            return "note", (
                "yet the same request was answered, too: one of several servers behind the address is down"
            )
        if replies.first.order > first:
            return "note", (
                "it was answered only later, so its program (re)started, or NAT on the way changed, in "
                "between"
            )
        return "note", (
            "answers came before and after, so its program restarted, or one of several servers behind the "
            "address is down"
        )
    if replies and replies.last.order > first:
        return "note", "answers came between the refusals: one of several servers behind the address is down"
    if replies:
        times = "once" if replies.count == 1 else f"{replies.count} times"
        ended = f"it had answered {times}, so its program has ended or its socket was closed"
        at_an_end = (seconds(refusals) or 0) < PERSISTENT and not is_service(one.server.port)
        return ("note" if at_an_end else "error"), ended
    if may_be_reversed(one.client, one.server, heard=one.requests is not None):
        return "note", (
            "nobody listens there, or this was an answer to a client that had gone, and the question was not "
            "captured"
        )
    if seen_shapes.among_peers(one):
        return "note", "nobody listens there any more; this client asks many peers, and some have gone"
    if one.server.port in SPECULATIVE:
        return "note", "nobody listens there; this protocol is asked on the off chance"
    explanation = "started later or has ended since, or a firewall's REJECT spoke for the host"
    if found := takers(case, one, sure=True):
        return "warning", f"yet the socket table shows {_shown(found[0][1])}, so it {explanation}"
    if beside:
        return _beside(beside)
    if found := takers(case, one):
        return "error", (
            f"nobody listens on that port; if the socket table with {_shown(found[0][1])} is of that host, "
            f"it {explanation}"
        )
    return "error", "nobody listens on that port"


def _beside(other: Beside) -> tuple[Severity, str]:
    """Where the port was open for another client."""
    if not other.answered:
        return "error", (
            f"nobody listens there for it, though what {other.peer} sent before and after was not refused; a "
            "listener that was connected to its first peer refuses all others"
        )
    if other.before and not other.after:
        to_one = ", or was connected to that client" if other.alone else ""
        return "error", f"it had answered {other.peer} before, so its program has ended{to_one}"
    if other.after_all:
        return "note", (
            f"{other.peer} was answered later, so its program (re)started, or NAT on the way changed, in "
            "between"
        )
    return "warning", (
        f"yet it answered {other.peer} {'before and after' if other.before else 'in between'}, so its "
        "program restarted just then, or one of several servers behind the address is down, or a firewall's "
        "REJECT or a stale conntrack entry on the way is about this client"
    )


def _shown(entry: SocketEntry) -> str:
    return f"{entry.process or 'a socket'} on {entry.local}"


def _as_tables_show(case: Case, one: Conversation) -> str:
    sure = any(certain for _, certain in tables_of_server(case, one))
    return ", and the host's socket table has none either" if sure and not takers(case, one) else ""
