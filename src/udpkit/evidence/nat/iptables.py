"""NAT rules as iptables-save(8) prints them."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Literal

from udpkit.evidence.nat.rules import Condition, Flow, Rule, RuleSet, Target, negation, unknown

HARMLESS = {"SNAT", "MASQUERADE", "MARK", "LOG", "NFLOG", "CONNMARK", "ULOG", "TRACE", ""}
"""Targets that leave the destination as it is."""
PLAIN_MODULES = {"udp", "tcp", "comment", "addrtype"}


def add_iptables(
    rules: RuleSet, text: str, prefix: str = "", versions: frozenset[int] = frozenset({4, 6})
) -> None:
    """The rules of the nat table in an output of iptables-save. prefix: keeps chains of several apart."""
    in_nat = False
    hooks = {"PREROUTING": rules.incoming, "OUTPUT": rules.outgoing, "INPUT": None, "POSTROUTING": None}
    for line in text.splitlines():
        if line.startswith("*"):
            in_nat = line.strip() == "*nat"
        elif in_nat and line.startswith(":"):
            rules.chains.setdefault(prefix + line[1:].partition(" ")[0], [])
        elif in_nat and line.startswith("-A "):
            try:
                words = shlex.split(line)
            except ValueError:
                words = [*line.split()[:2], "-j", "?"]
            if len(words) > 1:
                rules.translated |= versions if words[1] in hooks else set()
                _Iptables(rules, prefix, words).add()
    for hook, bases in hooks.items():
        if bases is not None and rules.chains.get(prefix + hook):
            bases.append((prefix + hook, versions))


class _Iptables:
    """One line of iptables-save."""

    def __init__(self, rules: RuleSet, prefix: str, words: Sequence[str]) -> None:
        self.rules, self.prefix = rules, prefix
        self.chain = prefix + words[1]
        self.words = words[2:]
        self.conditions: list[Condition] = []
        self.jump, self.verb = "", ""
        self.to = ""
        self.ports: range | None = None

    def add(self) -> None:
        position, negated = 0, False
        while position < len(self.words):
            word = self.words[position]
            if word == "!":
                negated, position = True, position + 1
                continue
            values: list[str] = []
            while (
                position + 1 + len(values) < len(self.words)
                and (one := self.words[position + 1 + len(values)]) != "!"
                and not (one.startswith("-") and len(one) > 1 and not one[1].isdecimal())
            ):
                values.append(one)
            self.option(word, values[0] if values else "", negated=negated)
            position, negated = position + 1 + len(values), False
        if rule := self.rule():
            self.rules.chains.setdefault(self.chain, []).append(rule)

    def option(self, word: str, value: str, *, negated: bool) -> None:
        match word:
            case "-j" | "-g":
                self.verb, self.jump = word, value
            case "--to-destination" | "--to-ports" | "--to-source":
                self.to = value
            case "-m" if value in PLAIN_MODULES:
                pass
            case "--comment" | "--random" | "--persistent" | "--random-fully":
                pass
            case _:
                try:
                    condition = self.condition(word, value, negated=negated)
                except ValueError:
                    condition = unknown
                self.conditions.append(negation(condition) if negated else condition)

    def condition(self, word: str, value: str, *, negated: bool) -> Condition:
        """Raises ValueError for what is not understood."""
        match word:
            case "-s" | "-d":
                network = ip_network(value, strict=False)
                return lambda flow: (flow.source if word == "-s" else flow.destination).address in network
            case "-i":
                return functools.partial(_on_interface, name=value)
            case "-p":
                return lambda _: value in ("udp", "17", "all")
            case "--dport" | "--sport":
                ports = _ports(value, ":")
                if word == "--dport":
                    self.ports = None if negated else ports
                return lambda flow: (flow.source if word == "--sport" else flow.destination).port in ports
            case "--dst-type" if value == "LOCAL":
                return lambda flow: flow.to_host
        raise ValueError(word)

    def rule(self) -> Rule | None:
        target: Target | None = None
        if self.jump in ("DNAT", "REDIRECT"):
            with suppress(ValueError):
                target = _redirected(self.to) if self.jump == "REDIRECT" else _translated(self.to)
            verdict: Literal["translate", "anywhere"] = "translate" if target else "anywhere"
            return Rule(self.conditions, verdict, target, ports=self.ports)
        if self.jump == "SNAT":
            try:
                self.rules.sources.append(_translated(self.to))
            except ValueError:
                self.rules.unknown_sources = True
        if self.jump in HARMLESS:
            return None
        if self.jump == "ACCEPT":
            return Rule(self.conditions, "accept")
        if self.jump == "RETURN":
            return Rule(self.conditions, "return")
        if self.prefix + self.jump in self.rules.chains:
            verb: Literal["call", "leave"] = "call" if self.verb == "-j" else "leave"
            return Rule(self.conditions, verb, chain=self.prefix + self.jump)
        self.rules.unknown_sources = True
        return Rule(self.conditions, "anywhere", ports=self.ports)


def _on_interface(flow: Flow, *, name: str) -> bool | None:
    if flow.interface is None:
        return None
    return flow.interface.startswith(name[:-1]) if name.endswith("+") else flow.interface == name


def _ports(text: str, dash: str) -> range:
    """`53`, `1000:2000`. Raises ValueError."""
    first, _, last = text.partition(dash)
    return range(int(first), int(last or first) + 1)


def _translated(text: str) -> Target:
    """`10.0.0.1`, `10.0.0.1-10.0.0.9:53-55`, `:53`, `[fd00::1]:53`. Raises ValueError."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") > 1:
        address, port = text, ""
    else:
        address, _, port = text.partition(":")
    first, _, last = address.partition("-")
    addresses = (ip_address(first), ip_address(last or first)) if address else None
    return Target(addresses, _ports(port, "-") if port else None)


def _redirected(text: str) -> Target:
    return Target(ports=_ports(text, "-") if text else None, to_host=True)
