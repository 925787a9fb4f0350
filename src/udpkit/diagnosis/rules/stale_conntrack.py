"""A conntrack entry sends a flow where NAT would not send it today, or to nobody.

## What it sees

On a live host (`udpkit check`, which needs root for this): a UDP entry of conntrack whose addresses are
translated otherwise than the NAT rules would translate a new flow's, and that was never answered, or that
leads to an address where nobody can be reached: no route, no neighbour, no socket. Or one whose source was
translated to an address that the host has lost.

Silent: where the rules depend on what a look from outside does not tell (sets, marks, chance, connections),
and one of the ways they may take is the entry's; with IPVS; for entries that are answered and whose target
can be reached: they work, and end by themselves.

## Why it happens

NAT decides at the first datagram of a flow, and conntrack repeats that decision for every datagram as long as
they keep coming. A client that goes on asking from the same port so keeps an entry alive whose container
was started anew with another address, or that was made before there was a rule at all.

## Example

    rule    192.0.2.1:53 is sent to 172.17.0.3:53 (yesterday: 172.17.0.2:53)
    entry   198.51.100.7:40000 > 192.0.2.1:53, to 172.17.0.2:53, never answered
"""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.finding import Finding
from udpkit.facts import Case, HostState, StaleEntry

CODE = "stale-conntrack"


def find(case: Case) -> Iterator[Finding]:
    for host in case.hosts:
        for entry in host.stale:
            yield _finding(host, entry)


def _finding(host: HostState, entry: StaleEntry) -> Finding:
    where = f" of {host.name}" if host.name else ""
    translated = entry.target != entry.server
    to = f" to {entry.target}" if translated else ", untranslated"
    goes = f"to {entry.target}" if translated else "on unchanged"
    return Finding(
        code=CODE,
        severity="error",
        summary=f"A conntrack entry{where} sends what {entry.client} asks {entry.server}{to}, but it is "
        f"stale: {entry.reason}.",
        client=entry.client,
        server=entry.server,
        actual=entry.target if translated else None,
        process=None,
        count=1,
        first=None,
        last=None,
        why=[
            f"nf_conntrack_in() on the host: every datagram from {entry.client} to {entry.server} finds the "
            "entry, which starts its timeout anew.",
            "nf_nat_inet_fn() on the host: rules are asked for the first datagram of an entry only; what was "
            f"decided then stays, and the datagrams go {goes}.",
        ],
        evidence=[],
    )
