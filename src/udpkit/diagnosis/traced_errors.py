"""Errors that system calls returned: which datagram each is about.

Theory of operation. An ICMP error quotes the datagram that it is about, by which the kernel finds the socket.
A connected socket keeps the error in one place (sk_err), where the next call takes it, whichever that is; so
the call that fails is not the one whose datagram was refused. With IP_RECVERR it is queued as well, and
recvmsg(MSG_ERRQUEUE) tells to whom the datagram went and who sent the error.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.services import SPECULATIVE
from udpkit.diagnosis.traced_locks import lock_of
from udpkit.diagnosis.traces import askers, connected, sent, taken
from udpkit.diagnosis.why import place
from udpkit.facts import Address, Calls, Case, Endpoint, IcmpError, Moment, TracedSocket
from udpkit.kernel import icmp
from udpkit.kernel.functions import FUNCTIONS

REPLY = "late-reply"
CODES = {
    "ECONNREFUSED": "nobody-listens",
    "EHOSTUNREACH": "unreachable",
    "ENETUNREACH": "unreachable",
    "EHOSTDOWN": "unreachable",
    "ENONET": "unreachable",
    "ENOPROTOOPT": "unreachable",
    "EPERM": "prohibited",
    "EMSGSIZE": "datagram-too-big",
}
"""What an error's name says where nothing tells the ICMP message."""
LOCAL = {"EPERM", "ENETUNREACH", "EHOSTUNREACH", "EMSGSIZE"}
"""Errors that a call which sends may also get from its own host, without any datagram having left."""
SETS_HOPS = ("IP_TTL", "IPV6_UNICAST_HOPS")
"""traceroute and tracepath set them, to get errors."""
IN_CAPTURE = " The capture shows the error itself."
MOST_ERRORS = 64
"""About requests to one server, that are looked at."""
MANY = 3
"""Ports of one address, or addresses, that a program asks to see who refuses."""


def with_calls(case: Case, code: str, captured: Iterable[Finding]) -> Iterator[Finding]:
    """What a rule found in captures, and what it finds in traces (`refused_calls`).

    What calls reported of an error that a capture shows as well is no finding of its own: it is told there.
    """
    seen_too: dict[Endpoint | None, list[Finding]] = {}
    for call in refused_calls(case, code):
        if call.summary.endswith(IN_CAPTURE):
            seen_too.setdefault(call.server, []).append(call)
        else:
            yield call
    for one in captured:
        same = seen_too.pop(one.server, [])
        yield replace(
            one,
            why=[*one.why, *(_told(call) for call in same)],
            evidence=[*one.evidence, *(seen for call in same for seen in call.evidence)],
        )
    for calls in seen_too.values():
        yield from calls


def _told(call: Finding) -> str:
    program = f"{call.process}, " if call.process else ""
    return f"{program}{call.summary.removesuffix(IN_CAPTURE)}"


def refused_calls(case: Case, code: str) -> Iterator[Finding]:
    """What a rule finds in traces: one finding for each kind of call that reported an error about a datagram
    which its socket had sent.

    `code` is one of `CODES`, or late-reply for datagrams that were answers. A warning where one datagram only
    can be meant and nothing speaks against a fault, else a note. `server` is where the datagram went; the
    client's own end is not known.
    """
    probed, captured = _probed(case), _errors_captured(case)
    for socket in case.traces:
        if any(name in socket.options for name in SETS_HOPS):
            continue
        asked_by = {peer for peer, _ in askers(socket)}
        for call in socket.calls:
            peer = call.peer
            if call.errno not in CODES or call.kind == "connect" or peer is None:
                continue
            is_reply = peer in asked_by
            errors = captured.get(peer, [])
            if code != (REPLY if is_reply else _code(call, peer, errors)) or peer.address in probed:
                continue
            if not (is_reply and lock_of(socket)):  # which tells why its answers are refused
                yield _finding(case, socket, call, peer, errors, is_reply=is_reply)


def _probed(case: Case) -> set[Address]:
    """Addresses on which a program tried several ports: that some refuse is what it wanted to know."""
    ports: dict[Address, set[int]] = {}
    for socket in case.traces:
        for call in socket.calls:
            if call.errno in CODES and call.kind != "connect" and call.peer:
                ports.setdefault(call.peer.address, set()).add(call.peer.port)
    return {address for address, tried in ports.items() if len(tried) >= MANY}


def _errors_captured(case: Case) -> dict[Endpoint, list[IcmpError]]:
    """What ICMP said in captures about requests, by the server."""
    captured: dict[Endpoint, list[IcmpError]] = {}
    for one in case.conversations if case.traces else ():
        errors = captured.setdefault(one.server, []) if one.errors else []
        if len(errors) < MOST_ERRORS:
            errors.extend(each.error for each in one.about_requests())
    return captured


def _excuse(case: Case, socket: TracedSocket, peer: Endpoint) -> str:
    """Why the error may be no fault."""
    if any(call.peer == peer for one in case.traces for call in taken(one)):
        return " Answers from there were seen as well."
    if peer.port in SPECULATIVE:
        return " This protocol is asked on the off chance."
    if len({call.peer for call in sent(socket) if call.peer}) > MANY:
        return " The program asks many peers, and some have gone."
    return ""


