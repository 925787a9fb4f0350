"""Stale conntrack entries, made for real: NAT rules that change while flows live."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from udpkit.evidence.programs import SEARCH_PATH
from udpkit.lab import Lab
from udpkit.lab.host import Host
from udpkit.lab.waiting import wait_until

UDPKIT = [sys.executable, "-c", "from udpkit.cli import main; main()"]
ECHO = """
import socket, sys
one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
one.setsockopt(41, 26, 0)
one.bind(("::", 53))
print("up", flush=True)
while True: one.sendto(*one.recvfrom(99))
"""

needs_conntrack = pytest.mark.skipif(
    not shutil.which("conntrack", path=SEARCH_PATH), reason="conntrack is not installed"
)


@pytest.fixture
def net() -> Iterator[tuple[Host, Host, Host]]:
    """A client, a router that translates, and a backend that may answer on port 53."""
    with Lab() as lab:
        client, router, backend = lab.host("client"), lab.host("router"), lab.host("backend")
        lab.link(client, "eth0", router, "eth0")
        lab.link(backend, "eth0", router, "eth1")
        client.address("eth0", "192.0.2.2/24", "fd02::2/64")
        router.address("eth0", "192.0.2.1/24", "fd02::1/64")
        router.address("eth1", "10.0.0.1/24", "fd10::1/64")
        backend.address("eth0", "10.0.0.2/24", "fd10::2/64")
        router.sysctl("net.ipv4.ip_forward", 1)
        router.sysctl("net.ipv6.conf.all.forwarding", 1)
        client.ip("route add default via 192.0.2.1")
        client.ip("-6 route add default via fd02::1")
        backend.ip("route add default via 10.0.0.1")
        backend.ip("-6 route add default via fd10::1")
        yield client, router, backend


def ask(client: Host, port: int, server: str = "192.0.2.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    asking = client.socket(family, socket.SOCK_DGRAM)
    asking.bind(("", port))
    asking.settimeout(5)
    asking.sendto(b"?", (server, 53))
    return asking


def echo(backend: Host) -> None:
    server = backend.run(sys.executable, "-c", ECHO)
    wait_until(lambda: b"up" in server.output, [server], timeout=10, what="no server")


def dnat(router: Host, target: str, *, iptables: str = "iptables") -> None:
    router.shell(f"{iptables} -t nat -F PREROUTING")
    router.shell(f"{iptables} -t nat -A PREROUTING -p udp --dport 53 -j DNAT --to {target}")


def stale(router: Host) -> list[dict[str, Any]]:
    program = router.run(*UDPKIT, "check", "--json")
    program.wait()
    document = json.loads(program.output)
    assert {one["code"] for one in document["findings"]} <= {"stale-conntrack"}
    assert document["hosts"][0]["missing"] == []
    findings: list[dict[str, Any]] = document["findings"]
    return findings


def entries(router: Host) -> list[str]:
    text = router.shell("conntrack -L -p udp -f ipv4 2>/dev/null; conntrack -L -p udp -f ipv6 2>/dev/null")
    return [line for line in text.splitlines() if line.startswith("udp")]


def has_entries(router: Host, number: int) -> None:
    wait_until(lambda: len(entries(router)) == number, timeout=5, what="no such entries", polling=True)


@needs_conntrack
@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_a_rule_was_replaced(net: tuple[Host, Host, Host], six: bool) -> None:
    client, router, _ = net
    server, old, new = ("fd02::1", "fd10::77", "fd10::2") if six else ("192.0.2.1", "10.0.0.77", "10.0.0.2")
    brackets = "[%s]:%d" if six else "%s:%d"
    tables = "ip6tables" if six else "iptables"
    dnat(router, brackets % (old, 53), iptables=tables)
    with ask(client, 4000, server) as asking:
        has_entries(router, 1)
        assert stale(router) == []  # nobody answers, but the rule is as the entry
        dnat(router, brackets % (new, 53), iptables=tables)
        with ask(client, 4001, server):  # by the new rule
            has_entries(router, 2)
            [finding] = stale(router)
            assert finding["client"] == brackets % ("fd02::2" if six else "192.0.2.2", 4000)
            assert finding["server"] == brackets % (server, 53)
            assert finding["actual"] == brackets % (old, 53)
            [offer] = finding["fixes"]
            router.shell(offer["command"])
            [left] = entries(router)
            assert "sport=4001" in left
            assert stale(router) == []
        echo(net[2])
        asking.sendto(b"again", (server, 53))
        assert asking.recv(9) == b"again"


@needs_conntrack
def test_an_entry_from_before_there_was_a_rule(net: tuple[Host, Host, Host]) -> None:
    client, router, _ = net
    router.shell("iptables -t nat -A PREROUTING -p udp --dport 99 -j DNAT --to 10.0.0.2")  # starts conntrack
    with ask(client, 4000):
        has_entries(router, 1)
        assert stale(router) == []
        router.shell("iptables -t nat -A PREROUTING -i eth0 -p udp --dport 53 -j DNAT --to 10.0.0.2")
        [finding] = stale(router)
        assert finding["actual"] is None
        router.shell(finding["fixes"][0]["command"])
        assert entries(router) == []


@needs_conntrack
def test_a_rule_was_removed_and_its_target_is_gone(net: tuple[Host, Host, Host]) -> None:
    """The flow was answered; while its target answers, it is nobody's business."""
    client, router, backend = net
    echo(backend)
    dnat(router, "10.0.0.2:53")
    with ask(client, 4000) as asking:
        assert asking.recv(9) == b"?"
        router.shell("iptables -t nat -R PREROUTING 1 -p udp --dport 99 -j DNAT --to 10.0.0.2")
        assert stale(router) == []
        backend.ip("address flush dev eth0")
        router.ip("neighbour flush dev eth1")
        asking.sendto(b"?", ("192.0.2.1", 53))
        wait_until(
            lambda: router.ip("neighbour show nud failed nud incomplete"), timeout=5, what="", polling=True
        )
        [finding] = stale(router)
    assert finding["actual"] == "10.0.0.2:53"
    assert "10.0.0.2 cannot be reached" in finding["summary"]


