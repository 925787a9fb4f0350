"""Cases made of conversations, each written in one line.

Times are in seconds; they give the order, too. An endpoint is written as `10.0.0.1:53` or `[fd00::1]:53`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from udpkit.diagnosis import Finding
from udpkit.facts import (
    Case,
    Conversation,
    Endpoint,
    Errors,
    Flow,
    HostState,
    IcmpError,
    LocalAddress,
    Moment,
    Reference,
    SocketEntry,
    SocketTable,
    Source,
    TracedSocket,
)

SECOND = 1_000_000_000
CLIENT, SERVER, ROUTER = "10.0.0.9:40000", "10.0.0.1:7000", "10.0.0.254"
CLIENT6, SERVER6, ROUTER6 = "[fd00::9]:40000", "[fd00::1]:7000", "fd00::fe"

PACKET_RULES = [
    "bad-checksum",
    "datagram-too-big",
    "error-not-heard",
    "fragment-lost",
    "icmp-rate-limited",
    "late-reply",
    "listens-elsewhere",
    "nat-moved-port",
    "no-answer",
    "nobody-listens",
    "prohibited",
    "unreachable",
]


def at(text: str) -> Endpoint:
    address, _, port = text.rpartition(":")
    return Endpoint(ip_address(address.strip("[]")), int(port))


def moment(second: float, source: int = 0) -> Moment:
    order = round(second * 1000)
    return Moment(order, round(second * SECOND), Reference(source, packet=order + 1))


def flow(
    count: int,
    first: float = 0,
    last: float | None = None,
    *,
    largest: int = 20,
    bad: int = 0,
    lost: int = 0,
    source: int = 0,
) -> Flow:
    last = first if last is None else last
    return Flow(count, moment(first, source), moment(last, source), largest, bad, lost)


def icmp(
    kind: tuple[int, int],
    quoted: tuple[str, str],
    *,
    by: str | None = None,
    count: int = 1,
    first: float = 0.01,
    last: float | None = None,
    mtu: int | None = None,
) -> Errors:
    """Errors of one type and code about a datagram, sent `by` its destination unless told otherwise."""
    source, destination = at(quoted[0]), at(quoted[1])
    sender = ip_address(by) if by else destination.address
    begin, end = moment(first), moment(first if last is None else last)
    error = IcmpError(
        begin.seen, begin.time_ns or 0, sender, source.address, *kind, source, destination, mtu=mtu
    )
    return Errors(error, count, begin, end)


def refused(source: str = CLIENT, destination: str = SERVER, **rest: object) -> Errors:
    """Port unreachable."""
    version = at(destination).address.version
    return icmp((3, 3) if version == 4 else (1, 4), (source, destination), **rest)  # type: ignore[arg-type]


def talk(
    client: str = CLIENT,
    server: str = SERVER,
    requests: Flow | None = None,
    replies: Flow | None = None,
    *errors: Errors,
    strays: dict[str, Flow] | None = None,
    others: bool = False,
    hears: bool = False,
    also: dict[str, Flow] | None = None,
) -> Conversation:
    by = {at(source): stray for source, stray in (strays or {}).items()}
    answered = {at(other): flow for other, flow in (also or {}).items()}
    others = others or bool(answered)
    return Conversation(at(client), at(server), requests, replies, by, errors, others, hears, answered)


def socket(
    local: str, peer: str | None = None, inode: int = 7, process: str | None = None, line: int = 2
) -> SocketEntry:
    return SocketEntry(Reference(1, line=line), at(local), at(peer) if peer else None, inode, process)


def table(*entries: SocketEntry, when: float | None = None, host: str = "") -> SocketTable:
    return SocketTable(entries, None if when is None else round(when * SECOND), host)


def host(name: str, *addresses: str) -> HostState:

    return HostState(name, [LocalAddress(ip_address(one), ip_network(one), "eth0") for one in addresses])


def case(
    *conversations: Conversation,
    tables: Sequence[SocketTable] = (),
    hosts: Sequence[HostState] = (),
    traces: Sequence[TracedSocket] = (),
    until: float | None = 100,
    damage: Sequence[str] = (),
) -> Case:
    """`until`: when the capture ends."""
    last_ns = None if until is None else round(until * SECOND)
    source = Source("x.pcap", "pcap", damage=damage, last_ns=last_ns)
    return Case([source], tables=tables, conversations=conversations, traces=traces, hosts=hosts)


def found(given: Case | Conversation) -> dict[str, Finding]:
    """What the rules of this folder's packets find, by their codes, of which each must be there once."""
    whole = given if isinstance(given, Case) else case(given)
    everything = [
        one
        for code in PACKET_RULES
        for one in importlib.import_module("udpkit.diagnosis.rules." + code.replace("-", "_")).find(whole)
    ]
    by_code = {one.code: one for one in everything}
    assert len(by_code) == len(everything), everything
    for one in everything:
        check(one)
    return by_code


def codes(given: Case | Conversation) -> list[tuple[str, str]]:
    return sorted((one.code, one.severity) for one in found(given).values())


def check(one: Finding) -> None:
    """What is true of every finding."""
    assert one.summary.endswith(".")
    assert "\n" not in one.summary
    assert ":0 " not in one.summary
    assert one.why
    assert all("()" in step for step in one.why[:1]), one.why
    assert one.evidence
    assert one.count >= 1
