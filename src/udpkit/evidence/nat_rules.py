"""Where NAT rules would send a new flow: those of iptables (iptables-save) and of nftables (`nft -j`).

Theory of operation. The first rule that translates a flow's destination decides for all its datagrams. Rules
are walked as the kernel walks them, but with three truths: what a rule matches on may be known to hold, known
not to hold, or unknown (sets, marks, chance, a syntax that is not understood here). Of the unknown both is
followed. So the outcome is a set that has at least what the kernel may do; only what is not in it is certain.

Where there is no chain of type nat, the kernel translates nothing, not even by old entries: its hooks come
and go with those chains (nf_nat_register_fn()). iptables-nft makes such a chain with its first rule, takes it
away with its last, and always lists it; so one without rules counts as none.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal

from udpkit.facts import Address, Endpoint

SEARCH_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
PATIENCE = 20
"""Seconds that a program has to list its rules."""
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

    `goes_to` is a Target, the name of a chain (`call`, or `leave` for another one that does not come back),
    or nothing. A rule that does nothing to us is not kept.
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


def read_rules() -> RuleSet | None:
    """Those of the calling thread's namespace; None if they cannot be read, or are not all there is."""
    if _has_ipvs():
        return None
    rules = RuleSet()
    by_iptables: set[str] = set()
    for family, program in (("ip", "iptables"), ("ip6", "ip6tables")):
        for variant in _variants(family, program):
            text = _run(variant, "-t", "nat")
            if text is None:
                return None
            if "*nat" in text:
                by_iptables.add(family)
                add_iptables(rules, text, f"{Path(variant).name} ", FAMILIES[family])
    if nft := shutil.which("nft", path=SEARCH_PATH):
        text = _run(nft, "-j", "list", "ruleset")
        if text is None:
            return None
        try:
            add_nft(rules, text, by_iptables)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return None  # a syntax that is not ours
    elif not by_iptables and not shutil.which("iptables-save", path=SEARCH_PATH):
        return None
    return rules


def _variants(family: str, program: str) -> list[str]:
    """The programs that list rules without loading a module: the old kind's only where its table is there."""
    loaded = False
    with suppress(OSError):
        loaded = "nat" in Path(f"/proc/thread-self/net/{family}_tables_names").read_text().split()
    found: dict[str, str] = {}
    for name in (f"{program}-nft-save", f"{program}-legacy-save", f"{program}-save"):
        path = shutil.which(name, path=SEARCH_PATH)
        if path and (loaded or "legacy" not in os.path.realpath(path)):
            found.setdefault(f"{os.path.realpath(path)}", path)
    if any("nft" in one for one in found):  # the plain name is one of the two
        return [path for path in found.values() if "-nft-" in path or "-legacy-" in path] or list(
            found.values()
        )
    return list(found.values())


def _has_ipvs() -> bool:
    with suppress(OSError):
        return len(Path("/proc/thread-self/net/ip_vs").read_text().splitlines()) > 3
    return False


