"""A server that should answer does not, and nothing says why.

## What it sees

A client asked at least twice, over a second or more, and neither an answer nor an ICMP error came, although
what comes to that client is in the capture (or the server's answers to others are), the capture went on for
two seconds, and the protocol answers: by its port it is one that does (DNS, NTP, SNMP, RADIUS, SIP, QUIC,
…), or the server answered others.

In a log of strace: a program asked a port of such a protocol, poll() or select() then waited a second or more
in vain, and neither an answer from there nor an error is in the log. A note for fewer than three requests.

Silent: for protocols in which nobody answers (syslog, SNMP traps, statsd, NetFlow, sFlow, RTP, tunnels),
requests to multicast or broadcast, peers that use one port on both sides, keepalives of a few bytes, port
scans, peer-to-peer programs (which ask from the port that is asked, too), protocols that answer from another
port (TFTP), captures that are damaged, have no times, or saw one direction only.

## Why it happens

Something drops the datagrams without a word: a firewall with DROP, the server's full receive buffer,
rp_filter, a stale conntrack entry; or the program reads them and does not like them (a wrong community or
secret). Or the answer was sent and lost on the way. A drop looks like success to the sender. `udpkit check`
on the server, and `udpkit watch` there, tell these apart.

## Example

    10.0.0.9:40000 > 10.0.0.1:53 UDP, 28 bytes
    10.0.0.9:40000 > 10.0.0.1:53 UDP, 28 bytes   5 seconds later
"""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.errors import known
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.services import ANSWERING, ONE_WAY, SPECULATIVE, is_group, is_service
from udpkit.diagnosis.shapes import Shapes, shapes
from udpkit.diagnosis.traced_silence import CODE, waited_in_vain
from udpkit.diagnosis.why import first_and_last
from udpkit.facts import Case, Conversation, Flow
from udpkit.kernel.functions import FUNCTIONS

SPREAD_NS = 1_000_000_000
"""Between the first and the last request."""
PATIENCE_NS = 2_000_000_000
"""How long the capture goes on after the last request."""
KEEPALIVE = 4
"""Bytes: IKE sends one (RFC 3948, section 2.3), SIP two or four (RFC 5626, section 4.4.1)."""
SAME_PORT = {500}
"""IKE asks from its own port, and is answered (RFC 7296, section 2)."""
FIRST_PACKET = {443: 1200, 853: 1200}
"""Bytes at least that QUIC begins with (RFC 9000, section 14.1): what is shorter goes on with something."""


def find(case: Case) -> Iterator[Finding]:
    yield from waited_in_vain(case)
    seen_shapes = shapes(case)
    asking = {one.client for one in case.conversations}
    for one in case.conversations:
        requests = one.requests
        if one.server in asking and one.server.port not in ANSWERING:
            continue  # among peers, this may be the answer
        if requests and _is_sure(case, one, requests, seen_shapes):
            yield _finding(one, requests)


def _is_sure(case: Case, one: Conversation, requests: Flow, seen_shapes: Shapes) -> bool:
    return (
        not (one.replies or one.strays or one.errors or requests.bad_checksums or requests.lost_fragments)
        and (one.client_hears or one.answers_others)
        and requests.count >= 2
        and _answers(one, requests)
        and requests.largest > KEEPALIVE
        and not (seen_shapes.sweeps(one) or seen_shapes.among_peers(one))
        and _waited(case, requests)
    )


def _answers(one: Conversation, requests: Flow) -> bool:
    """Would a server answer this?"""
    client, server = one.client, one.server
    if is_group(server.address) or server.port in ONE_WAY or server.port in SPECULATIVE:
        return False
    if client.port == server.port:
        return server.port in SAME_PORT
    if is_service(client.port):
        return False  # this may be the answer, and its question was not captured
    return one.answers_others or (
        server.port in ANSWERING and requests.largest >= FIRST_PACKET.get(server.port, 0)
    )


def _waited(case: Case, requests: Flow) -> bool:
    """Was there time for an answer, and was the capture still there to see it?"""
    first, last, number = requests.first.time_ns, requests.last.time_ns, requests.last.seen.source
    source = case.sources[number] if number < len(case.sources) else None
    if first is None or last is None or source is None or source.last_ns is None or source.damage:
        return False
    return last - first >= SPREAD_NS and source.last_ns - last >= PATIENCE_NS


def _finding(one: Conversation, requests: Flow) -> Finding:
    functions = FUNCTIONS[one.server.address.version]
    protocol = ANSWERING.get(one.server.port)
    expected = f"{protocol} answers" if protocol else "it answers others"
    return Finding(
        code=CODE,
        severity="warning",
        summary=f"{known(one.client)} asked {one.server} {requests.count} times and got neither an answer "
        f"nor an error, though {expected}.",
        client=one.client,
        server=one.server,
        actual=None,
        process=None,
        count=requests.count,
        first=requests.first.time_ns,
        last=requests.last.time_ns,
        why=[
            f"{functions.refuse} on the server: had no socket taken the datagrams, it would have answered "
            "port unreachable; nothing of the kind came back.",
            f"{functions.receive} on the server: either it never got them (a firewall's DROP in "
            f"nf_hook_slow(), {_rp_filter(one)}a loss on the way), or a socket took them and the program "
            "did not answer, or the answer was dropped in the same ways.",
        ],
        evidence=first_and_last([requests]),
    )


def _rp_filter(one: Conversation) -> str:
    return "rp_filter in fib_validate_source(), " if one.server.address.version == 4 else ""
