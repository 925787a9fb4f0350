"""Rules on live hosts, on facts made by hand: what the lab's hosts do not show (tests/cli/test_check.py)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpkit.diagnosis import Finding, diagnose
from udpkit.facts import (
    Case,
    HostState,
    LocalAddress,
    Reference,
    SocketEntry,
    SocketTable,
    Source,
    SourceChoice,
    StaleEntry,
)
from udpkit.fixes import advise

from .build import at

NO_PKTINFO = {"IP_PKTINFO": 0, "IPV6_RECVPKTINFO": 0, "IPV6_V6ONLY": 0}


def address(text: str, interface: str) -> LocalAddress:
    host, _, length = text.partition("/")
    return LocalAddress(ip_address(host), ip_network(f"{host}/{length}", strict=False), interface)


def choice(network: str, source: str, interface: str, *, connected: bool = True) -> SourceChoice:
    one = ip_network(network)
    return SourceChoice(one, one[9], ip_address(source), interface, connected)


DOCKER = HostState(
    "",
    [address("10.0.0.5/24", "eth0"), address("172.17.0.1/16", "docker0"), address("127.0.0.1/8", "lo")],
    [
        choice("10.0.0.0/24", "10.0.0.5", "eth0"),
        choice("172.17.0.0/16", "172.17.0.1", "docker0"),
        choice("0.0.0.0/0", "10.0.0.5", "eth0", connected=False),
    ],
    uplinks=["eth0"],
)


def socket(local: str, **told: object) -> SocketEntry:
    seen = Reference(0, line=2)
    plain = SocketEntry(seen, at(local), None, inode=7, process="server", pid=7, options=NO_PKTINFO)
    return replace(plain, **told)  # type: ignore[arg-type]


def found(*sockets: SocketEntry, host: HostState = DOCKER) -> list[Finding]:
    case = Case([Source("x", "sockets")], tables=[SocketTable(sockets, host=host.name)], hosts=[host])
    return diagnose(case)


def test_nobody_asks_a_bridge_from_behind_a_router() -> None:
    pairs = {(str(one.client), str(one.server), str(one.actual)) for one in found(socket("0.0.0.0:53"))}
    assert pairs == {
        ("172.17.0.0/16", "10.0.0.5:53", "172.17.0.1:53"),
        ("10.0.0.0/24", "172.17.0.1:53", "10.0.0.5:53"),
    }


@pytest.mark.parametrize(
    "told",
    [
        {"options": {}},
        {"options": {"IP_PKTINFO": 1}},
        {"options": {"IP_PKTINFO": 0, "IP_RECVORIGDSTADDR": 1}},
        {"options": {"IP_PKTINFO": 0, "SO_MARK": 5}},
        {"peer": at("172.17.0.3:4000")},
    ],
)
def test_silence(told: dict[str, object]) -> None:
    assert found(socket("0.0.0.0:53", **told)) == []


def test_a_table_of_another_host_is_not_judged_by_this_ones_routes() -> None:
    table = SocketTable([socket("0.0.0.0:53")], host="other")
    assert diagnose(Case([Source("x", "sockets")], tables=[table], hosts=[DOCKER])) == []


LOCKED = socket("172.17.0.1:5000", peer=at("172.17.0.3:40000"))


def test_a_connected_socket_that_nobody_waits_beside() -> None:
    [one] = found(replace(LOCKED, names_port=True), socket("172.17.0.1:5001"))
    assert (one.code, one.severity) == ("listener-locked-to-first-peer", "warning")
    assert (one.client, one.actual) == (LOCKED.peer, LOCKED.local)
    [unsure] = found(LOCKED)
    assert (unsure.code, unsure.severity) == (one.code, "note")
    for silent in (
        [LOCKED, socket("172.17.0.1:5000")],
        [replace(LOCKED, names_peer=True, names_port=True)],
        [replace(LOCKED, peer=at("172.17.0.3:53"))],
        [replace(LOCKED, local=at("172.17.0.1:50000"))],
        [replace(LOCKED, local=at("172.17.0.1:40000"), names_port=True)],
    ):
        assert found(*silent) == []


def test_a_translated_port_is_not_the_sockets() -> None:
    assert found(socket("0.0.0.0:53"), host=replace(DOCKER, translated=[range(50, 60)])) == []
    assert found(socket("0.0.0.0:53"), host=replace(DOCKER, translated=None)) == []
    assert found(socket("0.0.0.0:53"), host=replace(DOCKER, translated=[range(54, 60)])) != []


@given(st.integers(1, 300))
def test_many_sockets_of_a_program_are_told_together(number: int) -> None:
    findings = found(*(socket(f"0.0.0.0:{port}", inode=port) for port in range(6000, 6000 + number)))
    assert len(findings) <= 2 * 16
    assert sum(one.count for one in findings) == 2 * number


@given(st.integers(2, 40))
def test_many_addresses_are_told_together(number: int) -> None:
    links = range(1, number + 1)
    host = HostState(
        "",
        [address(f"10.{link}.0.1/24", f"eth{link}") for link in links],
        [choice(f"10.{link}.0.0/24", f"10.{link}.0.1", f"eth{link}") for link in links],
    )
    findings = found(socket("0.0.0.0:53"), host=host)
    assert len(findings) <= 40
    assert sum(one.count for one in findings) == number * (number - 1)


def test_workers_that_share_a_port_are_all_meant() -> None:
    good = socket("0.0.0.0:53", pid=1, inode=1, process="good", options={"IP_PKTINFO": 1})
    bad = socket("0.0.0.0:53", pid=2, inode=2, process="bad")
    assert {one.process for one in found(good, bad)} == {"bad"}


def test_a_clients_port_is_a_note_once_for_a_program() -> None:
    clients = [socket(f"0.0.0.0:{port}", inode=port) for port in (40000, 40001, 40002)]
    findings = found(*clients)
    assert {one.severity for one in findings} == {"note"}
    assert len(findings) == 2
    [first, _] = found(replace(clients[0], names_port=True))
    assert first.severity == "warning"


def test_fixes_for_a_network_of_clients() -> None:
    [finding] = [one for one in found(socket("0.0.0.0:53")) if one.server == at("10.0.0.5:53")]
    offers = {offer.id: offer for offer in advise(finding).fixes}
    assert offers.keys() == {"attach", "bind", "sockets", "route-src", "snat-notrack-incoming"}
    assert offers["bind"].command == "bind the server to 10.0.0.5:53 instead of 0.0.0.0:53"


def test_drops_of_a_socket() -> None:
    [finding] = found(socket("127.0.0.1:53", drops=3, queued=4096, container="web"))
    assert finding.code == "receive-buffer-overflow"
    assert (finding.count, finding.server, finding.client) == (3, at("127.0.0.1:53"), None)
    assert "server[7] in web has lost 3 datagrams" in finding.summary
    assert found(socket("127.0.0.1:53", drops=0)) == []


def test_of_two_tables_the_later_count_of_drops_is_told() -> None:
    tables = [SocketTable([socket("127.0.0.1:53", drops=drops)]) for drops in (3, 5)]
    [finding] = diagnose(Case([Source("x", "sockets")], tables=tables))
    assert finding.count == 5


@pytest.mark.parametrize(
    ("client", "server", "command"),
    [
        ("192.0.2.2:4000", "192.0.2.1:53", "-f ipv4 -p udp --orig-src 192.0.2.2 --orig-dst 192.0.2.1"),
        ("[fd00::2]:4000", "[fd00::1]:53", "-f ipv6 -p udp --orig-src fd00::2 --orig-dst fd00::1"),
    ],
)
def test_a_stale_entry_is_removed_alone(client: str, server: str, command: str) -> None:
    entry = StaleEntry(at(client), at(server), at(server), "nobody is there")
    [finding] = diagnose(Case([Source("x", "sockets")], hosts=[HostState("", stale=[entry])]))
    [offer] = advise(finding).fixes
    assert (
        offer.command == f"conntrack -D {command} --sport 4000 --dport 53 --reply-src {entry.server.address}"
    )
