"""Each rule about packets on real hosts: a true case and a silent one, read back from what was captured.

`client` and `server` have a router between them; both links of it, and both hosts, can be captured.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from udpkit.diagnosis import Finding, diagnose
from udpkit.evidence import Evidence, read_captures
from udpkit.facts import Case, Source
from udpkit.lab import Capture, Host, Lab, ProgramMissing
from udpkit.lab.commands import resolve
from udpkit.lab.waiting import wait_until

CLIENT, SERVER, OTHER, SILENT_HOST = "10.0.9.9", "10.0.1.1", "10.5.0.1", "10.0.1.77"
NEAR, FAR = "10.0.9.254", "10.0.1.254"
CLIENT6, SERVER6, NEAR6 = "fd09::9", "fd01::1", "fd09::fe"
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # linux/in.h


class Stage:
    """The three hosts, and what was captured of them."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.stack = stack
        self.client, self.router, self.server = lab.host("client"), lab.host("router"), lab.host("server")
        lab.link(self.client, "eth0", self.router, "near")
        lab.link(self.server, "eth0", self.router, "far")
        lab.plug(self.server, "eth1")
        self.client.address("eth0", f"{CLIENT}/24", f"{CLIENT6}/64")
        self.server.address("eth0", f"{SERVER}/24", f"{SERVER6}/64")
        self.server.address("eth1", f"{OTHER}/24")
        self.router.address("near", f"{NEAR}/24", f"{NEAR6}/64")
        self.router.address("far", f"{FAR}/24", "fd01::fe/64")
        self.router.sysctl("net.ipv4.ip_forward", 1)
        self.router.sysctl("net.ipv6.conf.all.forwarding", 1)
        for host, four, six in ((self.client, NEAR, NEAR6), (self.server, FAR, "fd01::fe")):
            host.ip(f"route add default via {four}")
            host.ip(f"-6 route add default via {six}")
        self.router.ip(f"route add 10.5.0.0/24 via {SERVER}")
        self.captures: list[Capture] = [self.client.capture("eth0")]
        self.looked_at: list[Host] = []

    def open(self, host: Host, address: str = "", port: int = 0) -> socket.socket:
        """A UDP socket on a host; bound, if there is an address."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        one = self.stack.enter_context(host.socket(family, socket.SOCK_DGRAM))
        one.settimeout(5)
        if address:
            one.bind((address, port))
        return one

    def ask(self, server: str = SERVER, port: int = 7000, payload: bytes = b"?") -> socket.socket:
        """Send one datagram from an unconnected socket of the client's."""
        one = self.open(self.client, CLIENT6 if ":" in server else CLIENT)
        one.sendto(payload, (server, port))
        return one

    def run(self, host: Host, line: str) -> None:
        try:
            host.shell(line)
        except ProgramMissing as missing:
            pytest.skip(str(missing))

    def case(self) -> Case:
        tables = [host.udp_sockets(len(self.captures) + n) for n, host in enumerate(self.looked_at)]
        sources, conversations, unjudged = read_captures(
            [Evidence.of(one.name, one.pcap()) for one in self.captures], tables=tables
        )
        looks = [Source(host.name, "sockets") for host in self.looked_at]
        return Case([*sources, *looks], tables=tables, conversations=conversations, unjudged=unjudged)

    def packets(self) -> int:
        sources, _, _ = read_captures([Evidence.of(one.name, one.pcap()) for one in self.captures])
        return sum(one.datagrams + one.icmp_errors for one in sources)

    def found(self) -> dict[str, Finding]:
        return {one.code: one for one in diagnose(self.case())}

    def codes(self) -> list[tuple[str, str]]:
        return sorted((one.code, one.severity) for one in diagnose(self.case()))

    def wait_for(self, condition: Callable[[], object], what: str, timeout: float = 8) -> None:
        wait_until(condition, self.captures, timeout=timeout, what=what)

    def finding(self, code: str, timeout: float = 8) -> Finding:
        """The finding, as soon as the packets are there that it takes."""
        self.wait_for(lambda: code in self.found(), f"no {code}", timeout)
        return self.found()[code]

    def exchange(self, server: str = SERVER, port: int = 7000, payload: bytes = b"?") -> None:
        """A question that is answered."""
        answering = self.open(self.server, server, port)
        asking = self.ask(server, port, payload)
        data, peer = answering.recvfrom(65535)
        answering.sendto(data, peer)
        assert asking.recv(65535) == data
        answering.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Lab() as lab, ExitStack() as stack:
        yield Stage(lab, stack)


