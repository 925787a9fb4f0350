"""Datagrams arrive with a wrong checksum, and the kernel drops them.

## What it sees

Datagrams whose UDP checksum is wrong, and not merely left to the network card (then it is the sum of the
pseudo-header alone). It is a warning if every request of a client is so, there were several, and neither an
answer nor an ICMP error came although what comes to the client is in the capture. It is a note if only some
are wrong: then no card was to complete them, and something on the way damages them.

It is an error where the kernel itself says so: its reason for a drop was UDP_CSUM (`udpkit watch`, with
root).

Silent: where the datagrams with the wrong sums were answered or refused, since a kernel verifies the
checksum before either; where all of both directions are wrong (addresses that somebody rewrote in the file,
cards that leave something else there); and for multicast and broadcast.

## Why it happens

A device rewrites addresses or payload and forgets the checksum, a link or memory is bad, or a card's
offload is broken. The kernel counts such a datagram (InCsumErrors in `nstat`) and drops it without a word
to anybody.

## Example

    10.0.0.9:40000 > 10.0.0.1:53 UDP, 28 bytes, checksum 0x1234 is wrong     again and again
"""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.dropped import datagrams, finding, of_reason, place
from udpkit.diagnosis.errors import known
from udpkit.diagnosis.finding import Finding, Severity
from udpkit.diagnosis.services import ONE_WAY, is_group
from udpkit.diagnosis.why import first_and_last
from udpkit.facts import Case, Conversation, Endpoint, Flow
from udpkit.kernel.functions import FUNCTIONS

CODE = "bad-checksum"
REASON = "UDP_CSUM"
"""include/net/dropreason-core.h"""
SEVERAL = 2


def find(case: Case) -> Iterator[Finding]:
    yield from _of_drops(case)
    for one in case.conversations:
        if is_group(one.server.address) or is_group(one.client.address) or one.errors:
            continue
        requests, replies = one.requests, one.replies
        if requests and requests.bad_checksums and (severity := _of_requests(one, requests)):
            yield _finding(one, requests, one.client, one.server, severity)
        if replies and 0 < replies.bad_checksums < replies.count:
            yield _finding(one, replies, one.server, one.client, "note")


def _of_drops(case: Case) -> Iterator[Finding]:
    for one in of_reason(case, REASON):
        function = FUNCTIONS[one.destination.address.version].receive
        yield finding(
            CODE,
            one,
            f"The kernel dropped {datagrams(one)} for a wrong UDP checksum.",
            [
                f"{function} on this host: the checksum does not fit the addresses, ports and payload.",
                f"{place(one)} drops it ({REASON}) and counts it (UdpInCsumErrors); neither the program nor "
                "the sender is told.",
            ],
        )


def _of_requests(one: Conversation, requests: Flow) -> Severity | None:
    good = requests.count - requests.bad_checksums
    if good:
        answered = one.replies is not None and one.replies.count > good
        return None if answered else "note"
    sure = (
        requests.count >= SEVERAL
        and not one.replies
        and not one.strays
        and (one.client_hears or one.answers_others)
        and one.server.port not in ONE_WAY
    )
    return "warning" if sure else None


def _finding(
    one: Conversation, flow: Flow, source: Endpoint, destination: Endpoint, severity: Severity
) -> Finding:
    side = "server" if source == one.client else "client"
    functions = FUNCTIONS[source.address.version]
    return Finding(
        code=CODE,
        severity=severity,
        summary=f"{flow.bad_checksums} of {flow.count} datagrams from {known(source)} to "
        f"{known(destination)} have a wrong "
        f"checksum{', and none was answered' if severity == 'warning' else ''}.",
        client=one.client,
        server=one.server,
        actual=None,
        process=None,
        count=flow.bad_checksums,
        first=flow.first.time_ns,
        last=flow.last.time_ns,
        why=[
            f"{functions.receive} on the {side}: the checksum does not fit the addresses, ports and "
            "payload, so the datagram is counted (UdpInCsumErrors) and dropped before any program sees it; "
            "the sender is not told."
        ],
        evidence=first_and_last([flow]),
    )
