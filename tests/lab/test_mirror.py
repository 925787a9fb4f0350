"""The copy of a host is as the original: what ip, sysctl, iptables-save and nft show of both is the same."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from udpkit.evidence.configuration import read_configuration
from udpkit.evidence.namespaces import own
from udpkit.evidence.programs import SEARCH_PATH
from udpkit.lab import Lab, ProgramMissing
from udpkit.lab.host import Host
from udpkit.lab.mirror import build

MIRROR = shlex.join([sys.executable, "-c", "from udpkit.cli import main; main()", "lab", "mirror"])
SYSCTLS = """
    net.ipv4.ip_forward net.ipv4.icmp_ratelimit net.ipv4.conf.all.rp_filter net.ipv4.conf.docker0.rp_filter
    net.ipv4.conf.eth0.rp_filter net.ipv4.conf.eth0.accept_local net.ipv4.conf.eth0.arp_ignore
    net.ipv6.conf.eth0.forwarding net.ipv4.conf.default.rp_filter
""".split()  # noqa: SIM905
LOOK = {
    "addresses": "ip -json address",
    "routes": "ip -json -4 route show table all",
    "routes6": "ip -json -6 route show table all",
    "rules": "ip -json rule",
    "rules6": "ip -json -6 rule",
    "neighbours": "ip -json neighbour show nud permanent",
    "sysctls": f"sysctl {' '.join(SYSCTLS)}",
    "iptables": "iptables-save",
    "ip6tables": "ip6tables-save",
    "nft": "nft -s list table inet mine",
    "conntrack": "conntrack -L -p udp",
}
SET_UP = """
    ip route add default via 172.16.13.1
    ip -6 route add default via fe80::99 dev eth0
    ip route add 10.66.0.0/16 via 172.17.0.9 metric 7 src 172.16.13.13
    ip route prepend 172.17.0.0/16 dev docker0 src 172.16.13.13 metric 0 scope link
    ip route add default via 172.16.13.2 table 77
    ip rule add pref 100 fwmark 7 from 10.0.0.0/8 lookup 77
    ip rule add pref 90 to 10.2.0.0/16 prohibit
    ip -6 rule add pref 95 from fd00:7::/64 lookup 77
    ip route add unreachable 10.99.0.0/16
    ip route add local 10.98.0.0/16 dev lo
    ip neighbour add 172.16.13.7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent
    iptables -t raw -A PREROUTING -p udp --dport 53 -j CT --zone 7
    iptables -t nat -A POSTROUTING -p udp -s 172.17.0.0/16 -j MASQUERADE
    iptables -A INPUT -p udp --dport 9 -m comment --comment "two words" -j DROP
    ip6tables -A INPUT -p udp --dport 9 -j DROP
    conntrack -I -p udp -s 172.17.0.3 -d 192.0.2.1 --sport 7 --dport 8 -t 600 -w 9
    nft add table inet mine
    nft add chain inet mine in { type filter hook input priority 5 \\; }
    nft add rule inet mine in udp dport 9999 counter drop
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    for program in ("iptables", "nft", "sysctl", "conntrack"):
        if shutil.which(program, path=SEARCH_PATH) is None:
            pytest.skip(f"{program} is not installed")
    with Lab() as lab:
        yield lab


@pytest.fixture
def server(lab: Lab) -> Host:
    """The docker0 stage."""
    server = lab.host("original")
    server.sysctl("net.ipv6.conf.default.accept_dad", 0)  # addresses that are tentative change while we look
    lab.plug(server, "eth0")
    server.bridge("docker0", "172.17.0.1/16")
    server.address("eth0", "172.16.13.13/24", "172.16.13.14/24", "192.0.2.1/32", "2001:db8::1/64")
    return server


def look(host: Host, before: str = "") -> dict[str, str]:
    """What each command prints: on the host, or where the program `before` runs it."""
    line = "; echo =====; ".join(LOOK.values())
    shown = host.shell(f"{before} sh -c {shlex.quote(line)} 2>/dev/null" if before else line)
    return dict(zip(LOOK, shown.split("=====\n"), strict=True))


def ours(told: dict[str, Any]) -> bool:
    """Of the port by which clients are plugged into a bridge."""
    return any(str(told.get(key, "")).startswith("peers") for key in ("dev", "ifname"))


def alike(shown: dict[str, str]) -> dict[str, Any]:
    """Without what is no setting: carriers, lifetimes, counters, times."""
    result: dict[str, Any] = dict(shown)
    for key in ("routes", "routes6", "rules", "rules6", "neighbours"):
        result[key] = [{**told, "flags": []} for told in json.loads(shown[key]) if not ours(told)]
        if key == "routes6":  # the kernel lists those of the link in the order in which they came
            result[key].sort(key=str)
    result["addresses"] = [
        (
            *(link.get(key) for key in ("ifname", "ifindex", "mtu", "address", "master")),
            [
                [one.get(key) for key in ("local", "address", "prefixlen", "scope", "label", "broadcast")]
                for one in sorted(link["addr_info"], key=lambda one: one["family"])
            ],
        )
        for link in json.loads(shown["addresses"])
        if not ours(link)
    ]
    for key in ("iptables", "ip6tables"):
        result[key] = re.sub(r"(?m)^#.*\n|\[\d+:\d+\]", "", shown[key])
    result["conntrack"] = re.sub(r" 17 \d+ ", " ", shown["conntrack"])
    return result


