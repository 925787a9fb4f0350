"""The part of `bad-checksum` that the kernel tells itself: the reason UDP_CSUM for a drop."""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.dropped import datagrams, finding, of_reason, place
from udpkit.diagnosis.finding import Finding
from udpkit.facts import Case
from udpkit.kernel.functions import FUNCTIONS

CODE = "bad-checksum"
REASON = "UDP_CSUM"


def of_drops(case: Case) -> Iterator[Finding]:
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