def test_an_exchange_through_a_router_is_healthy(stage: Stage) -> None:
    stage.exchange()
    stage.exchange(SERVER6)
    stage.exchange(payload=bytes(3000))
    stage.wait_for(lambda: stage.packets() == 6, "an exchange")
    assert stage.codes() == []


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_nobody_listens(stage: Stage, server: str) -> None:
    stage.ask(server)
    one = stage.finding("nobody-listens")
    assert (one.severity, one.server and one.server.address) == ("error", ip_address(server))
    assert stage.codes() == [("nobody-listens", "error")]


def test_a_service_that_ends(stage: Stage) -> None:
    stage.exchange(port=53)
    with stage.open(stage.server, SERVER, 53) as answering:
        asking = stage.ask(port=53)
        answering.sendto(b"!", answering.recvfrom(9)[1])
        asking.recv(9)
    asking.sendto(b"?", (SERVER, 53))
    assert "it had answered once" in stage.finding("nobody-listens").summary


def test_traceroute_and_a_scan_end_in_refusals(stage: Stage) -> None:
    for port in range(33434, 33440):
        stage.ask(port=port)
    stage.wait_for(lambda: stage.packets() >= 6 + 3, "refusals")
    assert {code for code, severity in stage.codes() if severity != "note"} == set()


def test_traceroute_past_a_router_is_not_unreachable(stage: Stage) -> None:
    """The router says of the first datagram that it passed too many, the server that nobody listens."""
    for hops, port in ((1, 33434), (2, 33435), (2, 33436)):
        probing = stage.open(stage.client, CLIENT)
        probing.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
        probing.sendto(b"?", (SERVER, port))
    stage.wait_for(lambda: stage.packets() == 6, "errors")
    assert "unreachable" not in stage.found()


def test_tftp_answers_from_another_port_by_design(stage: Stage, tmp_path: Path) -> None:
    """What dnsmasq sends comes from a new port; the client acknowledges to that one."""
    tmp_path.chmod(0o755)
    (tmp_path / "hello").write_bytes(b"hello\n")
    dnsmasq = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--enable-tftp"]
    try:
        stage.server.wait_for_port(69, stage.server.run(*dnsmasq, f"--tftp-root={tmp_path}", "--user=root"))
    except ProgramMissing as missing:
        pytest.skip(str(missing))
    asking = stage.ask(port=69, payload=b"\0\1hello\0octet\0")  # RFC 1350: RRQ, then DATA 1 and ACK 1
    data, actual = asking.recvfrom(999)
    assert (data, actual[1] == 69) == (b"\0\3\0\1hello\n", False)
    asking.sendto(b"\0\4\0\1", actual)
    stage.wait_for(lambda: stage.packets() == 3, "a file")
    assert stage.codes() == []


def test_listens_elsewhere(stage: Stage) -> None:
    stage.open(stage.server, "127.0.0.1", 7000)
    stage.open(stage.server, SERVER, 7001)  # what shows whose table it is
    stage.looked_at = [stage.server]
    stage.ask()
    one = stage.finding("listens-elsewhere")
    assert (one.severity, str(one.actual)) == ("error", "127.0.0.1:7000")
    assert stage.codes() == [("listens-elsewhere", "error")]


def test_listens_there(stage: Stage) -> None:
    stage.looked_at = [stage.server]
    stage.open(stage.server, "127.0.0.1", 7000)
    stage.exchange()
    stage.wait_for(lambda: stage.packets() == 2, "an exchange")
    assert stage.codes() == []


REJECTS = {
    "a router, which says port unreachable": ("router", "-A FORWARD", "", NEAR),
    "a router, which says so": ("router", "-A FORWARD", "--reject-with icmp-host-prohibited", NEAR),
    "the host itself": ("server", "-A INPUT", "--reject-with icmp-admin-prohibited", SERVER),
}


@pytest.mark.parametrize(("host", "chain", "how", "by"), REJECTS.values(), ids=REJECTS)
def test_prohibited(stage: Stage, host: str, chain: str, how: str, by: str) -> None:
    stage.run(getattr(stage, host), f"iptables {chain} -p udp --dport 7000 -j REJECT {how}")
    stage.open(stage.server, SERVER, 7000)
    stage.ask()
    one = stage.finding("prohibited")
    assert f"prohibited by {by}" in one.summary
    assert stage.codes() == [("prohibited", "error")]


def test_prohibited_by_a_route_in_ipv6(stage: Stage) -> None:
    stage.router.ip(f"-6 route add prohibit {SERVER6}")
    stage.ask(SERVER6)
    assert f"prohibited by {NEAR6}" in stage.finding("prohibited").summary


