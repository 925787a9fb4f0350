"""A server leaves the source of its replies to the routes, which some clients will not expect.

## What it sees

On a live host (`udpkit check`): an unconnected socket on a wildcard address, whose options were read and
have no IP_PKTINFO (IPv6: IPV6_RECVPKTINFO), so that its program cannot know which address a datagram was
for. For a client in each network that the host has a route to, the kernel was asked which source the reply
would have. There is a finding for each of the host's addresses that such a client may ask, and that is not
that source.

A client in a connected network may ask all of the host's addresses, loopback and link-local ones apart. A
client behind a router may ask those that routers can lead to: global ones, those of the interface that the
reply leaves through, those of other interfaces with a router, and those without a subnet.

Only a note: for a program that binds each address, too, and has one of them missing; and for a port among
those that the kernel gives to clients, unless the program's command line names it.

Silent: sockets whose options are unknown; where another socket, bound to the address or the interface, takes
the datagram; connected sockets; sockets with a mark (SO_MARK), which other routes may be for; ports that NAT
rules translate; ports on which one asks a group of hosts, or nobody answers, or the answer's source does not
matter (mDNS, SSDP, LLMNR, DHCP, NetBIOS, syslog, SNMP traps).

In a log of strace: a socket on a wildcard address that got a datagram from a client, and answered with
sendto(), or with sendmsg() and no control message that chooses a source (IP_PKTINFO, IPV6_PKTINFO). The
answer is right on a host with one address, and for clients that ask the address which their route prefers;
on others it comes from an address that was not asked. That is also so where the program asks which address
was meant, and then answers without it.

Silent there: where the control message has a source, even if the log does not show which, or the log does
not show control messages at all; sockets that are bound to an address or a device, connected, or members of a
group; where a capture shows that the answer came from another address than the one that was asked, which is
told instead (`reply-from-other-address`); where the program wrote first, so that it is the client; where both
sides use the same port (NTP, SIP); DHCP, NetBIOS, SSDP, WS-Discovery, mDNS and LLMNR, which are asked by
broadcast or multicast; and link-local clients.

## Why it happens

A wildcard-bound socket has no source address of its own. sendto(2) leaves it to the route to the client, and
that prefers an address of the interface through which the reply leaves, whatever address the client asked. A
connected client does not hear such a reply; its host refuses it with ICMP port unreachable.

## Example

    0.0.0.0:53 of server[7], without IP_PKTINFO
    clients in 172.17.0.0/16 that ask 172.16.13.13:53 will be answered from 172.17.0.1:53

    bind(4, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("0.0.0.0")}, 16) = 0
    recvfrom(4, …, {sa_family=AF_INET, sin_port=htons(40000), sin_addr=inet_addr("172.17.0.3")}, [16]) = 28
    sendto(4, …, {sa_family=AF_INET, sin_port=htons(40000), sin_addr=inet_addr("172.17.0.3")}, 16) = 44
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from udpkit.diagnosis.finding import Finding, Severity
from udpkit.diagnosis.services import ASKED_AS_GROUP
from udpkit.diagnosis.traced_answers import CODE, answered_without_source
from udpkit.facts import Address, Case, Endpoint, HostState, LocalAddress, SocketEntry, SourceChoice
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.lookup import mismatch, score
from udpkit.kernel.options import TELLS_ADDRESS

__all__ = ["CODE", "find"]

SOURCE_IS_FREE = ASKED_AS_GROUP | {162, 514}
"""Ports on which the source of an answer does not matter; to SNMP traps and syslog there is none."""

MOST_PORTS = 16
"""Sockets of a program that are alike and get findings of their own; of more, one finding for all."""
MOST_ADDRESSES = 32
"""Of one socket: pairs of networks and addresses with findings of their own; else one for each network."""
CLIENT_PORT = 40000
"""Of the client that stands for all. Any will do: only connected sockets look at it."""


@dataclass(frozen=True, slots=True)
class Hit:
    """Clients in the network of `choice` that ask `asked` are answered from its source."""

    choice: SourceChoice
    asked: Address


class Kind(NamedTuple):
    """What sockets have in common that are told together; `holder` is a process, else the socket itself."""

    holder: int | None
    local: Address
    severity: Severity
    hits: tuple[Hit, ...]


def find(case: Case) -> Iterator[Finding]:
    yield from _of_hosts(case)
    yield from answered_without_source(case)


def _of_hosts(case: Case) -> Iterator[Finding]:
    for host in case.hosts:
        tables = [table for table in case.tables if table.host == host.name]
        pairs = [
            Hit(choice, one.address)
            for choice in host.choices
            for one in host.addresses
            if _may_ask(choice, one, host) and one.address != choice.source
        ]
        if tables and pairs:
            yield from _of_host(host, tables[-1].entries, pairs)


def _may_ask(choice: SourceChoice, one: LocalAddress, host: HostState) -> bool:
    """Whether a client in the network may ask this address of the host's."""
    address = one.address
    if address.version != choice.source.version or address.is_loopback or address.is_link_local:
        return False
    if choice.connected or address.is_global or one.interface == choice.interface:
        return True
    return one.interface in host.uplinks or one.network.num_addresses == 1


