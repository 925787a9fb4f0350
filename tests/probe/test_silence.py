"""What silence is worth: by real Linux with firewalls that drop, and hosts that do not refuse."""

from __future__ import annotations

import pytest

from .conftest import FAR, NEAR, SECOND, Path, echo, probe, quiet, serving, unlimited

QUICKLY = ("--timeout", "0.3", "--retries", "1")
VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
TOOL = {4: "iptables", 6: "ip6tables"}

PROVEN = (
    "no answer; a port of this host that is known to be closed was refused meanwhile: "
    "ICMP gets through, so the port is open but quiet, or filtered"
)
NOTHING = (
    "no answer, no ICMP error for any port: "
    "the host drops UDP, suppresses ICMP, or is down; or the port is open but quiet"
)
NOT_REFUSED = (
    "no answer, and no port that is known to be closed was refused meanwhile: "
    "the port is open but quiet, closed or filtered"
)


@VERSIONS
@pytest.mark.parametrize("ports", ["7000", "7000-7002"], ids=["one port", "three ports"])
def test_a_closed_port_is_found_beyond_those_that_were_asked(near: Path, version: int, ports: str) -> None:
    """Bound but quiet, and dropped by port: the same to us, and both are proven to be not closed."""
    near.server.shell(f"{TOOL[version]} -A INPUT -p udp --dport 7001 -j DROP")
    with serving(near.server, dict.fromkeys((7000, 7002), quiet), *NEAR.values()):
        outcome = probe(near.client, NEAR[version], ports, *QUICKLY)
    assert outcome.status == 3
    assert set(outcome.states().values()) == {"silent"}
    for result in outcome.results:
        assert (result["icmp_proven"], result["evidence"]) == (True, [PROVEN])
        assert result["sent"] >= 2
        assert (result["icmp"], result["reply_from"], result["rtt_ms"]) == (None, None, None)


DROPS = {
    "UDP in": "-A INPUT -p udp -j DROP",
    "ICMP errors out": "-A OUTPUT -p {icmp} --{icmp_type} {unreachable} -j DROP",
    "UDP in but what answers": "-A INPUT -p udp ! --dport 7000 -j DROP",
}
"""On the server: a rule of iptables or ip6tables."""
STATES = {
    "UDP in": ({7000: "silent", 7001: "silent", 7002: "silent"}, NOTHING),
    "ICMP errors out": ({7000: "open", 7001: "silent", 7002: "silent"}, NOT_REFUSED),
    "UDP in but what answers": ({7000: "open", 7001: "silent", 7002: "silent"}, NOT_REFUSED),
}
ICMP = {
    4: {"icmp": "icmp", "icmp_type": "icmp-type", "unreachable": "destination-unreachable"},
    6: {"icmp": "icmpv6", "icmp_type": "icmpv6-type", "unreachable": "destination-unreachable"},
}


@VERSIONS
@pytest.mark.parametrize("what", DROPS)
def test_without_a_refusal_nothing_is_proven(near: Path, version: int, what: str) -> None:
    """7000 answers, 7001 is bound and quiet, 7002 closed."""
    near.server.shell(f"{TOOL[version]} {DROPS[what].format_map(ICMP[version])}")
    states, sentence = STATES[what]
    with serving(near.server, {7000: echo, 7001: quiet}, *NEAR.values()):
        outcome = probe(near.client, NEAR[version], "7000-7002", *QUICKLY)
    assert outcome.states() == states
    assert outcome.status == 3
    for result in outcome.results:
        assert not result["icmp_proven"]
        if result["state"] == "silent":
            assert result["evidence"] == [sentence]


@VERSIONS
def test_answers_that_are_dropped_are_silence_with_proof(near: Path, version: int) -> None:
    """DROP of UDP on the way out of the server; its ICMP errors leave."""
    near.server.shell(f"{TOOL[version]} -A OUTPUT -p udp -j DROP")
    with serving(near.server, {7000: echo}, *NEAR.values()):
        outcome = probe(near.client, NEAR[version], "7000-7001", *QUICKLY)
    assert outcome.states() == {7000: "silent", 7001: "closed"}
    assert outcome.one(7000)["evidence"] == [PROVEN]


@VERSIONS
def test_errors_that_this_host_drops_prove_nothing(near: Path, version: int) -> None:
    near.client.shell(
        f"{TOOL[version]} -A INPUT -p {ICMP[version]['icmp']} --{ICMP[version]['icmp_type']} "
        f"{ICMP[version]['unreachable']} -j DROP"
    )
    with serving(near.server, {7000: echo}, *NEAR.values()):
        outcome = probe(near.client, NEAR[version], "7000-7001", *QUICKLY)
    assert outcome.states() == {7000: "open", 7001: "silent"}
    assert outcome.one(7001)["evidence"] == [NOT_REFUSED]