def test_a_reject_of_the_hosts_own_that_poses_as_a_closed_port(stage: Stage) -> None:
    stage.run(stage.server, "iptables -A INPUT -p udp --dport 7000 -j REJECT")
    stage.open(stage.server, SERVER, 7000)
    before = stage.server.udp_sockets(1)
    stage.ask()
    stage.finding("nobody-listens")
    seen = stage.case()
    tables = [before, stage.server.udp_sockets(2)]
    sources = [*seen.sources, Source("before", "sockets"), Source("after", "sockets")]
    found = diagnose(Case(sources, tables=tables, conversations=seen.conversations))
    assert [(one.code, one.severity) for one in found] == [("prohibited", "error")]


ROUTES = {
    "a router without a route": ("route del 10.5.0.0/24", OTHER, "ip_error()"),
    "a route of the type unreachable": (f"route add unreachable {SERVER}", SERVER, "ip_error()"),
    "a host that is down": ("route show", SILENT_HOST, "arp_error_report()"),
    "a router without a route in IPv6": (f"-6 route add unreachable {SERVER6}", SERVER6, "ip6_pkt_discard()"),
    "a host that is down in IPv6": ("route show", "fd01::77", "ndisc_error_report()"),
}


@pytest.mark.parametrize(("route", "server", "function"), ROUTES.values(), ids=ROUTES)
def test_unreachable(stage: Stage, route: str, server: str, function: str) -> None:
    stage.router.ip(route)
    stage.ask(server)
    one = stage.finding("unreachable")
    assert f"says {NEAR6 if ':' in server else NEAR}, which is on the way" in one.summary
    assert one.why[0].startswith(function)
    assert stage.codes() == [("unreachable", "error")]


def asked_slowly(stage: Stage, port: int) -> None:
    """nc sends three lines in a second and waits; then the capture goes on for a while."""
    line = f"(for n in 1 2 3; do echo question $n; sleep 0.6; done) | nc -u -w3 {SERVER} {port}"
    started = time.time_ns()
    stage.run(stage.client, line)
    stage.exchange(port=7001)
    last = stage.case().sources[0].last_ns
    assert last is not None
    assert last - started > 3_000_000_000


def test_no_answer(stage: Stage) -> None:
    stage.run(stage.server, "iptables -A INPUT -p udp --dport 53 -j DROP")
    asked_slowly(stage, 53)
    assert stage.codes() == [("no-answer", "warning")]


def test_nobody_answers_syslog(stage: Stage) -> None:
    stage.open(stage.server, SERVER, 514)
    asked_slowly(stage, 514)
    assert stage.codes() == []


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_late_reply(stage: Stage, server: str) -> None:
    answering = stage.open(stage.server, server, 53)
    asking = stage.ask(server, 53)
    data, peer = answering.recvfrom(9)
    asking.close()
    answering.sendto(data, peer)
    assert "s after the request" in stage.finding("late-reply").summary
    assert stage.codes() == [("late-reply", "note")]


def test_a_second_reply_that_nobody_waits_for(stage: Stage) -> None:
    answering = stage.open(stage.server, SERVER, 53)
    asking = stage.ask(port=53)
    data, peer = answering.recvfrom(9)
    answering.sendto(data, peer)
    asking.recv(9)
    asking.close()
    answering.sendto(data, peer)
    stage.wait_for(lambda: stage.packets() == 4, "a refusal")
    assert stage.codes() == []


def test_error_not_heard(stage: Stage) -> None:
    talk = stage.client.run(*resolve(f"talk ask {SERVER} 7000").argv)
    started = time.monotonic()
    for sent in range(1, 5):
        talk.type(b"hello?\n")
        stage.wait_for(lambda refused=2 * sent: stage.packets() >= refused, "a refusal")
        later = started + 0.4 * sent
        wait_until(lambda at=later: time.monotonic() > at, timeout=5, what="", polling=True)
    assert stage.codes() == [("error-not-heard", "note"), ("nobody-listens", "error")]


def test_a_client_that_hears_stops(stage: Stage) -> None:
    asking = stage.open(stage.client, CLIENT)
    asking.connect((SERVER, 7000))
    asking.send(b"?")
    stage.finding("nobody-listens")
    with pytest.raises(ConnectionRefusedError):
        asking.send(b"?")
    assert stage.codes() == [("nobody-listens", "error")]