def _of_host(host: HostState, entries: Sequence[SocketEntry], pairs: Sequence[Hit]) -> Iterator[Finding]:
    by_port: dict[int, list[SocketEntry]] = defaultdict(list)
    for entry in entries:
        by_port[entry.local.port].append(entry)
    alike: dict[Kind, list[SocketEntry]] = defaultdict(list)
    alone: dict[object, tuple[Hit, ...]] = {}  # of sockets that share their port with none: there may be many
    for port, neighbours in by_port.items():
        if port in SOURCE_IS_FREE or _may_be_translated(host, port):
            continue
        for entry in filter(_is_server, neighbours):
            like = entry.local.address, entry.device, *entry.options.items()
            hits = alone.get(like) if len(neighbours) == 1 else None
            if hits is None:
                hits = tuple(hit for hit in pairs if _is_hit(entry, hit, neighbours))
            if len(neighbours) == 1:
                alone[like] = hits
            if hits:
                kind = Kind(
                    entry.pid or entry.inode, entry.local.address, _severity(host, entry, neighbours), hits
                )
                alike[kind].append(entry)
    for kind, entries_of_kind in alike.items():
        one_each = {entry.local.port: entry for entry in reversed(entries_of_kind)}
        sockets = [one_each[port] for port in sorted(one_each)]
        together = len(sockets) > (MOST_PORTS if kind.severity == "warning" else 1)
        for group in [sockets] if together else [[one] for one in sockets]:
            yield from _findings(host, group, kind)


def _may_be_translated(host: HostState, port: int) -> bool:
    return host.translated is None or any(port in ports for ports in host.translated)


def _is_server(entry: SocketEntry) -> bool:
    """It waits for strangers on all addresses, and its options are known."""
    return (
        entry.peer is None
        and entry.local.address in (IPv4Address(0), IPv6Address(0))
        and "IP_PKTINFO" in entry.options
        and not entry.options.get("SO_MARK")
    )


def _is_hit(entry: SocketEntry, hit: Hit, neighbours: Sequence[SocketEntry]) -> bool:
    """The socket takes what such a client sends to the address, and does not learn the address."""
    if any(entry.options.get(name) for name in TELLS_ADDRESS[hit.asked.version]):
        return False
    source = Endpoint(hit.choice.asked, CLIENT_PORT)
    destination = Endpoint(hit.asked, entry.local.port)

    def takes(other: SocketEntry) -> bool:
        on_interface = other.device in ("", hit.choice.interface)
        return on_interface and other.peer is None and mismatch(other, source, destination) is None

    if not takes(entry):
        return False
    best = score(entry, source)
    return all(score(other, source) <= best for other in neighbours if takes(other))


def _severity(host: HostState, entry: SocketEntry, neighbours: Sequence[SocketEntry]) -> Severity:
    low, high = host.client_ports
    if low <= entry.local.port <= high and not entry.names_port:
        return "note"
    return "note" if _binds_addresses(entry, neighbours) else "warning"


def _binds_addresses(entry: SocketEntry, neighbours: Sequence[SocketEntry]) -> bool:
    return any(
        other.pid == entry.pid
        and not other.local.address.is_unspecified
        and not other.local.address.is_loopback
        for other in neighbours
        if other.peer is None and entry.pid is not None
    )


def _findings(host: HostState, sockets: Sequence[SocketEntry], kind: Kind) -> Iterator[Finding]:
    """For each pair of network and address; for each network if that would be too many."""
    by_choice: dict[int, list[Hit]] = defaultdict(list)
    for number, hit in enumerate(kind.hits):
        by_choice[id(hit.choice) if len(kind.hits) > MOST_ADDRESSES else number].append(hit)
    for group in by_choice.values():
        yield _finding(host, sockets, group, kind.severity)


def _finding(
    host: HostState, sockets: Sequence[SocketEntry], hits: Sequence[Hit], severity: Severity
) -> Finding:
    first, choice = sockets[0], hits[0].choice
    server, actual = Endpoint(hits[0].asked, first.local.port), Endpoint(choice.source, first.local.port)
    place = first.container or host.name
    where = f" in {place}" if place else ""
    program = f"{first.process or 'unknown'}[{first.pid or '?'}]{where}"
    others = _and_more([str(hit.asked) for hit in hits[1:]], "address", "addresses")
    ports = _and_more([str(one.local.port) for one in sockets[1:]], "port", "ports")
    unsure = ""
    if severity == "note":
        low, high = host.client_ports
        unsure = (
            f" if it is a server's: the kernel gives the ports {low} to {high} to clients, too"
            if low <= first.local.port <= high
            else ", unless the program binds that address, as it does others"
        )
    functions = FUNCTIONS[server.address.version]
    option = TELLS_ADDRESS[server.address.version][0]
    return Finding(
        code=CODE,
        severity=severity,
        summary=f"{program} waits on {first.local} without {option}: clients in {choice.network} that ask "
        f"{server}{others}{ports} will be answered from {actual}{unsure}.",
        client=choice.network,
        server=server,
        actual=actual,
        process=first.process,
        count=len(sockets) * len(hits),
        first=None,
        last=None,
        why=[
            f"{functions.lookup} on the server: the socket waits on every address, so it takes what comes to "
            f"{server}; without {option} nothing tells the program that "
            f"{server.address} was asked.",
            f"{functions.route} on the server: the socket has no source address of its own, and for "
            f"{choice.asked} the route through {choice.interface} chooses {choice.source}.",
            f"{functions.lookup} on the client: a socket that is connected to {server} does not take what "
            f"comes from {actual}.",
        ],
        evidence=[one.seen for one in sockets[:20]],
        listener=first.local,
    )


def _and_more(names: Sequence[str], one: str, several: str) -> str:
    """` (the same for …)`, bounded."""
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f" (or {one if len(names) == 1 else several} {shown})"
