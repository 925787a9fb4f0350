"""Reverse path filtering drops datagrams: the route back to their sender leads elsewhere.

## What it sees

The kernel's own reason for a drop, IP_RPFILTER, with the datagram's addresses (`udpkit watch`, with root).

Silent: where the drop was not seen on the host that drops. IPv6 has no such filter outside the firewall.

## Why it happens

With net.ipv4.conf.*.rp_filter=1 (the greater of `all` and the interface's own counts) a datagram is taken
only from the interface through which its sender would be answered (RFC 3704, strict). Several interfaces or
asymmetric routes make that another one. With 2 any interface will do. Nobody is told; martians are logged
only with log_martians.

## Example

    10.0.0.9:40000 > 192.0.2.1:53 UDP, on eth1      fib_validate_source(): IP_RPFILTER
    10.0.0.9 dev eth0                                the route back
"""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.dropped import datagrams, finding, of_reason, place
from udpkit.diagnosis.finding import Finding
from udpkit.facts import Case

CODE = "dropped-by-rp-filter"
REASON = "IP_RPFILTER"


def find(case: Case) -> Iterator[Finding]:
    for one in of_reason(case, REASON):
        yield finding(
            CODE,
            one,
            f"Reverse path filtering here dropped {datagrams(one)}.",
            [
                f"fib_validate_source() on this host: the route back to {one.source.address} does not lead "
                "out of the interface by which the datagram came, and rp_filter is 1 (strict).",
                f"{place(one)} drops it ({REASON}) before any firewall rule for its input or any socket "
                "sees it; the sender is not told.",
            ],
        )