def test_icmp_rate_limited(stage: Stage) -> None:
    for port in range(7000, 7060):
        stage.ask(port=port)
    one = stage.finding("icmp-rate-limited")
    assert "60 ports" in one.summary
    assert 3 <= one.count <= 8
    assert stage.codes() == [("icmp-rate-limited", "note")]


def test_below_the_limit_each_is_refused(stage: Stage) -> None:
    for port in range(7000, 7004):
        stage.ask(port=port)
    stage.wait_for(lambda: stage.packets() == 8, "four refusals")
    assert "icmp-rate-limited" not in stage.found()


def translated(stage: Stage) -> None:
    """The server answers from its other address; the router rewrites that to the one that was asked."""
    rule = f"-p udp -s {SERVER} --sport 5300 -d {CLIENT} -j SNAT --to-source {OTHER}"
    stage.run(stage.router, f"iptables -t nat -A POSTROUTING {rule}")
    answering = stage.open(stage.server, "0.0.0.0", 5300)
    asking = stage.open(stage.client, CLIENT)
    asking.connect((OTHER, 5300))
    asking.send(b"?")
    answering.sendto(b"!", answering.recvfrom(9)[1])


def test_nat_moved_port(stage: Stage) -> None:
    stage.captures.append(stage.router.capture("far"))
    translated(stage)
    one = stage.finding("nat-moved-port")
    assert f"left as {SERVER}:5300" in one.summary
    assert one.actual
    assert one.actual.address == ip_address(OTHER)


def test_one_side_of_the_translation_does_not_tell(stage: Stage) -> None:
    translated(stage)
    stage.finding("reply-from-other-port")
    assert "nat-moved-port" not in stage.found()


@pytest.mark.parametrize(("server", "largest"), [(SERVER, 1428), (SERVER6, 1448)])
def test_datagram_too_big(stage: Stage, server: str, largest: int) -> None:
    stage.router.ip("link set far mtu 1300")
    stage.ask(server, payload=bytes(1400))
    one = stage.finding("datagram-too-big")
    assert f"packets of up to {largest} bytes" in one.summary
    assert "the next link takes 1300 bytes" in one.summary
    assert stage.codes() == [("datagram-too-big", "warning")]


def test_path_mtu_discovery_is_meant_to_work(stage: Stage) -> None:
    stage.router.ip("link set far mtu 1300")
    stage.server.ip("link set eth0 mtu 1300")
    answering = stage.open(stage.server, SERVER, 7000)
    asking = stage.ask(payload=bytes(1400))
    stage.finding("datagram-too-big")
    asking.sendto(bytes(1400), (SERVER, 7000))  # in fragments by now
    answering.sendto(b"!", answering.recvfrom(9)[1])
    asking.recv(9)
    assert stage.codes() == []


def test_fragment_lost(stage: Stage) -> None:
    """The router has no conntrack, so that it sees the fragments one by one."""
    stage.run(stage.router, "iptables -A FORWARD -f -j DROP")
    stage.server.sysctl("net.ipv4.ipfrag_time", 1)
    stage.open(stage.server, SERVER, 7000)
    stage.ask(payload=bytes(3000))
    one = stage.finding("fragment-lost")
    assert one.why[0].startswith(f"ip_expire() on {SERVER}")
    assert stage.codes() == [("fragment-lost", "error")]


def ask_with(stage: Stage, checksum: Callable[[int], int]) -> None:
    """Three datagrams whose checksum is made from the right one; then something for the client to hear."""
    source, destination = ip_address(CLIENT).packed, ip_address(SERVER).packed
    with stage.client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        for payload in (b"ab", b"cd", b"ef"):
            header = struct.pack("!4H", 40000, 7000, 10, 0)
            words = struct.unpack(
                "!11H", source + destination + struct.pack("!2H", 17, 10) + header + payload
            )
            total = sum(words)
            right = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
            packet = struct.pack("!4H", 40000, 7000, 10, checksum(right)) + payload
            raw.sendto(packet, (SERVER, 0))
    stage.exchange(port=7001)
    stage.wait_for(lambda: stage.packets() >= 5, "the datagrams")


def test_bad_checksum(stage: Stage) -> None:
    listening = stage.open(stage.server, SERVER, 7000)
    ask_with(stage, lambda right: right ^ 0x1111)
    assert stage.codes() == [("bad-checksum", "warning")]
    assert "InCsumErrors" in stage.found()["bad-checksum"].why[0]
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.recv(9)


def test_good_checksum(stage: Stage) -> None:
    listening = stage.open(stage.server, SERVER, 7000)
    ask_with(stage, lambda right: right)
    assert listening.recv(9) == b"ab"
    assert stage.codes() == []