@needs_conntrack
def test_where_the_last_rule_went_nothing_is_translated(net: tuple[Host, Host, Host]) -> None:
    """Old entries are not obeyed any more: the kernel calls NAT only where there is a chain for it."""
    client, router, _ = net
    dnat(router, "10.0.0.77")
    with ask(client, 4000) as asking:
        has_entries(router, 1)
        router.shell("iptables -t nat -F PREROUTING")
        assert stale(router) == []
        echo(router)
        asking.sendto(b"again", ("192.0.2.1", 53))
        assert asking.recv(9) == b"again"


@needs_conntrack
def test_one_of_several_targets_is_not_stale(net: tuple[Host, Host, Host]) -> None:
    client, router, _ = net
    dnat(router, "10.0.0.77")
    with ask(client, 4000):
        has_entries(router, 1)
        router.shell("iptables -t nat -I PREROUTING -p udp -m statistic --mode random --probability 0.5 "
                     "-j DNAT --to 10.0.0.78")  # fmt: skip
        assert stale(router) == []


@needs_conntrack
@pytest.mark.parametrize(
    ("rule", "is_stale"),
    [
        ("udp dport 53 dnat to 10.0.0.2", True),
        ("iifname eth0 ip daddr 192.0.2.0/24 udp dport { 53, 54 } counter dnat to 10.0.0.2:53", True),
        ("fib daddr type local meta l4proto udp th dport 50-60 jump other", True),
        ("udp dport 53 dnat to 10.0.0.77:53", False),
        ("udp dport 53 numgen random mod 2 == 0 dnat to 10.0.0.77", False),
        ("udp dport 53 dnat to udp dport map { 53 : 10.0.0.77 }", False),
        ("tcp dport 53 dnat to 10.0.0.2", True),  # that leaves no rule for it
    ],
)
def test_rules_of_nftables(net: tuple[Host, Host, Host], rule: str, is_stale: bool) -> None:
    client, router, _ = net
    before = "udp dport 53 dnat to 10.0.0.77:53"
    with ask(client, 9):  # before there is conntrack
        pass
    for first, line in ((True, before), (False, rule)):
        router.shell(
            "nft flush ruleset; nft -f - <<'END'\ntable ip mine {\n"
            " chain other { udp dport 53 dnat to 10.0.0.2; }\n"
            f" chain pre {{ type nat hook prerouting priority -100; {line}; }}\n}}\nEND"
        )
        if first:
            asking = ask(client, 4000)
            has_entries(router, 1)
    with asking:
        assert [one["client"] for one in stale(router)] == ["192.0.2.2:4000"] * is_stale


@needs_conntrack
def test_the_address_of_a_translated_source_is_gone(net: tuple[Host, Host, Host]) -> None:
    client, router, backend = net
    echo(backend)
    router.address("eth1", "10.0.0.9/24")
    router.shell("iptables -t nat -A POSTROUTING -o eth1 -j SNAT --to 10.0.0.9")
    with ask(client, 4000, "10.0.0.2") as asking:
        assert asking.recv(9) == b"?"
        assert stale(router) == []
        router.shell("iptables -t nat -R POSTROUTING 1 -o eth1 -j SNAT --to 10.0.0.1")
        router.ip("address del 10.0.0.9/24 dev eth1")
        [finding] = stale(router)
        assert "10.0.0.9" in finding["summary"]
        router.shell(finding["fixes"][0]["command"])
        assert stale(router) == []
