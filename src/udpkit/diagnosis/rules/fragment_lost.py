"""A datagram came in fragments, and one of them was lost.

## What it sees

ICMP "reassembly time exceeded" from the host that was to put the fragments together: certain. It is an
error while nothing comes back, a warning otherwise. Without such an error, the first fragment of datagrams
whose others were never captured, and no answer to them: only a note, since a capture filter on a port (`udp
port 53`) lets no later fragment pass: they have no ports.

Silent: where the datagrams were answered, where the file is damaged, and where an ICMP error says what
became of them.

## Why it happens

A firewall or a NAT without connection tracking drops fragments that have no port, a link is congested, or
the receiver's buffer for fragments is full (net.ipv4.ipfrag_high_thresh). One lost fragment loses the
datagram: IP waits for 30 seconds (IPv6: 60), then gives up.

## Example

    10.0.0.9:40000 > 10.1.0.1:2049 UDP, 4000 bytes
    10.1.0.1 > 10.0.0.9 ICMP reassembly time exceeded      30 seconds later
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udpkit.diagnosis.errors import finding, known, of_kind, on_the_sender
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.services import is_group
from udpkit.diagnosis.why import first_and_last, place
from udpkit.facts import Case, Conversation, Errors, Flow
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.icmp import REASSEMBLY_EXCEEDED

CODE = "fragment-lost"


def find(case: Case) -> Iterator[Finding]:
    for one in case.conversations:
        told = False
        for errors in (one.about_requests(), one.about_replies()):
            if given_up := of_kind(errors, REASSEMBLY_EXCEEDED):
                told = True
                yield _told(case, one, given_up)
        requests = one.requests
        if requests and requests.lost_fragments and not told and _unexplained(case, one, requests):
            yield _seen_only(one, requests)


def _unexplained(case: Case, one: Conversation, requests: Flow) -> bool:
    number = requests.first.seen.source
    damaged = number < len(case.sources) and bool(case.sources[number].damage)
    return not (one.replies or one.strays or one.errors or damaged or is_group(one.server.address))


def _told(case: Case, one: Conversation, errors: Sequence[Errors]) -> Finding:
    error = errors[0].error
    is_request = error.quoted_source == one.client
    functions = FUNCTIONS[error.sender.version]
    answered = one.replies is not None and is_request
    return finding(
        code=CODE,
        severity="warning" if answered else "error",
        summary=f"{known(error.quoted_source)} sent {known(error.quoted_destination)} a datagram in "
        f"fragments, and not all of them arrived: {error.sender} gave up waiting.",
        one=one,
        errors=errors,
        why=[
            f"{functions.reassemble} on {error.sender}: the first fragment was there, another never came in "
            f"time, so all are dropped and the sender is told ({place(case, errors[0].first.seen)}).",
            on_the_sender(error),
        ],
    )


def _seen_only(one: Conversation, requests: Flow) -> Finding:
    functions = FUNCTIONS[one.server.address.version]
    return Finding(
        code=CODE,
        severity="note",
        summary=f"{known(one.client)} sent {one.server} datagrams in fragments that are not all in the "
        "capture, and got no answer: they were lost on the way, or the capture's filter left them out.",
        client=one.client,
        server=one.server,
        actual=None,
        process=None,
        count=requests.lost_fragments,
        first=requests.first.time_ns,
        last=requests.last.time_ns,
        why=[
            f"{functions.reassemble} on the server: without every fragment it drops the others when its "
            "time is over."
        ],
        evidence=first_and_last([requests]),
    )
