"""What a fix is, and how its words are fitted to a finding."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from udpkit.diagnosis import Finding, Offer
from udpkit.diagnosis.services import is_group
from udpkit.facts import Address, Endpoint, Network

PLACEHOLDER = re.compile(r"\{(\{[a-z_][a-z0-9_]*\})\}|\{([a-z_][a-z0-9_]*)\}")

PROCESS = re.compile(r"\[([0-9]{1,10})\]$")

ELSEWHERE = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
"""What stands for a client anywhere (RFC 5737, RFC 3849)."""
EVERYWHERE = 1232
"""Bytes of payload: the least MTU of IPv6, 1280, less the headers."""
SOME = 8
"""Addresses of a network that are looked at for one that is not the host's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How to ask the kernel whether a command did its work: a shell line that succeeds and prints `wants`.

    `wants` is a regular expression, with placeholders that stand for themselves. With `gone` it is what the
    line printed before, and must not print any more.
    """

    asks: str
    wants: str = ""
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One remedy. Its id is its file's name, with dashes.

    Its texts may hold placeholders: see `values`. `commands` are shell lines for the server's host, `undo`
    takes them back, `checks` ask for each whether it is in place. `remembers` has shell lines by name, to
    run before; what they print is a placeholder of that name. After applying and after undoing run those of
    `settle`, which may fail, so that flows that exist follow. `once` names what can be changed only once at
    a time; `local` the placeholders that must be addresses of the host.

    A fix that changes the program instead has `advice` for people, and in `servers` and `clients` what takes
    the place of an exchange's programs, None where it has no meaning. `otherwise` is the text where a finding
    lacks what `advice` names; `known` says it in the words of the finding's program, None for programs that
    it does not know. What is `folklore` is passed on in articles and fails: it is tried, but never offered.
    `asked`: it is for what one server was asked itself, what a group of hosts was (multicast, broadcast), or
    what a server was behind a NAT (`Finding.translated`), or what one was that hears another client only
    (`Finding.second`).
    `for_notes`: there is something to do even if the finding is only a note.
    """

    title: str
    codes: frozenset[str]
    tradeoff: str
    commands: Sequence[str] = ()
    undo: Sequence[str] = ()
    checks: Sequence[Check] = ()
    remembers: Mapping[str, str] = field(default_factory=dict)
    settle: Sequence[str] = ()
    once: str = ""
    local: Sequence[str] = ()
    advice: str = ""
    otherwise: str = ""
    known: Callable[[Finding], str | None] = lambda _: None
    servers: Mapping[str, str | None] = field(default_factory=dict)
    clients: Mapping[str, str] = field(default_factory=dict)
    folklore: bool = False
    tried: bool = True
    for_notes: bool = True
    asked: Literal["one", "group", "translated", "second", "any"] = "any"

    def is_for(self, finding: Finding) -> bool:
        group = finding.server is not None and is_group(finding.server.address)
        other = "translated" if finding.translated else "second" if finding.second else "one"
        asked = "group" if group else other
        return (
            finding.code in self.codes
            and self.asked in (asked, "any")
            and (self.for_notes or finding.is_fault)
        )

    def placeholders(self, finding: Finding) -> dict[str, str]:
        """Those of the finding, and command substitutions for what is to be remembered."""
        known = values(finding)
        for name, line in self.remembers.items():
            with suppress(KeyError):
                known[name] = f"$({fill(line, known)})"
        return known

    def command(self, finding: Finding) -> str:
        """What to type or change, fitted to a finding. Raises KeyError if the finding lacks what it names."""
        return fill(self.advice or " && ".join(self.commands), self.placeholders(finding))

    def offer(self, fix_id: str, finding: Finding, *, verified: bool | None = None) -> Offer | None:
        """The fix in the finding's words; None where the finding lacks something that they name."""
        placeholders = self.placeholders(finding)
        for words in (self.advice or " && ".join(self.commands), self.otherwise):
            with suppress(KeyError):
                if words:
                    command = self.known(finding) or fill(words, placeholders)
                    return Offer(fix_id, command, fill(self.tradeoff, placeholders), verified)
        return None


def values(finding: Finding, own: Container[Address] = ()) -> dict[str, str]:
    """What the placeholders stand for. What the finding does not know is left out: a wildcard is no address
    that clients ask, and port 0 is none.

    server: what the client asked, as `address:port` or `[address]:port` · address, port: the same, apart ·
    actual: the address that answered · client: the client's address, or the network of the clients · peer:
    the client's address, or one of that network that is not among `own` · client_port: the client's port ·
    pid: of the server's process, where its name has it behind, in brackets ·
    wildcard: 0.0.0.0 or :: · anywhere: the wildcard with the port · listener: where the server waits, in
    words · iptables: iptables or ip6tables · ip: `ip` or `ip -6` · six: empty or 6, for `nc -{six}ul` ·
    family: ipv4 or ipv6 · payload: how many bytes of it to send at most · passes: why
    so many, in words.
    """
    server, actual, client = finding.server, finding.actual, finding.client
    known = {"client": str(client.address if isinstance(client, Endpoint) else client or "any client")}
    fits = finding.payload if finding.payload and finding.payload < EVERYWHERE else None
    known["payload"] = str(fits or EVERYWHERE)
    known["passes"] = "the MTU of the path takes no more" if fits else "every link of IPv6 takes that"
    known["listener"] = str(finding.listener or "all addresses")
    if isinstance(client, Endpoint):
        known["peer"] = known["client"]
    elif client and (peer := _one_of(client, own)):
        known["peer"] = str(peer)
    if isinstance(client, Endpoint) and client.port:
        known["client_port"] = str(client.port)
    if process := PROCESS.search(finding.process or ""):
        known["pid"] = process[1]
    if actual and not actual.address.is_unspecified:
        known["actual"] = str(actual.address)
    if server is None:
        return known
    six = server.address.version == 6
    wildcard = IPv6Address(0) if six else IPv4Address(0)
    known |= {
        "wildcard": str(wildcard),
        "iptables": "ip6tables" if six else "iptables",
        "ip": "ip -6" if six else "ip",
        "six": "6" if six else "",
        "family": "ipv6" if six else "ipv4",
    }
    if server.port:
        known |= {"port": str(server.port), "anywhere": str(Endpoint(wildcard, server.port))}
    if not server.address.is_unspecified:
        known |= {"address": str(server.address)}
        known.setdefault("actual", str(server.address))
    return known | ({"server": str(server)} if {"address", "port"} <= known.keys() else {})


def _one_of(network: Network, own: Container[Address]) -> Address | None:
    """The last address that is neither the network's broadcast nor the host's."""
    if network.prefixlen == 0:
        return ELSEWHERE[network.version]
    room = network.num_addresses
    candidates = range(room) if room <= 2 else range(room - 2, max(0, room - 2 - SOME), -1)
    return next((network[one] for one in candidates if network[one] not in own), None)


def fill(text: str, placeholders: Mapping[str, object]) -> str:
    """Put values in place of `{name}`, and `{name}` for `{{name}}`; other braces stay. Raises KeyError."""
    return PLACEHOLDER.sub(lambda match: match[1] or str(placeholders[match[2]]), text)