def test_a_copy_shows_what_the_original_shows(server: Host) -> None:
    for name, value in [
        ("net.ipv4.ip_forward", 1),
        ("net.ipv4.icmp_ratelimit", 77),
        ("net.ipv4.conf.all.rp_filter", 0),
        ("net.ipv4.conf.docker0.rp_filter", 2),
        ("net.ipv4.conf.eth0.accept_local", 1),
        ("net.ipv4.conf.eth0.arp_ignore", 1),
    ]:
        server.sysctl(name, value)
    for line in SET_UP.strip().splitlines():
        server.shell(line)
    before = look(server)
    copied = look(server, f"{MIRROR} --")
    assert alike(copied) == alike(before)
    assert "zone=9" in copied["conntrack"]
    assert "--zone 7" in copied["iptables"]
    assert "MASQUERADE" in copied["iptables"]
    assert "udp dport 9999" in copied["nft"]
    assert alike(look(server)) == alike(before)


def test_the_clients_stand_where_the_routes_lead(server: Host) -> None:
    server.ip("route add default via 172.16.13.1")
    server.ip("route add 10.66.0.0/16 via 172.17.0.9")
    told = json.loads(server.shell(f"{MIRROR} --json"))
    assert told["not_copied"] == []
    assert [
        (one["network"], one["address"], one["interface"], one["router"])
        for one in told["clients"]
        if "." in one["address"]
    ] == [
        ("172.17.0.0/16", "172.17.0.2", "docker0", None),
        ("172.16.13.0/24", "172.16.13.2", "eth0", None),  # .1 is the router's
        ("0.0.0.0/0", "198.51.100.77", "eth0", "router1"),
        ("10.66.0.0/16", "10.66.0.1", "docker0", "router2"),
    ]


ECHO = """
import socket
from udpkit.evidence.configuration import read_configuration
from udpkit.evidence.namespaces import own
from udpkit.lab import Lab
from udpkit.lab.mirror import build

with Lab() as lab:
    copy = build(lab, read_configuration(own()))
    for peer in copy.peers:
        family = socket.AF_INET6 if peer.address.version == 6 else socket.AF_INET
        asked = "2001:db8::1" if peer.address.version == 6 else "172.16.13.13"
        kind = socket.SOCK_DGRAM
        with copy.host.socket(family, kind) as server, lab.hosts[peer.name].socket(family, kind) as client:
            server.bind(("", 5300))
            server.settimeout(5)
            client.settimeout(5)
            client.sendto(b"", (asked, 5300))
            peer_name = server.recvfrom(9)[1]
            server.sendto(b"", peer_name)
            print(peer_name[0] == str(peer.address), peer.address, client.recvfrom(9)[1][0])
"""


def test_each_client_is_heard_and_answered_as_the_original_would(server: Host) -> None:
    server.ip("route add default via 172.16.13.1")
    server.ip("-6 route add default via fe80::99 dev eth0")
    server.ip("route add 10.66.0.0/16 via 172.17.0.9")
    assert server.shell(shlex.join([sys.executable, "-c", ECHO])).splitlines() == [
        "True 172.17.0.2 172.17.0.1",  # the fault
        "True 172.16.13.2 172.16.13.13",
        "True 198.51.100.77 172.16.13.13",
        "True 10.66.0.1 172.17.0.1",
        "True 2001:db8::2 2001:db8::1",
        "True 2001:db8:ffff::77 2001:db8::1",
    ]


def test_what_cannot_be_copied_is_said(server: Host) -> None:
    server.ip("tuntap add tunnel mode tun")
    server.ip("address add 10.8.0.1 peer 10.8.0.2/32 dev tunnel")
    server.ip("link set tunnel up")
    notes = json.loads(server.shell(f"{MIRROR} --json"))["not_copied"]
    assert notes == [
        "10.8.0.2/32: tunnel has no carrier, so nobody is behind it",
        "tunnel is a cable in the copy: tun is not copied",
    ]


def test_a_rule_that_is_refused_is_left_out_and_said(lab: Lab) -> None:
    rules = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j NO-SUCH\n-A INPUT -p udp -j ACCEPT\nCOMMIT\n"
    original = replace(
        read_configuration(own()),
        links=(),
        addresses=(),
        choices=(),
        nexthops=(),
        routes={},
        neighbours=(),
        sysctls={},
        iptables=[("iptables-restore", rules)],
        nftables=[("ip x", "table ip x { chain c { nonsense } }")],
        tracked="",
        missing=(),
    )
    copy = build(lab, original)
    assert [note.partition(":")[0] for note in copy.notes] == ["iptables-restore", "nft table ip x"]
    assert "-A INPUT -j NO-SUCH" in copy.notes[0]
    assert "-A INPUT -p udp -j ACCEPT" in copy.host.shell("iptables-save")


def test_a_program_that_is_missing_is_named(lab: Lab) -> None:
    with pytest.raises(ProgramMissing, match="no-such-program"):
        lab.host("a").attached("no-such-program")