def _run(*argv: str) -> str | None:
    try:
        run = subprocess.run(argv, capture_output=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.decode(errors="replace") if run.returncode == 0 else None


# iptables-save(8).


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


HARMLESS = {"SNAT", "MASQUERADE", "MARK", "LOG", "NFLOG", "CONNMARK", "ULOG", "TRACE", ""}
"""Targets that leave the destination as it is."""
PLAIN_MODULES = {"udp", "tcp", "comment", "addrtype"}


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
                    condition = _unknown
                self.conditions.append(_not(condition) if negated else condition)

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


def _unknown(_: Flow) -> None:
    return None


def _not(condition: Condition) -> Condition:
    def negated(flow: Flow) -> bool | None:
        answer = condition(flow)
        return None if answer is None else not answer

    return negated


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


# nft(8), `nft -j list ruleset`: libnftables-json(5).


def add_nft(rules: RuleSet, text: str, by_iptables: Iterable[str] = ()) -> None:
    """The NAT rules in the JSON of nft. Of families `by_iptables` the table `nat` has been read already.

    Raises ValueError, KeyError, TypeError, AttributeError or IndexError for what is no such document.
    """
    skipped = {(family, "nat") for family in by_iptables}
    for item in json.loads(text)["nftables"]:
        if (chain := item.get("chain")) and (chain["family"], chain["table"]) not in skipped:
            name = _chain(chain)
            rules.chains.setdefault(name, [])
            bases = {"prerouting": rules.incoming, "output": rules.outgoing}.get(chain.get("hook", ""))
            if chain.get("type") == "nat":
                rules.translated |= FAMILIES[chain["family"]]
                if bases is not None:
                    bases.append((name, FAMILIES[chain["family"]]))
        elif (rule := item.get("rule")) and (rule["family"], rule["table"]) not in skipped:
            rules.chains.setdefault(_chain(rule), []).extend(_nft_rule(rules, rule))


def _chain(item: Mapping[str, Any]) -> str:
    return f"nft {item['family']} {item['table']} {item.get('chain', item.get('name'))}"


def _nft_rule(rules: RuleSet, rule: Mapping[str, Any]) -> list[Rule]:
    conditions: list[Condition] = []
    ports: range | None = None
    for expression in rule.get("expr", ()):
        [(word, told)] = expression.items()
        match word:
            case "match":
                condition = _nft_condition(told)
                conditions.append(condition)
                if told["op"] == "==" and told["left"] in (_PAYLOAD_DPORT, _TH_DPORT):
                    ports = _nft_ports(told["right"])
            case "dnat" | "redirect":
                try:
                    target = _nft_target(told or {}, to_host=word == "redirect")
                except (ValueError, TypeError):
                    return [Rule(conditions, "anywhere", ports=ports)]
                return [Rule(conditions, "translate", target, ports=ports)]
            case "snat":
                try:
                    rules.sources.append(_nft_target(told or {}, to_host=False))
                except (ValueError, TypeError):
                    rules.unknown_sources = True
            case "jump" | "goto":
                verb: Literal["call", "leave"] = "call" if word == "jump" else "leave"
                return [Rule(conditions, verb, chain=_chain({**rule, "chain": told["target"]}))]
            case "accept" | "return":
                return [Rule(conditions, "accept" if word == "accept" else "return")]
            case "counter" | "log" | "comment" | "masquerade" | "drop" | "mangle":
                pass
            case "vmap" | "xt" | "map" | "tproxy":
                rules.unknown_sources = True
                return [Rule(conditions, "anywhere", ports=ports)]
            case _:
                conditions.append(_unknown)
    return []


_PAYLOAD_DPORT = {"payload": {"protocol": "udp", "field": "dport"}}
_TH_DPORT = {"payload": {"protocol": "th", "field": "dport"}}


OTHER_PROTOCOLS = {"tcp", "sctp", "dccp", "icmp", "icmpv6"}


def _nft_condition(told: Mapping[str, Any]) -> Condition:
    left, right, op = told["left"], told["right"], told["op"]
    if isinstance(left, dict) and left.get("payload", {}).get("protocol") in OTHER_PROTOCOLS:
        return lambda _: False
    value = _nft_value(left)
    if value is None or op not in ("==", "!=", "in"):
        return _unknown

    def holds(flow: Flow) -> bool | None:
        seen = value(flow)
        return None if seen is None else _nft_equals(seen, right)

    return _not(holds) if op == "!=" else holds


def _nft_value(left: Any) -> Callable[[Flow], Any] | None:
    """What of a flow the left side of a match looks at; None for what is not known here."""
    match left:
        case {"payload": {"protocol": "udp" | "th", "field": "dport"}}:
            return lambda flow: flow.destination.port
        case {"payload": {"protocol": "udp" | "th", "field": "sport"}}:
            return lambda flow: flow.source.port
        case {"payload": {"protocol": "ip" | "ip6", "field": "daddr"}}:
            return lambda flow: flow.destination.address
        case {"payload": {"protocol": "ip" | "ip6", "field": "saddr"}}:
            return lambda flow: flow.source.address
        case {"meta": {"key": "iifname" | "iif"}}:
            return lambda flow: flow.interface
        case {"meta": {"key": "l4proto"}}:
            return lambda _: "udp"
        case {"fib": {"result": "type", "flags": "daddr" | ["daddr"]}}:
            return lambda flow: "local" if flow.to_host else None
    return None


def _nft_equals(seen: Any, right: Any) -> bool | None:
    match right:
        case {"set": list(members)}:
            answers = [_nft_equals(seen, one) for one in members]
            return True if True in answers else None if None in answers else False
        case {"range": [first, last]}:
            low, high = _nft_like(seen, first), _nft_like(seen, last)
            return None if low is None or high is None else bool(low <= seen <= high)
        case {"prefix": {"addr": address, "len": length}}:
            return seen in ip_network(f"{address}/{length}", strict=False)
        case str() if right.startswith("@"):
            return None  # a named set
        case str() if right.endswith("*") and isinstance(seen, str):
            return seen.startswith(right[:-1])
        case str() | int():
            wanted = _nft_like(seen, right)
            return None if wanted is None else bool(seen == wanted)
    return None


def _nft_like(seen: Any, text: Any) -> Any:
    """A value of the rule, as of the same kind as what is seen; None if it is not."""
    if isinstance(seen, str | int):
        return text if isinstance(text, type(seen)) else None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if address.version == seen.version else None


def _nft_ports(right: Any) -> range | None:
    match right:
        case int():
            return range(right, right + 1)
        case {"range": [int(first), int(last)]}:
            return range(first, last + 1)
        case {"set": list(members)} if members and all(isinstance(one, int) for one in members):
            return range(min(members), max(members) + 1)
    return None


def _nft_target(told: Mapping[str, Any], *, to_host: bool) -> Target:
    """Raises ValueError or TypeError for maps and what else is not a plain address."""
    addresses: tuple[Address, Address] | None = None
    match told.get("addr"):
        case None:
            pass
        case {"range": [first, last]}:
            addresses = (ip_address(first), ip_address(last))
        case str(one):
            addresses = (ip_address(one), ip_address(one))
        case other:
            raise ValueError(other)
    ports = None
    if told.get("port") is not None:
        ports = _nft_ports(told["port"])
        if ports is None:
            raise ValueError(told["port"])
    return Target(addresses, ports, to_host)
