"""Hosts and ports as they are typed, and from where they are probed."""

from __future__ import annotations

from pathlib import Path

import pytest

from udpkit.lab import Lab
from udpkit.probe.targets import BadTarget, parse_ports, parse_targets

from .conftest import CLIENT, NEAR, SECOND, command, echo, end, new_host, probe, serving, unlimited
from .conftest import Path as Way


def test_ports_come_once_and_in_the_order_in_which_they_were_asked_for(tmp_path: Path) -> None:
    (tmp_path / "ports").write_text("7003 7001 # comment\n\n\tdomain,6-7\n")
    assert parse_ports(["7001-7002", "ntp", "9,7002", f"@{tmp_path}/ports", "65535", "007"]) == [
        7001, 7002, 123, 9, 7003, 53, 6, 7, 65535,
    ]  # fmt: skip


def test_hosts_come_once_and_are_called_what_they_were_first_called(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.4\n192.0.2.0/30,2001:db8::/126 # two networks\n")
    found = parse_targets([f"@{tmp_path}/hosts", "192.0.2.2"], [9], None)
    assert [(str(target.address), target.name) for target in found] == [
        ("192.0.2.4", "192.0.2.4"),
        ("192.0.2.1", "192.0.2.0/30"),
        ("192.0.2.2", "192.0.2.0/30"),
        ("2001:db8::1", "2001:db8::/126"),
        ("2001:db8::2", "2001:db8::/126"),
        ("2001:db8::3", "2001:db8::/126"),
    ]


@pytest.mark.parametrize(
    ("text", "count"),
    [("192.0.2.0/31", 2), ("192.0.2.7/32", 1), ("192.0.2.7/24", 254), ("10.0.0.0/16", 65_534)],
)
def test_a_network_without_its_own_and_its_broadcast_address(text: str, count: int) -> None:
    assert len(parse_targets([text], [9], None)) == count


@pytest.mark.parametrize("text", ["224.0.0.0/30", "0.0.0.0/31", "ff02::/126", "255.255.255.255/32"])
def test_networks_that_are_no_hosts(text: str) -> None:
    with pytest.raises(BadTarget, match="no host's address"):
        parse_targets([text], [9], None)


def test_a_network_with_live_and_dead_hosts() -> None:
    """ARP tells the dead ones: few enough for what one kernel says at once (net.ipv4.icmp_msgs_burst)."""
    with Lab() as lab:
        client = new_host(lab, "client")
        client.bridge("br0", "192.0.2.1/29")
        for number in (2, 5):
            server = new_host(lab, f"server{number}")
            lab.link(server, "eth0", client, "br0")
            server.address("eth0", f"192.0.2.{number}/29")
        with serving(lab.hosts["server5"], {7000: echo}, "192.0.2.5"):
            outcome = probe(client, "192.0.2.0/29", "7000-7001")
    states = {(result["address"], result["port"]): result["state"] for result in outcome.results}
    assert len(states) == 12
    assert states.pop(("192.0.2.5", 7000)) == "open"
    for number in (1, 2):
        assert {states.pop((f"192.0.2.{number}", port)) for port in (7000, 7001)} == {"closed"}
    assert states.pop(("192.0.2.5", 7001)) == "closed"
    assert set(states.values()) == {"unreachable"}
    assert outcome.status == 4
    assert {result["host"] for result in outcome.results} == {"192.0.2.0/29"}


def test_a_name_with_several_addresses(near: Way, tmp_path: Path) -> None:
    """All are probed, each with its own verdict; -4, -6 and --source choose among them."""
    unlimited(near.server)
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"{address} twice.example\n" for address in (*NEAR.values(), *SECOND.values())))

    def ask(*arguments: str) -> dict[str, str]:
        program = near.client.run(
            "unshare", "--mount", "sh", "-c",
            f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh",
            *command(*arguments),
        )  # fmt: skip
        outcome = end(program)
        assert {result["host"] for result in outcome.results} == {"twice.example"}
        return {result["address"]: result["state"] for result in outcome.results}

    with serving(near.server, {7000: echo}, NEAR[4], SECOND[6]):
        everything = {NEAR[4]: "open", SECOND[4]: "closed", NEAR[6]: "closed", SECOND[6]: "open"}
        assert ask("twice.example", "7000") == everything
        for version in (4, 6):
            chosen = {address: everything[address] for address in (NEAR[version], SECOND[version])}
            assert ask("twice.example", "7000", f"-{version}") == chosen
            assert ask("twice.example", "7000", "--source", CLIENT[version]) == chosen


def test_source_and_interface(near: Way) -> None:
    """The server sees from where it was asked."""
    near.client.address("eth0", "192.0.2.3/24")
    seen: list[str] = []

    def note(sock: object, data: bytes, peer: tuple[str, int]) -> None:
        seen.append(peer[0])
        echo(sock, data, peer)  # type: ignore[arg-type]

    with serving(near.server, {7000: note}, NEAR[4]):
        for arguments in ([], ["--source", "192.0.2.3"], ["--interface", "eth0"]):
            assert probe(near.client, NEAR[4], 7000, *arguments).states() == {7000: "open"}
        elsewhere = probe(near.client, NEAR[4], 7000, "--interface", "lo", "--timeout", 0.3, "--retries", 0)
    assert seen == [CLIENT[4], "192.0.2.3", CLIENT[4]]
    assert elsewhere.status in (3, 4)


def test_many_hosts(near: Way) -> None:
    """Each of 200 addresses answers on one port, refuses the other, and gets its own verdicts."""
    unlimited(near.server)
    near.client.ip(f"route add 10.0.0.0/24 via {NEAR[4]}")
    near.server.ip("route add local 10.0.0.0/24 dev lo")
    addresses = [f"10.0.0.{number}" for number in range(1, 201)]
    with serving(near.server, {7000: echo}, *addresses):
        outcome = probe(near.client, ",".join(addresses), "7000-7001")
    assert len(outcome.results) == 400
    for result in outcome.results:
        assert result["state"] == {7000: "open", 7001: "closed"}[result["port"]]
        if result["port"] == 7000:
            assert result["reply_from"] == f"{result['address']}:7000"


def test_files_of_hosts_and_ports(near: Way, tmp_path: Path) -> None:
    unlimited(near.server)
    (tmp_path / "hosts").write_text(f"# ours\n{NEAR[4]}\n{SECOND[4]}\n")
    (tmp_path / "ports").write_text("7000\n7001-7002,7004\n")
    with serving(near.server, {7000: echo}, NEAR[4]):
        outcome = probe(near.client, f"@{tmp_path}/hosts", f"@{tmp_path}/ports")
    assert [(result["address"], result["port"]) for result in outcome.results] == [
        (address, port) for address in (NEAR[4], SECOND[4]) for port in (7000, 7001, 7002, 7004)
    ]
    assert outcome.one(7000, NEAR[4])["state"] == "open"


def test_the_highest_exit_code_counts(near: Way) -> None:
    unlimited(near.server)
    near.server.shell("iptables -A INPUT -p udp --dport 7002 -j DROP")
    near.server.shell("iptables -A INPUT -p udp --dport 7003 -j REJECT --reject-with icmp-admin-prohibited")
    with serving(near.server, {7000: echo}, NEAR[4]):
        for ports, status in (("7000", 0), ("7000-7001", 1), ("7000-7002", 3), ("7000-7003", 4)):
            assert probe(near.client, NEAR[4], ports, "--timeout", 0.3, "--retries", 1).status == status
