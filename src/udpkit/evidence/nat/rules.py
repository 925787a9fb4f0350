"""Where NAT rules would send a new flow.

Theory of operation. The first rule that translates a flow's destination decides for all its datagrams. Rules
are walked as the kernel walks them, but with three truths: what a rule matches on may be known to hold, known
not to hold, or unknown (sets, marks, chance, a syntax that is not understood here). Of the unknown both is
followed. So the outcome is a set that has at least what the kernel may do; only what is not in it is certain.

Where there is no chain of type nat, the kernel translates nothing, not even by old entries: its hooks come
and go with those chains (nf_nat_register_fn()). iptables-nft makes such a chain with its first rule, takes it
away with its last, and always lists it; so one without rules counts as none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from udpkit.facts import Address, Endpoint

FAMILIES = {"ip": frozenset({4}), "ip6": frozenset({6}), "inet": frozenset({4, 6})}
"""IP versions by the families of nftables."""
DEEPEST = 16
"""Chains that call one another; the kernel allows as many in nftables."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The first datagram of a flow, as it comes in; `interface` is None where it is not known.

    `to_host`: its destination is an address of the host. `from_host`: its source is one.
    """

    source: Endpoint
    destination: Endpoint
    interface: str | None
    to_host: bool
    from_host: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Where a rule sends a flow. Without addresses the address stays, without ports the port.

    `to_host`: to an address of the host itself (REDIRECT).
    """

    addresses: tuple[Address, Address] | None = None
    ports: range | None = None
    to_host: bool = False

    def may_be(self, target: Endpoint, asked: Endpoint, own: Iterable[Address]) -> bool:
        """Whether a flow to `asked` that this rule translates may go to `target`."""
        if target.port not in (self.ports or [asked.port]):
            return False
        if self.to_host:
            return target.address.is_loopback or target.address in own
        if self.addresses is None:
            return target.address == asked.address
        first, last = self.addresses
        return target.address.version == first.version and int(first) <= int(target.address) <= int(last)

    def __str__(self) -> str:
        if self.to_host:
            return f"port {self.ports[0]} of this host" if self.ports else "this host"
        address = str(self.addresses[0]) if self.addresses else "the same address"
        if not self.ports:
            return address
        return f"[{address}]:{self.ports[0]}" if ":" in address else f"{address}:{self.ports[0]}"


Outcome = Target | Literal["unchanged", "anywhere"]

Condition = Callable[[Flow], bool | None]
"""True, False, or None where it cannot be known."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What it takes, and what it does: translate, call a chain, end this one, or end the walk.

    `translate` has a `target`; `anywhere` may do what is not understood here. `call` goes to a `chain` and
    comes back from its end, `leave` does not. A rule that does nothing to us is not kept.
    """

    conditions: Sequence[Condition]
    verdict: Literal["translate", "call", "leave", "return", "accept", "anywhere"]
    target: Target | None = None
    chain: str = ""
    ports: range | None = None
    """Destination ports that it is about, where it names them."""

    def takes(self, flow: Flow) -> bool | None:
        answers = [condition(flow) for condition in self.conditions]
        return False if False in answers else None if None in answers else True


@dataclass(slots=True)
class RuleSet:
    """Chains by name, and which of them the kernel calls for flows that come in, and for the host's own."""

    chains: dict[str, list[Rule]] = field(default_factory=dict)
    incoming: list[tuple[str, frozenset[int]]] = field(default_factory=list)
    outgoing: list[tuple[str, frozenset[int]]] = field(default_factory=list)
    """With the IP versions that they are called for."""
    translated: set[int] = field(default_factory=set)
    """IP versions for which there is a chain of type nat, so that entries are obeyed."""
    sources: list[Target] = field(default_factory=list)
    """Where SNAT rules put sources."""
    unknown_sources: bool = False

    def outcomes(self, flow: Flow) -> set[Outcome]:
        """All that may become of a new flow."""
        if flow.destination.address.version != flow.source.address.version:
            return {"anywhere"}
        bases = [
            name
            for name, versions in (self.outgoing if flow.from_host else self.incoming)
            if flow.source.address.version in versions
        ]
        if flow.source.address.version not in self.translated:
            return {"anywhere"}
        found: set[Outcome] = set()
        unchanged = True
        for base in bases:
            outcomes, goes_on = self._walk(base, flow, 0)
            found |= outcomes
            unchanged &= goes_on or "unchanged" in outcomes
        found.discard("unchanged")
        return found | {"unchanged"} if unchanged else found

    def _walk(self, chain: str, flow: Flow, depth: int) -> tuple[set[Outcome], bool]:
        """(what may become of the flow in this chain, whether it may come out of it at the end)."""
        if depth > DEEPEST:
            return {"anywhere"}, True
        found: set[Outcome] = set()
        for rule in self.chains.get(chain, ()):
            takes = rule.takes(flow)
            if takes is False:
                continue
            comes_back = False
            match rule.verdict:
                case "translate":
                    found.add(rule.target or "anywhere")
                case "anywhere":
                    found.add("anywhere")
                    comes_back = True
                case "accept":
                    found.add("unchanged")
                case "return":
                    if takes:
                        return found, True
                    comes_back = True
                case "call" | "leave":
                    inner, through = self._walk(rule.chain, flow, depth + 1)
                    found |= inner
                    if takes and through and rule.verdict == "leave":
                        return found, True
                    comes_back = through
            if takes and not comes_back:
                return found, False
        return found, True

    def ports(self) -> list[range] | None:
        """The destination ports of rules that translate; None if one of them does not say.

        Only of chains that the kernel comes to for NAT: nft also lists those that filter.
        """
        named: list[range] = []
        left, seen = [name for name, _ in (*self.incoming, *self.outgoing)], set[str]()
        while left:
            if (chain := left.pop()) in seen:
                continue
            seen.add(chain)
            for rule in self.chains.get(chain, ()):
                left.append(rule.chain)
                if rule.verdict in ("translate", "anywhere"):
                    if rule.ports is None:
                        return None
                    named.append(rule.ports)
        return named


def unknown(_: Flow) -> None:
    """A condition that is not understood, or that a look from outside does not tell."""


def negation(condition: Condition) -> Condition:
    def negated(flow: Flow) -> bool | None:
        answer = condition(flow)
        return None if answer is None else not answer

    return negated
