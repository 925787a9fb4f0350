"""Hosts, links, programs and captures on the real kernel."""

from __future__ import annotations

import shutil
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from udpkit.evidence import read_pcap
from udpkit.evidence.programs import SEARCH_PATH
from udpkit.facts import Datagram
from udpkit.lab import CommandFailed, Lab, LabError, ProgramMissing, TimedOut, wait_until
from udpkit.lab.host import Host


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host]:
    """Two hosts on one cable: `a` 192.0.2.1 and 2001:db8::1, `b` 192.0.2.2 and 2001:db8::2."""
    a, b = lab.host("a"), lab.host("b")
    lab.link(a, "eth0", b, "eth0")
    a.address("eth0", "192.0.2.1/24", "2001:db8::1/64")
    b.address("eth0", "192.0.2.2/24", "2001:db8::2/64")
    return a, b


def echo_once(server: Host, client: Host, address: str, family: int = socket.AF_INET) -> bytes:
    with (
        server.socket(family, socket.SOCK_DGRAM) as answers,
        client.socket(family, socket.SOCK_DGRAM) as asks,
    ):
        answers.bind((address, 0))
        answers.settimeout(5)
        asks.settimeout(5)
        asks.sendto(b"ping", answers.getsockname())
        data, peer = answers.recvfrom(100)
        answers.sendto(data, peer)
        return asks.recv(100)


def test_datagrams_cross_a_cable_over_ipv4_and_ipv6(pair: tuple[Host, Host]) -> None:
    a, b = pair
    assert echo_once(a, b, "192.0.2.1") == b"ping"
    assert echo_once(b, a, "2001:db8::2", socket.AF_INET6) == b"ping"


def test_hosts_do_not_see_each_other_without_a_cable(lab: Lab) -> None:
    a = lab.host("a")
    with a.socket(socket.AF_INET, socket.SOCK_DGRAM) as lonely, pytest.raises(OSError, match="unreachable"):
        lonely.sendto(b"", ("192.0.2.2", 1))


def test_a_bridge_joins_cables_and_has_addresses_itself(lab: Lab) -> None:
    server = lab.host("server")
    server.bridge("docker0", "172.17.0.1/16")
    clients = [lab.host(f"client{number}") for number in (1, 2)]
    for number, client in enumerate(clients, start=2):
        lab.link(client, "eth0", server, "docker0")
        client.address("eth0", f"172.17.0.{number}/16")
    assert echo_once(server, clients[0], "172.17.0.1") == b"ping"
    assert echo_once(clients[0], clients[1], "172.17.0.2") == b"ping"


def test_a_router_forwards_by_its_routes_rules_and_sysctls(lab: Lab) -> None:
    a, router, b = (lab.host(name) for name in ("a", "router", "b"))
    lab.link(a, "eth0", router, "eth0")
    lab.link(router, "eth1", b, "eth0")
    for host, interface, address in [
        (a, "eth0", "192.0.2.1/24"),
        (router, "eth0", "192.0.2.254/24"),
        (router, "eth1", "198.51.100.254/24"),
        (b, "eth0", "198.51.100.1/24"),
    ]:
        host.address(interface, address)
    a.ip("route add default via 192.0.2.254 table 7")
    a.ip("rule add to 198.51.100.0/24 lookup 7")
    b.ip("route add default via 198.51.100.254")
    router.sysctl("net.ipv4.ip_forward", 1)
    assert router.read("/proc/sys/net/ipv4/ip_forward") == "1\n"
    assert a.read("/proc/sys/net/ipv4/ip_forward") == "0\n"
    assert echo_once(b, a, "198.51.100.1") == b"ping"


@pytest.mark.parametrize(
    "rule",
    [
        "iptables -A OUTPUT -p udp -j DROP",
        "nft add table ip t; nft 'add chain ip t o { type filter hook output priority 0; }';"
        " nft add rule ip t o udp dport 1-65535 drop",
    ],
)
def test_firewall_rules_hold_on_their_host_alone(pair: tuple[Host, Host], rule: str) -> None:
    a, b = pair
    program = rule.split()[0]
    if shutil.which(program, path=SEARCH_PATH) is None:
        pytest.skip(f"{program} is not installed")
    a.shell(rule)
    with a.socket(socket.AF_INET, socket.SOCK_DGRAM) as blocked, pytest.raises(PermissionError):
        blocked.sendto(b"", ("192.0.2.2", 1))
    with b.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        assert free.sendto(b"", ("192.0.2.1", 1)) == 0


def test_a_program_reads_what_is_typed_and_prints_until_its_input_ends(lab: Lab) -> None:
    program = lab.host("a").run("cat")
    assert program.type(b"one\n")
    wait_until(lambda: program.output == b"one\n", [program], timeout=5, what="cat did not print")
    program.close_input()
    assert program.wait() == 0


def test_a_program_that_has_ended_tells_its_status_its_last_words_and_takes_no_more(lab: Lab) -> None:
    program = lab.host("a").run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (program.wait(), bytes(program.output), bytes(program.errors)) == (3, b"out\n", b"err\n")
    assert not program.type(b"too late")


def test_stopping_a_program_ends_what_it_started_too(lab: Lab) -> None:
    program = lab.host("a").run("sh", "-c", "sleep 1000 & echo $!; wait")
    wait_until(lambda: program.output, [program], timeout=5, what="no pid")
    assert program.stop() == -signal.SIGTERM
    children = Path(f"/proc/{program.pid}/task")
    assert not children.exists() or "sleep" not in (children.parent / "comm").read_text()


