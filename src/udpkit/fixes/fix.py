"""What a fix is, and how its words are fitted to a finding."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from udpkit.diagnosis import Finding, Offer
from udpkit.facts import Endpoint

PLACEHOLDER = re.compile(r"\{(\{[a-z_][a-z0-9_]*\})\}|\{([a-z_][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One remedy. Its id is its file's name, with dashes.

    Its texts may hold placeholders: see `values`. `commands` are shell lines for the server's host, `undo`
    takes them back. A fix that changes the program instead has `advice` for people, and in `servers` and
    `clients` what takes the place of an exchange's programs, None where it has no meaning. What is `folklore`
    is passed on in articles and fails: it is tried, but never offered.
    """

    title: str
    codes: frozenset[str]
    tradeoff: str
    commands: Sequence[str] = ()
    undo: Sequence[str] = ()
    advice: str = ""
    servers: Mapping[str, str | None] = field(default_factory=dict)
    clients: Mapping[str, str] = field(default_factory=dict)
    folklore: bool = False

    def is_for(self, finding: Finding) -> bool:
        return finding.code in self.codes

    def command(self, finding: Finding) -> str:
        """What to type or change, fitted to a finding."""
        return fill(self.advice or " && ".join(self.commands), values(finding))

    def offer(self, fix_id: str, finding: Finding, *, verified: bool | None = None) -> Offer:
        return Offer(fix_id, self.command(finding), fill(self.tradeoff, values(finding)), verified)


def values(finding: Finding) -> dict[str, str]:
    """What the placeholders stand for.

    server: what the client asked, as `address:port` or `[address]:port` · address, port: the same, apart ·
    actual: the address that answered · client: the client's address · wildcard: 0.0.0.0 or :: · anywhere: the
    wildcard with the port · iptables: iptables or ip6tables · ip: `ip` or `ip -6` · six: empty or 6, for
    `nc -{six}ul`.
    """
    six = finding.server.address.version == 6
    wildcard = IPv6Address(0) if six else IPv4Address(0)
    return {
        "server": str(finding.server),
        "address": str(finding.server.address),
        "port": str(finding.server.port),
        "actual": str((finding.actual or finding.server).address),
        "client": str(finding.client.address),
        "wildcard": str(wildcard),
        "anywhere": str(Endpoint(wildcard, finding.server.port)),
        "iptables": "ip6tables" if six else "iptables",
        "ip": "ip -6" if six else "ip",
        "six": "6" if six else "",
    }


def fill(text: str, placeholders: Mapping[str, object]) -> str:
    """Put values in place of `{name}`, and `{name}` for `{{name}}`; other braces stay. Raises KeyError."""
    return PLACEHOLDER.sub(lambda match: match[1] or str(placeholders[match[2]]), text)