@VERSIONS
def test_a_mixed_host_within_the_default_limits(near: Path, version: int) -> None:
    """Answering, quiet, dropped and closed ports, more than Linux refuses at once: none is mistaken."""
    near.server.shell(f"{TOOL[version]} -A INPUT -p udp --dport 7010:7014 -j DROP")
    servers = dict.fromkeys(range(7000, 7003), echo) | dict.fromkeys(range(7005, 7008), quiet)
    with serving(near.server, servers, *NEAR.values()):
        outcome = probe(near.client, NEAR[version], "7000-7019", *QUICKLY)
    expected = dict.fromkeys(range(7000, 7020), "closed")
    expected |= dict.fromkeys(range(7000, 7003), "open")
    expected |= dict.fromkeys([*range(7005, 7008), *range(7010, 7015)], "silent")
    assert outcome.states() == expected
    assert all(result["icmp_proven"] == (result["state"] == "silent") for result in outcome.results)


def test_protocols_that_are_silent_by_design_say_so(near: Path) -> None:
    """WireGuard, syslog: their sentence stands beside the verdict."""
    with serving(near.server, {51820: quiet, 514: quiet}, *NEAR.values()):
        outcome = probe(near.client, NEAR[4], "514,51820", *QUICKLY)
    for result in outcome.results:
        assert len(result["evidence"]) == 2
        assert result["evidence"][0] == PROVEN
    assert "WireGuard" in outcome.one(51820)["evidence"][1]
    assert "syslog" in outcome.one(514)["evidence"][1].lower()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback(near: Path, address: str) -> None:
    bound = ("127.0.0.1", "::1", "127.1.2.3")
    with serving(near.server, {7000: echo, 7001: quiet}, *bound):
        outcome = probe(near.server, address, "7000-7002", *QUICKLY)
    for found in {result["address"] for result in outcome.results}:
        states = {result["port"]: result["state"] for result in outcome.results if result["address"] == found}
        assert states == {7000: "open", 7001: "silent", 7002: "closed"}
        assert outcome.one(7001, found)["icmp_proven"]


def test_own_address(near: Path) -> None:
    with serving(near.server, {7000: echo}, *NEAR.values()):
        for version in (4, 6):
            outcome = probe(near.server, NEAR[version], "7000-7001")
            assert outcome.states() == {7000: "open", 7001: "closed"}


def test_link_local_with_a_scope(near: Path) -> None:
    near.server.ip("address add fe80::1/64 dev eth0 nodad")
    with serving(near.server, {7000: echo, 7001: quiet}, "::"):
        outcome = probe(near.client, "fe80::1%eth0", "7000-7002", *QUICKLY)
        through = probe(near.client, "fe80::1", "7000-7002", "--interface", "eth0", *QUICKLY)
    assert outcome.states() == {7000: "open", 7001: "silent", 7002: "closed"}
    assert outcome.one(7000)["reply_from"] == f"[{outcome.one(7000)['address']}]:7000"
    assert outcome.one(7002)["evidence"] == ["ICMPv6 port unreachable, said by the host itself"]
    assert outcome.one(7001)["icmp_proven"]
    assert [result | {"host": None, "rtt_ms": None, "sent": None} for result in through.results] == [
        result | {"host": None, "rtt_ms": None, "sent": None} for result in outcome.results
    ]


def test_ipv4_and_ipv6_in_one_sweep_of_several_hosts(near: Path) -> None:
    unlimited(near.server)
    asked = ",".join((*NEAR.values(), *SECOND.values()))
    with (
        serving(near.server, {7000: echo}, NEAR[4]),
        serving(near.server, {7001: echo}, SECOND[6]),
    ):
        outcome = probe(near.client, asked, "7000-7001")
    opened = {(result["address"], result["port"]) for result in outcome.results if result["state"] == "open"}
    assert opened == {(NEAR[4], 7000), (SECOND[6], 7001)}
    assert [result["state"] for result in outcome.results].count("closed") == 6
    assert outcome.status == 1


@VERSIONS
@pytest.mark.parametrize("mute", [True, False], ids=["the host refuses nothing", "the host refuses"])
def test_what_a_router_rejects_proves_nothing_of_the_host(far: Path, version: int, mute: bool) -> None:
    """Its rejections say that it may send errors, not that the host would refuse a closed port."""
    assert far.router is not None
    icmp = "--reject-with icmp-admin-prohibited" if version == 4 else "--reject-with icmp6-adm-prohibited"
    far.router.shell(f"{TOOL[version]} -A FORWARD -p udp --dport 7000:7003 -j REJECT {icmp}")
    if mute:
        far.server.shell(f"{TOOL[version]} -A INPUT -p udp -j DROP")
    else:
        far.server.shell(f"{TOOL[version]} -A INPUT -p udp --dport 7004 -j DROP")
    outcome = probe(far.client, FAR[version], "7000-7004")
    result = outcome.one(7004)
    assert (result["state"], result["icmp_proven"]) == ("silent", not mute)
    assert result["evidence"] == [NOT_REFUSED if mute else PROVEN]
    assert {outcome.one(port)["state"] for port in range(7000, 7004)} == {"prohibited"}