def test_a_long_output_does_not_block_the_program(lab: Lab) -> None:
    program = lab.host("a").run("sh", "-c", "head -c 3000000 /dev/zero")
    assert program.wait() == 0
    assert len(program.output) == 3_000_000


def test_what_is_missing_or_fails_is_named(lab: Lab) -> None:
    a = lab.host("a")
    with pytest.raises(ProgramMissing, match=r"^no-such-program is not installed$"):
        a.run("no-such-program")
    with pytest.raises(ProgramMissing, match=r"^no-such-program is not installed$"):
        a.shell("no-such-program --help")
    with pytest.raises(CommandFailed, match=r"^a: ip route add default via 192\.0\.2\.9: "):
        a.ip("route add default via 192.0.2.9")
    with pytest.raises(CommandFailed, match=r"^a: sysctl net\.no\.such=1: No such file"):
        a.sysctl("net.no.such", 1)
    with pytest.raises(CommandFailed, match=r"1: File name too long$"):
        a.sysctl(60_000 * "é", 1)


def test_what_the_kernel_does_not_run_is_named(lab: Lab, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("echo hello\n")
    program.chmod(0o755)
    with pytest.raises(CommandFailed, match=r"/program cannot be run: Exec format error$"):
        lab.host("a").run(str(program))


def test_waiting_tells_what_did_not_happen(lab: Lab) -> None:
    with pytest.raises(TimedOut, match=r"^nothing on host a opened port 9 \(waited 0\.01 s\)$"):
        lab.host("a").wait_for_port(9, timeout=0.01)


def test_a_capture_has_every_packet_of_its_link_with_its_time(
    pair: tuple[Host, Host], tmp_path: Path, tcpdump: Callable[[Path], list[str]]
) -> None:
    a, b = pair
    capture = a.capture("eth0")
    assert echo_once(a, b, "192.0.2.1") == b"ping"
    source, messages = read_pcap(capture.pcap(), "a.eth0", source=0)
    datagrams = [message for message in messages if isinstance(message, Datagram)]
    assert [(str(one.source.address), one.payload) for one in datagrams] == [
        ("192.0.2.2", b"ping"),
        ("192.0.2.1", b"ping"),
    ]
    assert 0 < datagrams[1].time_ns - datagrams[0].time_ns < 5e9
    assert not source.damage
    capture.save(tmp_path / "a.pcap")
    lines = tcpdump(tmp_path / "a.pcap")
    assert len(lines) == 2
    assert all("UDP, length 4" in line for line in lines)


def test_a_capture_that_lost_packets_says_so(pair: tuple[Host, Host]) -> None:
    a, b = pair
    capture = a.capture("eth0")
    capture._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with b.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
        for _ in range(200):
            asks.sendto(bytes(1000), ("192.0.2.1", 9))
    with pytest.raises(LabError, match=r"^the capture on a\.eth0 lost \d+ packets"):
        capture.pcap()


def test_a_flood_does_not_keep_a_capture_from_returning(
    pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    capture = a.capture("eth0")
    assert echo_once(a, b, "192.0.2.1") == b"ping"  # the neighbors know each other now
    monkeypatch.setattr("udpkit.lab.capture.MOST_WAITING", 100)
    receive, left = capture._receive, iter(range(1000))
    with b.socket(socket.AF_INET, socket.SOCK_DGRAM) as floods:

        def and_the_next_one_comes() -> Any:
            next(left)
            floods.sendto(b"x", ("192.0.2.1", 9))
            return receive()

        monkeypatch.setattr(capture, "_receive", and_the_next_one_comes)
        capture.drain()
    assert next(left) == 100


def test_socket_tables_name_addresses_peers_and_programs(pair: tuple[Host, Host]) -> None:
    a, b = pair
    with (
        a.socket(socket.AF_INET, socket.SOCK_DGRAM) as waiting,
        b.socket(socket.AF_INET6, socket.SOCK_DGRAM) as tied,
    ):
        waiting.bind(("0.0.0.0", 0))
        tied.connect(("2001:db8::1", 7))
        [entry] = a.udp_sockets().entries
        assert (str(entry.local.address), entry.peer) == ("0.0.0.0", None)
        assert entry.process == Path("/proc/self/comm").read_text().strip()
        [entry] = b.udp_sockets().entries
        assert str(entry.local.address) == "2001:db8::2"
        assert str(entry.peer) == "[2001:db8::1]:7"


def test_socket_tables_are_in_the_order_of_ports_and_not_of_the_kernels_hash(pair: tuple[Host, Host]) -> None:
    host, ports = pair[0], [53, *range(5000, 60000, 2500)]
    with ExitStack() as sockets:
        for port in reversed(ports):
            one = sockets.enter_context(host.socket(socket.AF_INET, socket.SOCK_DGRAM))
            one.bind(("0.0.0.0", port))
        assert [entry.local.port for entry in host.udp_sockets().entries] == ports


def test_a_namespace_path_can_be_entered_by_other_tools(lab: Lab) -> None:
    a, b = lab.host("a"), lab.host("b")
    own = b.shell("readlink /proc/self/ns/net")
    other = b.shell(f"nsenter --net={a.namespace} readlink /proc/self/ns/net")
    assert other == a.shell("readlink /proc/self/ns/net") != own


def test_pcap_header_is_what_the_manual_says(pair: tuple[Host, Host]) -> None:
    magic, major, minor, *_, link = struct.unpack("=IHHiIII", pair[0].capture("eth0").pcap()[:24])
    assert (magic, major, minor, link) == (0xA1B23C4D, 2, 4, 1)
