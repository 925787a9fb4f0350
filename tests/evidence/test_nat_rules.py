"""Where NAT rules would send a flow, by rules as engines and people write them."""

from __future__ import annotations

import json

import pytest
from diagnosis.build import at
from hypothesis import given
from hypothesis import strategies as st

from udpkit.evidence.nat.iptables import add_iptables
from udpkit.evidence.nat.nft import add_nft
from udpkit.evidence.nat.rules import Flow, RuleSet

DOCKER = """\
*filter
-A INPUT -j DROP
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.2:5353
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 54 -j DNAT --to-destination 172.17.0.2:54
COMMIT
"""
KUBERNETES = """\
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-DNS - [0:0]
:KUBE-SEP-A - [0:0]
:KUBE-SEP-B - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "dns" -m udp --dport 53 -j KUBE-SVC-DNS
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SVC-DNS ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p udp -m udp --dport 53 -j KUBE-MARK-MASQ
-A KUBE-SVC-DNS -m statistic --mode random --probability 0.5 -j KUBE-SEP-A
-A KUBE-SVC-DNS -j KUBE-SEP-B
-A KUBE-SEP-A -s 10.244.0.2/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-A -p udp -m udp -j DNAT --to-destination 10.244.0.2:53
-A KUBE-SEP-B -p udp -m udp -j DNAT --to-destination 10.244.0.3:53
COMMIT
"""


def flow(source: str, destination: str, interface: str | None = "eth0", *, local: bool = True) -> Flow:
    return Flow(at(source), at(destination), interface, to_host=local, from_host=False)


def nat(*rules: str) -> str:
    return "\n".join(["*nat", ":PREROUTING ACCEPT [0:0]", ":X - [0:0]", *(f"-A {rule}" for rule in rules)])


def outcomes(text: str, asked: Flow) -> set[str]:
    rules = RuleSet()
    add_iptables(rules, text)
    return set(map(str, rules.outcomes(asked)))


CLIENT, SERVER = "198.51.100.7:4000", "192.0.2.1:53"


@pytest.mark.parametrize(
    ("text", "asked", "expected"),
    [
        (DOCKER, flow(CLIENT, SERVER), {"172.17.0.2:5353"}),
        (DOCKER, flow("172.17.0.3:4000", SERVER, "docker0"), {"unchanged"}),
        (DOCKER, flow(CLIENT, SERVER, None), {"172.17.0.2:5353", "unchanged"}),
        (DOCKER, flow(CLIENT, SERVER, local=False), {"unchanged"}),
        (DOCKER, flow(CLIENT, "192.0.2.1:54"), {"unchanged"}),
        (KUBERNETES, flow(CLIENT, "10.96.0.10:53", local=False), {"10.244.0.2:53", "10.244.0.3:53"}),
        (KUBERNETES, flow(CLIENT, "10.96.0.11:53", local=False), {"unchanged"}),
        (nat("PREROUTING -m set --match-set x dst -j DNAT --to-destination 10.0.0.1"), flow(CLIENT, SERVER),
         {"10.0.0.1", "unchanged"}),
        (nat("PREROUTING -p udp -j REDIRECT --to-ports 5353"), flow(CLIENT, SERVER),
         {"port 5353 of this host"}),
        (nat("PREROUTING -p udp -j NETMAP --to 10.0.0.0/24"), flow(CLIENT, SERVER),
         {"anywhere", "unchanged"}),
        (nat("PREROUTING -j X", "PREROUTING -p udp -j DNAT --to-destination :99", "X -j RETURN",
             "X -j DNAT --to-destination 10.0.0.1"), flow(CLIENT, SERVER), {"the same address:99"}),
        (nat("PREROUTING -g X", "PREROUTING -j DNAT --to-destination 10.0.0.1"), flow(CLIENT, SERVER),
         {"unchanged"}),
        (nat("PREROUTING -d 192.0.2.1/32 -j ACCEPT", "PREROUTING -j DNAT --to-destination 10.0.0.1"),
         flow(CLIENT, SERVER), {"unchanged"}),
        (nat("PREROUTING -i eth+ -p udp ! --dport 54:60 -j DNAT --to-destination 10.0.0.1-10.0.0.9:1-2"),
         flow(CLIENT, SERVER), {"10.0.0.1:1"}),
        (nat("PREROUTING -j X", "X -j PREROUTING"), flow(CLIENT, SERVER), {"anywhere", "unchanged"}),
        (nat("X -j RETURN"), flow(CLIENT, SERVER), {"anywhere"}),
        (nat("POSTROUTING -j MASQUERADE"), flow(CLIENT, SERVER), {"unchanged"}),
        ("", flow(CLIENT, SERVER), {"anywhere"}),
    ],
)  # fmt: skip
def test_iptables(text: str, asked: Flow, expected: set[str]) -> None:
    assert outcomes(text, asked) == expected


def test_ranges_are_taken_whole() -> None:
    rules = RuleSet()
    text = nat("PREROUTING -p udp -m udp --dport 53 -j DNAT --to-destination 10.0.0.1-10.0.0.9:1-2")
    add_iptables(rules, text)
    [target] = rules.outcomes(flow(CLIENT, SERVER))
    assert not isinstance(target, str)
    assert target.may_be(at("10.0.0.9:2"), at(SERVER), [])
    assert not target.may_be(at("10.0.0.10:2"), at(SERVER), [])
    assert not target.may_be(at("10.0.0.9:3"), at(SERVER), [])
    assert rules.ports() == [range(53, 54)]


@given(st.lists(st.sampled_from([*DOCKER.split(), "-A", "\n-A X ", "'", "\n"])).map(" ".join))
def test_no_text_breaks_the_reader(text: str) -> None:
    rules = RuleSet()
    add_iptables(rules, "*nat\n:PREROUTING -\n:X -\n" + text)
    assert rules.outcomes(flow(CLIENT, SERVER))


def test_a_table_that_iptables_wrote_is_not_read_twice() -> None:
    rules = RuleSet()
    chain = '{"chain": {"family": "ip", "table": "nat", "name": "P", "type": "nat", "hook": "prerouting"}}'
    rule = '{"rule": {"family": "ip", "table": "nat", "chain": "P", "expr": [{"xt": {"name": "DNAT"}}]}}'
    text = f'{{"nftables": [{chain}, {rule}]}}'
    add_nft(rules, text, {"ip"})
    assert rules == RuleSet()
    add_nft(rules, text)
    assert "anywhere" in rules.outcomes(flow(CLIENT, SERVER))


def test_rules_that_only_filter_translate_no_port() -> None:
    """What nft lists of an engine's filters, in the old kind's syntax (xt), says nothing of NAT."""
    rules = RuleSet()
    add_iptables(rules, DOCKER, versions=frozenset({4}))
    chain = {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward"}
    rule = {"family": "ip", "table": "filter", "chain": "FORWARD", "expr": [{"xt": None}]}
    add_nft(rules, json.dumps({"nftables": [{"chain": chain}, {"rule": rule}]}), ["ip"])
    assert sorted(ports[0] for ports in rules.ports() or ()) == [53, 54]
