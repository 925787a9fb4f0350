"""Datagrams are larger than a link on the way takes, and may not be cut into fragments.

## What it sees

ICMP "fragmentation needed" (IPv4, where DF is set) or "packet too big" (IPv6) about a request or a reply,
after which the exchange did not go on. The summary tells who sent it, which MTU it names, and the largest
datagram that was seen. It is an error if that happened several times and nothing was answered, otherwise a
warning.

In a log of strace: a call failed with EMSGSIZE, always a note: programs that look for the path MTU expect it.

Silent: where answers came after the error: so path MTU discovery is meant to work; and for probes of the
path (tracepath).

## Why it happens

A tunnel, a VPN or PPPoE on the way has a smaller MTU than the first link. Linux sets DF on UDP unless told
not to (IP_MTU_DISCOVER), notes the MTU from the error (IPv4: net.ipv4.route.min_pmtu at least), and fragments
what the program sends next; a program that insists on DF gets EMSGSIZE and must send less. The datagram that
met the small link is lost in any case. Where a firewall drops the error, datagrams just vanish: then there is
nothing to see here.

## Example

    10.0.0.9:40000 > 10.1.0.1:4433 UDP, 1452 bytes
    10.0.0.254 > 10.0.0.9 ICMP fragmentation needed, MTU 1400
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from udpkit.diagnosis.errors import finding, known, name, of_kind, on_the_sender, total
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.shapes import shapes
from udpkit.diagnosis.traced_errors import with_calls
from udpkit.diagnosis.why import place
from udpkit.facts import Case, Conversation, Errors, IcmpError
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.icmp import TOO_BIG

CODE = "datagram-too-big"
LEAST_MTU = {4: 68, 6: 1280}
"""What every link takes (RFC 791, RFC 8200)."""
LEAST_NOTED = {4: 552, 6: 1280}
"""What Linux notes at least: net.ipv4.route.min_pmtu, by default, and IPV6_MIN_MTU."""
HEADERS = {4: 28, 6: 48}
"""Bytes of IP and UDP headers by IP version, without options."""


def find(case: Case) -> Iterator[Finding]:
    yield from with_calls(case, CODE, _in_captures(case))


def _in_captures(case: Case) -> Iterator[Finding]:
    seen_shapes = shapes(case)
    for one in case.conversations:
        if not one.errors or seen_shapes.sweeps(one):
            continue
        for errors in (one.about_requests(), one.about_replies()):
            too_big = of_kind(errors, TOO_BIG)
            if too_big and not _went_on(one, too_big):
                yield _finding(case, one, too_big)


def _went_on(one: Conversation, errors: Sequence[Errors]) -> bool:
    """Did the other side say anything after the last error? For a reply's sender, only the client could."""
    answers = one.replies if errors[0].error.quoted_source == one.client else one.requests
    return answers is not None and answers.last.order > max(each.last.order for each in errors)


def _finding(case: Case, one: Conversation, errors: Sequence[Errors]) -> Finding:
    error = errors[0].error
    is_request = error.quoted_source == one.client
    flow = one.requests if is_request else one.replies or one.strays.get(error.quoted_source)
    functions = FUNCTIONS[error.sender.version]
    largest = flow.largest + HEADERS[error.sender.version] if flow and flow.largest else None
    size = f" of up to {largest} bytes" if largest else ""
    mtu = f"takes {error.mtu} bytes" if error.mtu else "takes less (the error names no MTU)"
    flag = "with DF set" if error.sender.version == 4 else "which no router of IPv6 may fragment"
    found = finding(
        code=CODE,
        severity="error" if total(errors) > 1 and not one.replies else "warning",
        summary=f"{known(error.quoted_source)} sent {known(error.quoted_destination)} packets{size}, {flag}; "
        f"{error.sender} had to drop them, since the next link {mtu}.",
        one=one,
        errors=errors,
        why=[
            f"{functions.forward} on {error.sender}: the packet is larger than the MTU of the next link and "
            f"may not be fragmented, so it is dropped and answered {name(error)} "
            f"({place(case, errors[0].first.seen)}).",
            f"{functions.learn_mtu} on {error.receiver}: it notes {_noted(error)}, and the next "
            "datagram leaves in fragments, or fails with EMSGSIZE where the program wants no fragments.",
            on_the_sender(error),
        ],
    )
    version = error.sender.version
    if not error.mtu or error.mtu < LEAST_MTU[version]:
        return found
    return replace(found, payload=error.mtu - HEADERS[version])


def _noted(error: IcmpError) -> str:
    least = LEAST_NOTED[error.sender.version]
    if (error.mtu or 0) >= least:
        return "the MTU for that path"
    if error.sender.version == 6:
        return f"{least} bytes for that path, since IPv6 knows no smaller MTU"
    return (
        f"{least} bytes for that path, its net.ipv4.route.min_pmtu by default and the least it believes, and "
        "sets no DF there any more unless the program insists, so that the router may cut the rest"
    )
