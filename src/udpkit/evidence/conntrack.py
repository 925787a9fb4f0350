"""Conntrack entries of UDP flows that no longer fit the host: its NAT rules, its addresses, who is alive.

Theory of operation. NAT decides once for each flow, at its first datagram, and conntrack keeps the decision
as long as datagrams come. An entry is stale if a new flow with its addresses would certainly be treated
otherwise (`nat.rules`), and nobody answers on it: it was never answered, or where it leads nobody can be
reached. An entry whose source was translated to an address that the host has lost is stale, since answers to
that address do not come here any more.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from udpkit.evidence.nat.rules import Flow, RuleSet, Target
from udpkit.evidence.programs import find, output
from udpkit.evidence.routes import interfaces_to, neighbours_that_fail
from udpkit.facts import Address, Endpoint, StaleEntry

TABLE = Path("/proc/thread-self/net/nf_conntrack")
MOST_ENTRIES = 1_000_000
"""Lines that are looked at."""

ENDS = r"src=(\S{2,45}) dst=(\S{2,45}) sport=(\d{1,5}) dport=(\d{1,5})"
ZONE = re.compile(r" zone(?:-orig|-reply)?=[1-9]")
TUPLES = re.compile(rf"{ENDS}(?: packets=\d+ bytes=\d+)? (\[UNREPLIED\] )?{ENDS}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """One flow: who asked whom, who is to answer in truth, and to what address."""

    client: Endpoint
    server: Endpoint
    target: Endpoint
    answers_to: Endpoint
    replied: bool


def read_entries() -> list[Entry] | None:
    """Those of the calling thread's namespace, without zones; None if they cannot be read.

    From /proc, where the kernel has that, else from conntrack(8).
    """
    with suppress(OSError):
        return list(parse_entries(TABLE.read_text(errors="replace")))
    conntrack = find("conntrack")
    if conntrack is None:
        return None
    texts: list[str] = []
    for family in ("ipv4", "ipv6"):
        text = output(conntrack, "-L", "-p", "udp", "-f", family, "-o", "extended")
        if text is None:
            return None
        texts.append(text)
    return list(parse_entries("".join(texts)))


def parse_entries(text: str) -> Iterator[Entry]:
    """The UDP entries in the text of nf_conntrack or `conntrack -L -o extended`."""
    for line in text.splitlines()[:MOST_ENTRIES]:
        words = line.split(maxsplit=3)
        if len(words) < 4 or words[2] != "udp" or ZONE.search(line):
            continue
        if told := TUPLES.search(line):
            with suppress(ValueError):
                client, server, target, answers_to = (
                    Endpoint(ip_address(told[address]), int(told[port]))
                    for address, port in ((1, 3), (2, 4), (6, 8), (7, 9))
                )
                yield Entry(client, server, target, answers_to, replied=told[5] is None)


def stale_entries(
    entries: Sequence[Entry], rules: RuleSet, own: Collection[Address], open_ports: Collection[int]
) -> list[StaleEntry]:
    """Those that are certainly stale. own: the host's addresses; open_ports: where it has UDP sockets.

    Asks ip(8) about those that the rules speak against. Raises NoIp.
    """
    doubtful: list[tuple[Entry, str]] = []
    ports = rules.ports()
    interfaces: Mapping[Address, str] = {}
    if any(rules.chains.values()):
        interfaces = interfaces_to({entry.client.address for entry in entries} - set(own))
    stale: list[StaleEntry] = []
    for entry in entries:
        if entry.target == entry.server and entry.answers_to == entry.client and not _named(entry, ports):
            continue  # most are so
        if lost := _lost_source(entry, rules, own):
            stale.append(StaleEntry(entry.client, entry.server, entry.target, lost))
        elif reason := _contradiction(entry, rules, own, interfaces.get(entry.client.address)):
            doubtful.append((entry, reason))
    if doubtful:
        stale += _unanswered(doubtful, own, open_ports)
    return stale


def _unanswered(
    doubtful: Sequence[tuple[Entry, str]], own: Collection[Address], open_ports: Collection[int]
) -> Iterator[StaleEntry]:
    """Those on which nobody answers, with what the rules say of them. Raises NoIp."""
    reached = interfaces_to({entry.target.address for entry, _ in doubtful} - set(own))
    failing = neighbours_that_fail()
    for entry, reason in doubtful:
        address, nobody = entry.target.address, ""
        if not entry.replied:
            nobody = f"{entry.target} never answered"
        elif address in own or address.is_loopback:
            nobody = "" if entry.target.port in open_ports else f"nothing listens on {entry.target}"
        elif address not in reached or address in failing:
            nobody = f"{address} cannot be reached"
        if nobody:
            yield StaleEntry(entry.client, entry.server, entry.target, f"{reason}, and {nobody}")


def _named(entry: Entry, ports: Sequence[range] | None) -> bool:
    """Whether a rule may translate what goes to this port."""
    return ports is None or any(entry.server.port in one for one in ports)


def _contradiction(entry: Entry, rules: RuleSet, own: Collection[Address], interface: str | None) -> str:
    """What the rules would do instead, in words; empty if they may do the same."""
    to_host = entry.server.address in own or entry.server.address.is_loopback
    from_host = entry.client.address in own or entry.client.address.is_loopback
    if entry.server.address.is_multicast:
        return ""
    outcomes = rules.outcomes(Flow(entry.client, entry.server, interface, to_host, from_host))
    translated = entry.target != entry.server
    if "anywhere" in outcomes or (not translated and "unchanged" in outcomes):
        return ""
    targets = [one for one in outcomes if isinstance(one, Target)]
    if translated and any(one.may_be(entry.target, entry.server, own) for one in targets):
        return ""
    if not targets:
        return f"no NAT rule sends {entry.server} to {entry.target} any more"
    if not translated and any(one.may_be(entry.server, entry.server, own) for one in targets):
        return ""
    instead = " or ".join(sorted(map(str, targets)))
    return f"the NAT rules send {entry.server} to {instead} now"


def _lost_source(entry: Entry, rules: RuleSet, own: Collection[Address]) -> str:
    """Set if answers go to an address that the host translated to, and does not have any more."""
    to = entry.answers_to
    if to.address == entry.client.address or to.address in own or to.address.is_loopback:
        return ""
    if to.address.version not in rules.translated:
        return ""
    if rules.unknown_sources or any(one.may_be(to, to, own) for one in rules.sources):
        return ""
    if any(one.addresses is None for one in rules.sources):
        return ""
    return f"its source was translated to {to.address}, an address that this host does not have any more"
