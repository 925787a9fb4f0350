"""Network address translation moved a reply to another port.

## What it sees

One reply at both sides of a translation: it left the server from the port that was asked but from another
address, and arrived from the address that was asked but from another port. For that the evidence must show
both: two captures, or one on all interfaces of the router, in which the two are as many and at most a tenth
of a second apart; or the moved reply, and an ICMP error in which the client's refusal is already translated
back and quotes the address that the reply had before. It is an error if the client's host refused the
reply, else a warning.

Silent: where only one side of the translation was captured. That the port is another one shows there too,
as `reply-from-other-port`, but not who moved it.

## Why it happens

A rule (SNAT, MASQUERADE) rewrites the reply's source to the address that the client asked. The tuple that
this makes belongs to the conntrack entry of the request already, so the translation takes another port.
Rewriting helps only if conntrack does not follow the request (NOTRACK in the raw table, incoming only).

## Example

    at the client   172.17.0.3:38908 > 172.16.13.13:56789 UDP, 6 bytes
    at the server   172.17.0.1:56789 > 172.17.0.3:38908 UDP, 6 bytes
    at the client   172.16.13.13:1024 > 172.17.0.3:38908 UDP, 6 bytes
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udpkit.diagnosis.errors import known
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.services import OTHER_PORT
from udpkit.diagnosis.translations import before_translation, refusals_by_client
from udpkit.facts import Case, Conversation, Endpoint, Errors, Flow, Reference

CODE = "nat-moved-port"


def find(case: Case) -> Iterator[Finding]:
    for one in case.conversations:
        if one.replies or not one.strays or one.server.port in OTHER_PORT:
            continue
        for moved, flow in one.strays.items():
            if before := before_translation(one, moved):
                yield _finding(one, moved, flow, *before)


def _finding(one: Conversation, moved: Endpoint, flow: Flow, before: Endpoint, seen: Reference) -> Finding:
    refusals: Sequence[Errors] = refusals_by_client(one)
    outcome = f"{one.client.address} refused it" if refusals else "it never asked that one"
    return Finding(
        code=CODE,
        severity="error" if refusals else "warning",
        summary=f"{known(one.client)} asked {one.server}; the reply left as {before} and was translated to "
        f"{moved}, another port: {outcome}.",
        client=one.client,
        server=one.server,
        actual=moved,
        process=None,
        count=flow.count,
        first=flow.first.time_ns,
        last=flow.last.time_ns,
        why=[
            "nf_conntrack_in() on the translating host: the request made an entry that holds the tuple "
            f"{one.server} to {known(one.client)} for its replies.",
            f"nf_nat_setup_info() there: the reply from {before} belongs to no entry, so a rule rewrote its "
            f"source to {one.server.address} as if it were a new flow.",
            f"nf_nat_l4proto_unique_tuple() there: port {one.server.port} would have made the tuple of the "
            f"first entry, so it took {moved.port}.",
        ],
        evidence=[
            *([one.requests.first.seen] if one.requests else []),
            seen,
            flow.first.seen,
            *(each.first.seen for each in refusals),
        ],
    )
