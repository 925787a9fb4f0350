"""NAT rules as `nft -j list ruleset` prints them: libnftables-json(5)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Literal

from udpkit.evidence.nat.rules import FAMILIES, Condition, Flow, Rule, RuleSet, Target, negation, unknown
from udpkit.facts import Address

UDP_PORT = [{"payload": {"protocol": protocol, "field": "dport"}} for protocol in ("udp", "th")]
"""The left side of a match on the destination port; `th` is any transport header."""
OTHER_PROTOCOLS = {"tcp", "sctp", "dccp", "icmp", "icmpv6"}


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
            rules.chains.setdefault(_chain(rule), []).extend(_rule(rules, rule))


def _chain(item: Mapping[str, Any]) -> str:
    return f"nft {item['family']} {item['table']} {item.get('chain', item.get('name'))}"


def _rule(rules: RuleSet, rule: Mapping[str, Any]) -> list[Rule]:
    conditions: list[Condition] = []
    ports: range | None = None
    for expression in rule.get("expr", ()):
        [(word, told)] = expression.items()
        match word:
            case "match":
                condition = _condition(told)
                conditions.append(condition)
                if told["op"] == "==" and told["left"] in UDP_PORT:
                    ports = _ports(told["right"])
            case "dnat" | "redirect":
                try:
                    target = _target(told or {}, to_host=word == "redirect")
                except (ValueError, TypeError):
                    return [Rule(conditions, "anywhere", ports=ports)]
                return [Rule(conditions, "translate", target, ports=ports)]
            case "snat":
                try:
                    rules.sources.append(_target(told or {}, to_host=False))
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
                conditions.append(unknown)
    return []


def _condition(told: Mapping[str, Any]) -> Condition:
    left, right, op = told["left"], told["right"], told["op"]
    if isinstance(left, dict) and left.get("payload", {}).get("protocol") in OTHER_PROTOCOLS:
        return lambda _: False
    value = _value(left)
    if value is None or op not in ("==", "!=", "in"):
        return unknown

    def holds(flow: Flow) -> bool | None:
        seen = value(flow)
        return None if seen is None else _equals(seen, right)

    return negation(holds) if op == "!=" else holds


def _value(left: Any) -> Callable[[Flow], Any] | None:
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


def _equals(seen: Any, right: Any) -> bool | None:
    match right:
        case {"set": list(members)}:
            answers = [_equals(seen, one) for one in members]
            return True if True in answers else None if None in answers else False
        case {"range": [first, last]}:
            low, high = _like(seen, first), _like(seen, last)
            return None if low is None or high is None else bool(low <= seen <= high)
        case {"prefix": {"addr": address, "len": length}}:
            return seen in ip_network(f"{address}/{length}", strict=False)
        case str() if right.startswith("@"):
            return None  # a named set
        case str() if right.endswith("*") and isinstance(seen, str):
            return seen.startswith(right[:-1])
        case str() | int():
            wanted = _like(seen, right)
            return None if wanted is None else bool(seen == wanted)
    return None


def _like(seen: Any, text: Any) -> Any:
    """A value of the rule, as of the same kind as what is seen; None if it is not."""
    if isinstance(seen, str | int):
        return text if isinstance(text, type(seen)) else None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if address.version == seen.version else None


def _ports(right: Any) -> range | None:
    match right:
        case int():
            return range(right, right + 1)
        case {"range": [int(first), int(last)]}:
            return range(first, last + 1)
        case {"set": list(members)} if members and all(isinstance(one, int) for one in members):
            return range(min(members), max(members) + 1)
    return None


def _target(told: Mapping[str, Any], *, to_host: bool) -> Target:
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
        ports = _ports(told["port"])
        if ports is None:
            raise ValueError(told["port"])
    return Target(addresses, ports, to_host)