def _finding(
    case: Case,
    socket: TracedSocket,
    call: Calls,
    peer: Endpoint,
    errors: Sequence[IcmpError],
    *,
    is_reply: bool,
) -> Finding:
    cause = _cause(socket, call, peer)
    sent_at = _sent_at(socket, cause, call) if cause else None
    here = place(case, call.first.seen)
    from_outside = call.icmp is not None or _captured(call, errors) is not None
    local = call.kind == "send" and call.errno in LOCAL and not from_outside
    if cause is None or local:
        about = f"a datagram to {peer}"
    elif call.candidates > 1 and not call.icmp:
        about = f"one of the {call.candidates} datagrams to {peer} before"
        if sent_at:
            which = "last" if sent_at == cause.last else "first"
            about += f", the {which} of them sent by {cause.name}() at {place(case, sent_at.seen)}"
    elif sent_at:
        about = f"the datagram that {cause.name}() sent to {peer} at {place(case, sent_at.seen)}"
    else:
        about = f"the datagram to {peer} before"
    excuse = "" if is_reply else _excuse(case, socket, peer)
    if errors and not (is_reply or local):
        excuse += IN_CAPTURE
    certain = bool(cause) and (call.candidates == 1 or call.icmp is not None) and call.errno != "EMSGSIZE"
    from_offender = f", and came from {call.offender}" if call.offender else ""
    told = f"{call.name}() {'told of' if call.kind == 'error' else 'failed with'} {call.errno}"
    return Finding(
        code=REPLY if is_reply else _code(call, peer, errors),
        severity="warning" if certain and not (is_reply or local or excuse) else "note",
        summary=f"{here}: {told}: the error is about {about}{from_offender}.{excuse}"
        if not local
        else f"{here}: {told}: the own host did not send {about}.{excuse}",
        client=peer if is_reply else None,
        server=None if is_reply else peer,
        actual=None,
        process=socket.process or None,
        count=call.count,
        first=call.first.time_ns,
        last=call.last.time_ns,
        why=[_local(call, peer)] if local else _why(socket, call, peer, is_reply),
        evidence=[*([sent_at.seen] if sent_at and not local else []), call.first.seen],
    )


def _cause(socket: TracedSocket, call: Calls, peer: Endpoint) -> Calls | None:
    """The last calls before that sent to the peer."""
    before = [one for one in sent(socket) if one.peer == peer and one.first.order < call.first.order]
    return max(before, key=lambda one: one.first.order, default=None)


def _sent_at(socket: TracedSocket, cause: Calls, call: Calls) -> Moment | None:
    """When the last of the calls that were alike was made, if that was before; else the first, if no other
    error came since: so it is the first that the error may be about. None: one that is not listed."""
    if cause.last.order < call.first.order:
        return cause.last
    errors = (one for one in socket.calls if one.errno in CODES)
    moments = [moment.order for one in errors for moment in (one.first, one.last)]
    before = max((order for order in moments if order < call.first.order), default=-1)
    return cause.first if before < cause.first.order else None


def _code(call: Calls, peer: Endpoint, errors: Sequence[IcmpError]) -> str:
    """From the ICMP message, where the queue or a capture tells it; port unreachable from another is a
    firewall's."""
    kind: tuple[int, int, int] | None = None
    offender = call.offender
    if call.icmp:
        kind = peer.address.version, *call.icmp
    elif error := _captured(call, errors):
        kind, offender = error.kind, error.sender
    if kind in icmp.PORT_UNREACHABLE:
        return "nobody-listens" if offender in (None, peer.address) else "prohibited"
    name = icmp.KINDS[kind].name if kind in icmp.KINDS else ""
    if "prohibited" in name:
        return "prohibited"
    return CODES[call.errno or ""]


def _captured(call: Calls, errors: Sequence[IcmpError]) -> IcmpError | None:
    """The ICMP error that becomes the call's."""
    for error in errors:
        kind = icmp.KINDS.get(error.kind)
        if kind and kind.errno and errno.errorcode[kind.errno] == call.errno:
            return error
    return None


def _local(call: Calls, peer: Endpoint) -> str:
    functions = FUNCTIONS[peer.address.version]
    if call.errno == "EPERM":
        return "nf_hook_slow() on the sender: a rule of its own firewall dropped the datagram on the way out."
    if call.errno == "EMSGSIZE":
        return (
            f"{functions.append} on the sender: the datagram is longer than any may be, or than the MTU of "
            "its link or path takes, where the program wants no fragments; or an ICMP error about an earlier "
            "datagram."
        )
    return (
        f"{functions.route} on the sender: {call.errno}, from its own routes, or an ICMP error about an "
        "earlier datagram."
    )


def _why(socket: TracedSocket, call: Calls, peer: Endpoint, is_reply: bool) -> list[str]:
    functions = FUNCTIONS[peer.address.version]
    what = (
        icmp.name(peer.address.version, *call.icmp) if call.icmp else f"an ICMP error that means {call.errno}"
    )
    steps = [f"{functions.refuse} on {call.offender or 'the way or at the peer'}: {what} came back for it."]
    if call.kind == "error" and call.icmp:
        steps.append(
            f"{functions.hear} on the sender: the socket had asked for errors (IP_RECVERR), so the error was "
            "queued with its details, whether the socket is connected or not."
        )
    else:
        reason = "is connected" if connected(socket) else "has IP_RECVERR"
        tried = "" if call.kind == "error" else "; what that call was to do was not tried"
        steps.append(
            f"{functions.hear} on the sender: it put {call.errno} into the socket, which {reason}. The next "
            f"call takes it, whichever that is, and it is gone{tried}."
        )
    if is_reply:
        steps.append(
            "The datagram was an answer: the client's socket had gone, or is connected to another address "
            "than the one that the answer came from. The client's refusal says nothing of this server's port."
        )
    return steps
