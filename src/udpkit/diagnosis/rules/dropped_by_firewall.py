"""A firewall on this host drops datagrams without a word.

## What it sees

The kernel's own reason for a drop, NETFILTER_DROP, with the datagram's addresses (`udpkit watch`, with root):
what comes in, is forwarded or goes out, of either direction of a conversation. It is known, not guessed from
silence.

Silent: where the drop was not seen on the host that drops; for REJECT, which answers with ICMP before it
drops (`prohibited`).

## Why it happens

A rule or a chain's policy says DROP: nf_hook_slow() frees the datagram. The sender hears nothing, but for a
program on this very host whose own datagram is dropped on the way out: its send fails with EPERM.

## Example

    iptables -A INPUT -p udp --dport 5000 -j DROP
    10.0.0.9:40000 > 10.0.0.1:5000 UDP, 6 bytes     nf_hook_slow(): NETFILTER_DROP
"""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.dropped import BY_FIREWALL, datagrams, finding, of_reason, place, rejection, rejections
from udpkit.diagnosis.finding import Finding
from udpkit.facts import Case

CODE = "dropped-by-firewall"


def find(case: Case) -> Iterator[Finding]:
    told = rejections(case)
    for one in of_reason(case, BY_FIREWALL):
        if rejection(one, told):
            continue
        yield finding(
            CODE,
            one,
            f"A firewall here dropped {datagrams(one)}.",
            [
                f"{place(one)} on this host: a netfilter rule's verdict is DROP ({BY_FIREWALL}).",
                "The other end is not told: to it this looks like success and then like silence. Only a "
                "program here, whose datagram is dropped on its way out, gets EPERM from its send.",
            ],
        )
