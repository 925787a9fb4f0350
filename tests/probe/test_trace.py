"""`udpkit probe --trace` from a client, over three routers, to a server; always without privilege."""

from __future__ import annotations

import json
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import pairwise
from typing import Any

import pytest
from cli.command import TIMEOUT, UDPKIT
from sockets.serving import wait_for_addresses

from udpkit.evidence import read_pcap
from udpkit.facts import Datagram
from udpkit.lab import Host, Lab, Program, wait_until
from udpkit.probe.path_mtu import USUAL, next_size

from .conftest import Peer, echo, new_host, quiet, serving

OPEN, QUIET, CLOSED, MOVED, SHORT = 5300, 5301, 7777, 5302, 5303
NETWORK = {4: "10.0.{}.{}", 6: "fd00:{}::{}"}
LENGTH = {4: 24, 6: 64}
FAST = ("--timeout", "0.4", "--retries", "1")
EXCEEDED = {4: "time exceeded", 6: "hop limit exceeded"}
IPTABLES = {4: "iptables", 6: "ip6tables"}
PROTOCOL = {4: "icmp", 6: "ipv6-icmp"}
TOO_BIG = {4: "-p icmp --icmp-type fragmentation-needed", 6: "-p ipv6-icmp --icmpv6-type packet-too-big"}

both = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


@dataclass
class Chain:
    """Client, routers, server in a row; each has an interface `left` and `right`."""

    lab: Lab
    hosts: list[Host]

    @property
    def client(self) -> Host:
        return self.hosts[0]

    @property
    def server(self) -> Host:
        return self.hosts[-1]

    def router(self, number: int) -> Host:
        """The first one is 1, as its hop is."""
        return self.hosts[number]

    def left(self, number: int, version: int) -> str:
        """The address from which hop `number` answers; the server is the last hop."""
        return str(ip_address(NETWORK[version].format(number - 1, 2)))

    def target(self, version: int) -> str:
        return self.left(len(self.hosts) - 1, version)

    def narrow(self, number: int, mtu: int) -> None:
        """The link on the right of a router takes no more than that."""
        self.router(number).ip(f"link set right mtu {mtu}")
        self.hosts[number + 1].ip(f"link set left mtu {mtu}")


@pytest.fixture
def chain() -> Iterator[Chain]:
    with Lab() as lab:
        names = ("client", "router1", "router2", "router3", "server")
        hosts = [new_host(lab, name) for name in names]
        for number, (host, right) in enumerate(pairwise(hosts)):
            lab.link(host, "right", right, "left")
            for one, interface, last in ((host, "right", 1), (right, "left", 2)):
                one.address(
                    interface, *(f"{net.format(number, last)}/{LENGTH[v]}" for v, net in NETWORK.items())
                )
        for number, host in enumerate(hosts):
            host.sysctl("net.ipv4.ip_forward", 1)
            host.sysctl("net.ipv6.conf.all.forwarding", 1)
            for v, net in NETWORK.items():
                if host is not hosts[-1]:
                    host.ip(f"-{v} route add default via {net.format(number, 2)}")
                for further in range(number - 1):
                    prefix = net.format(further, 0) if v == 4 else net.format(further, "")
                    host.ip(f"-{v} route add {prefix}/{LENGTH[v]} via {net.format(number - 1, 1)}")
        wait_for_addresses(*hosts)
        yield Chain(lab, hosts)


def begin(host: Host, *arguments: object) -> Program:
    """Start a trace there, in a user namespace that has no rights over the host's network."""
    return host.run("unshare", "--user", UDPKIT, "probe", "--trace", *map(str, arguments))


def end(program: Program) -> str:
    program.wait(TIMEOUT)
    errors = program.errors.decode()
    assert "Traceback" not in errors
    return errors


def trace(host: Host, *arguments: object) -> tuple[int | None, dict[str, Any]]:
    """Exit code and document."""
    program = begin(host, "--json", *arguments)
    assert not end(program)
    found: dict[str, Any] = json.loads(program.output)
    assert found["schema"] == 1
    assert [hop["hop"] for hop in found["hops"]] == list(range(1, len(found["hops"]) + 1))
    return program.status, found


def seen(found: dict[str, Any]) -> list[tuple[str | None, str | None]]:
    """Who said what, hop by hop."""
    return [(hop["address"], hop["icmp"]["kind"] if hop["icmp"] else None) for hop in found["hops"]]


def routers(chain: Chain, version: int, *numbers: int) -> list[tuple[str | None, str | None]]:
    return [(chain.left(number, version), EXCEEDED[version]) for number in numbers]


@contextmanager
def tardy(host: Host) -> Iterator[None]:
    """Answers short datagrams to `OPEN`, each a good while after it has come."""
    timers: list[threading.Timer] = []

    def answer(sock: socket.socket, data: bytes, peer: Peer) -> None:
        if len(data) < 700:
            timers.append(threading.Timer(0.3, sock.sendto, (b"answer", peer)))
            timers[-1].start()

    with serving(host, {OPEN: answer}, "::"):
        yield
        for timer in timers:
            timer.join()


@contextmanager
def moved(host: Host) -> Iterator[None]:
    """Answers to `MOVED` from another port."""
    with host.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:

        def from_elsewhere(_sock: socket.socket, data: bytes, peer: Peer) -> None:
            other.sendto(data, peer)

        other.bind(("::", MOVED + 100))
        with serving(host, {MOVED: from_elsewhere}, "::"):
            yield


def short_only(sock: socket.socket, data: bytes, peer: Peer) -> None:
    """As services that have no use for a long request."""
    if len(data) < 700:
        sock.sendto(data, peer)


SILENCE = [(None, None)] * 5


@both
def test_every_hop_is_named_up_to_a_port_that_answers_or_refuses(chain: Chain, version: int) -> None:
    target = chain.target(version)
    with serving(chain.server, {OPEN: echo}, "::"), moved(chain.server):
        answered = trace(chain.client, target, OPEN)
        elsewhere = trace(chain.client, target, MOVED)
    refused = trace(chain.client, target, CLOSED)
    way = routers(chain, version, 1, 2, 3)
    for (code, found), state, expected, last in (
        (answered, "open", 0, (target, None)),
        (elsewhere, "wrong-source", 1, (target, None)),
        (refused, "closed", 1, (target, "port unreachable")),
    ):
        assert seen(found) == [*way, last]
        assert all(hop["rtt_ms"] > 0 for hop in found["hops"])
        assert (found["result"]["state"], code) == (state, expected)
        mtu = found["path_mtu"]
        assert (mtu["bytes"], mtu["by"], mtu["proven"], mtu["black_hole"]) == (1500, None, True, False)
    assert elsewhere[1]["result"]["reply_from"].endswith(f":{MOVED + 100}")


@both
def test_all_probes_have_the_five_tuple_and_payload_of_a_normal_one(chain: Chain, version: int) -> None:
    capture = chain.client.capture("right")
    with serving(chain.server, {OPEN: echo}, "::"):
        trace(chain.client, chain.target(version), OPEN, "--payload", "68656c6c6f")
    sent = [
        one
        for one in read_pcap(capture.pcap(), "right", source=0)[1]
        if isinstance(one, Datagram)
        and one.destination.port == OPEN
        and one.payload.rstrip(b"\0") == b"hello"
    ]
    assert len({one.source for one in sent}) == 1
    assert [one.payload for one in sent[:4]] == [b"hello"] * 4
    assert len(sent) > 4


@both
def test_who_rejects_and_where(chain: Chain, version: int) -> None:
    kind = {4: "icmp-admin-prohibited", 6: "icmp6-adm-prohibited"}[version]
    chain.router(2).shell(f"{IPTABLES[version]} -A FORWARD -p udp -j REJECT --reject-with {kind}")
    code, found = trace(chain.client, chain.target(version), CLOSED)
    rejects = (chain.left(2, version), "administratively prohibited")
    assert seen(found) == [*routers(chain, version, 1, 2), rejects]
    assert (found["result"]["state"], code) == ("prohibited", 4)
    assert found["result"]["evidence"][-1] == "that is hop 2: the datagram goes no further"
    assert "as far as there" in found["path_mtu"]["evidence"]


@both
def test_a_port_that_a_router_drops(chain: Chain, version: int) -> None:
    chain.router(2).shell(f"{IPTABLES[version]} -A FORWARD -p udp --dport {CLOSED} -j DROP")
    code, found = trace(chain.client, chain.target(version), CLOSED, *FAST)
    assert seen(found) == [*routers(chain, version, 1, 2), *SILENCE]
    assert (found["result"]["state"], found["result"]["icmp_proven"], code) == ("silent", True, 3)
    assert f"behind hop 2 ({chain.left(2, version)})" in found["result"]["evidence"][0]
    assert found["path_mtu"]["proven"]


@both
def test_a_router_that_drops_everything(chain: Chain, version: int) -> None:
    chain.router(2).shell(f"{IPTABLES[version]} -A FORWARD -p udp -j DROP")
    code, found = trace(chain.client, chain.target(version), CLOSED, *FAST)
    assert seen(found) == [*routers(chain, version, 1, 2), *SILENCE]
    assert (found["result"]["state"], found["result"]["icmp_proven"], code) == ("silent", False, 3)
    assert found["path_mtu"] == {
        "bytes": 1500,
        "by": None,
        "proven": False,
        "black_hole": False,
        "evidence": "nothing smaller was reported; a router that drops without a word would not show",
    }


@both
def test_a_router_that_says_nothing_is_a_gap(chain: Chain, version: int) -> None:
    # In IPv6 neighbour discovery is ICMP, too.
    kind = {4: "", 6: "--icmpv6-type time-exceeded"}[version]
    chain.router(2).shell(f"{IPTABLES[version]} -A OUTPUT -p {PROTOCOL[version]} {kind} -j DROP")
    _, found = trace(chain.client, chain.target(version), CLOSED, *FAST)
    refusal = (chain.target(version), "port unreachable")
    assert seen(found) == [
        *routers(chain, version, 1),
        (None, None),
        *routers(chain, version, 3),
        refusal,
    ]
    assert found["hops"][1]["rtt_ms"] is None


Said = tuple[int, int, int]
"""ICMP type and code, and the MTU that it names."""


def test_late_replies_prove_no_size(chain: Chain) -> None:
    """The last hop is asked again and again before its first reply is there; the other replies come later."""
    chain.server.shell("iptables -A OUTPUT -p icmp -j DROP")
    with tardy(chain.server):
        _, found = trace(chain.client, chain.target(4), OPEN, "--timeout", 0.5)
    assert found["result"]["state"] == "open"
    assert (found["path_mtu"]["bytes"], found["path_mtu"]["proven"]) == (1500, False)


@contextmanager
def impostor(router: Host, dropped: str, said: Callable[[bytes], list[Said]]) -> Iterator[None]:
    """In place of a router, for UDP over IPv4 that these matches of iptables keep from it.

    said: what to say to the sender of such a packet; it sees all UDP packets from the left.
    """
    router.shell(f"iptables -t mangle -A PREROUTING -p udp {dropped} -j DROP")
    over = threading.Event()
    with (
        router.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as seeing,
        router.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as saying,
    ):
        seeing.bind(("left", 0x0800))
        seeing.settimeout(0.05)

        def run() -> None:
            while not over.is_set():
                try:
                    packet, (_, _, direction, *_) = seeing.recvfrom(65535)
                except TimeoutError:
                    continue
                if direction == socket.PACKET_HOST and packet[9] == socket.IPPROTO_UDP:
                    for kind, code, mtu in said(packet):
                        message = (
                            struct.pack("!BBHHH", kind, code, 0, 0, mtu)
                            + packet[: min(len(packet) & ~1, 128)]
                        )
                        total = sum(struct.unpack(f"!{len(message) // 2}H", message))
                        total = (total & 0xFFFF) + (total >> 16)
                        checksum = ~(total + (total >> 16)) & 0xFFFF
                        message = message[:2] + struct.pack("!H", checksum) + message[4:]
                        saying.sendto(message, (str(ip_address(packet[12:16])), 0))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(("ignored", "answers"), [(0, 2), (1, 2), (2, 3)])
def test_late_and_doubled_answers_are_not_later_hops(chain: Chain, ignored: int, answers: int) -> None:
    """Router 2 ignores some datagrams, then answers all at once; or one twice."""
    arrived = []

    def said(packet: bytes) -> list[Said]:
        if packet[8] == 1:
            arrived.append(packet)
        return [(11, 0, 0)] * answers if packet[8] == 1 and len(arrived) == ignored + 1 else []

    with impostor(chain.router(2), "-m ttl --ttl-eq 1", said):
        _, found = trace(chain.client, chain.target(4), CLOSED)
    refusal = (chain.target(4), "port unreachable")
    assert seen(found) == [*routers(chain, 4, 1, 2, 3), refusal]
    assert len(arrived) == ignored + 1


@both
def test_a_loop(chain: Chain, version: int) -> None:
    lost = {4: "10.9.9.0/24", 6: "fd99::/64"}[version]
    chain.router(2).ip(f"-{version} route add {lost} via {NETWORK[version].format(1, 1)}")
    code, found = trace(chain.client, {4: "10.9.9.9", 6: "fd99::9"}[version], CLOSED)
    assert {kind for _, kind in seen(found)} == {EXCEEDED[version]}
    assert (found["result"]["state"], code) == ("unreachable", 4)
    assert found["result"]["evidence"][-1].startswith("a routing loop: ")
    assert found["path_mtu"] is None


@both
def test_a_router_names_a_smaller_mtu(chain: Chain, version: int) -> None:
    chain.narrow(2, 1400)
    with serving(chain.server, {OPEN: echo}, "::"):
        for port in (OPEN, CLOSED):
            mtu = trace(chain.client, chain.target(version), port)[1]["path_mtu"]
            assert (mtu["bytes"], mtu["by"]) == (1400, chain.left(2, version))
            assert (mtu["proven"], mtu["black_hole"]) == (True, False)


def test_two_narrow_links_are_both_found(chain: Chain) -> None:
    chain.narrow(1, 1450)
    chain.narrow(3, 1300)
    mtu = trace(chain.client, chain.target(4), CLOSED)[1]["path_mtu"]
    assert (mtu["bytes"], mtu["by"], mtu["proven"]) == (1300, chain.left(3, 4), True)


@pytest.mark.parametrize("size", [577, 1006, 1279, 1280, 1397, 1400, 1499, 3000, 65_000])
def test_every_size_is_found_and_a_usual_one_at_once(size: int) -> None:
    low, high, asked = 576, 65_535, 0
    while high - low > 1:
        middle = next_size(low, high)
        assert low < middle < high
        low, high, asked = (middle, high, asked + 1) if middle <= size else (low, middle, asked + 1)
    assert low == size
    assert asked <= (6 if size in USUAL else 22)


@both
@pytest.mark.parametrize("port", [OPEN, CLOSED], ids=["open", "closed"])
def test_a_black_hole(chain: Chain, version: int, port: int) -> None:
    """Of a size that is not usual. Of the open port's host nothing is heard but its replies."""
    chain.narrow(2, 1498)
    chain.router(2).shell(f"{IPTABLES[version]} -A OUTPUT {TOO_BIG[version]} -j DROP")
    if port == OPEN:
        kind = {4: "", 6: "--icmpv6-type destination-unreachable"}[version]
        chain.server.shell(f"{IPTABLES[version]} -A OUTPUT -p {PROTOCOL[version]} {kind} -j DROP")
    with serving(chain.server, {OPEN: echo}, "::"):
        mtu = trace(chain.client, chain.target(version), port, *FAST)[1]["path_mtu"]
    assert mtu == {
        "bytes": 1498,
        "by": None,
        "proven": True,
        "black_hole": True,
        "evidence": "larger datagrams vanish without a word: a black hole behind hop 2 "
        f"({chain.left(2, version)})",
    }


def test_a_service_that_ignores_long_requests_is_no_black_hole(chain: Chain) -> None:
    with serving(chain.server, {SHORT: short_only}, "::"):
        mtu = trace(chain.client, chain.target(4), SHORT, *FAST)[1]["path_mtu"]
        assert (mtu["bytes"], mtu["proven"], mtu["black_hole"]) == (1500, True, False)
        chain.server.shell("iptables -A OUTPUT -p icmp -j DROP")
        mtu = trace(chain.client, chain.target(4), SHORT, *FAST)[1]["path_mtu"]
        assert (mtu["bytes"], mtu["proven"], mtu["black_hole"]) == (1500, False, False)


@pytest.mark.parametrize("named", [0, 20, 1500, 65535])
def test_a_router_that_names_no_size_that_can_be(chain: Chain, named: int) -> None:
    """RFC 1191 5: old routers name none. The rest is nonsense or forged."""

    def said(packet: bytes) -> list[Said]:
        return [(3, 4, named)] if len(packet) > 1400 else []

    with impostor(chain.router(2), "-m length --length 1401:", said):
        mtu = trace(chain.client, chain.target(4), CLOSED, *FAST)[1]["path_mtu"]
    assert (mtu["bytes"], mtu["by"], mtu["black_hole"]) == (1400, chain.left(2, 4), False)
    assert "not which size" in mtu["evidence"]


def test_a_dead_host_behind_the_last_router(chain: Chain) -> None:
    """Three seconds after the first datagram the router gives up; its error is about that one."""
    code, found = trace(chain.client, NETWORK[4].format(3, 77), CLOSED)
    assert seen(found)[:4] == [*routers(chain, 4, 1, 2, 3), (None, None)]
    assert seen(found)[-1] == (chain.left(3, 4), "host unreachable")
    assert found["hops"][-1]["rtt_ms"] is found["result"]["rtt_ms"] is None
    assert (found["result"]["state"], found["path_mtu"], code) == ("unreachable", None, 4)


def test_a_dead_host_on_the_own_link_although_the_hops_were_given_up_early(chain: Chain) -> None:
    code, found = trace(chain.client, NETWORK[4].format(0, 77), CLOSED, *FAST)
    assert seen(found) == SILENCE
    assert (found["result"]["state"], found["path_mtu"], code) == ("unreachable", None, 4)
    assert "nobody on the link has that address" in found["result"]["evidence"][0]


def test_what_this_host_does_not_send_has_no_hops(chain: Chain) -> None:
    chain.client.shell(f"iptables -A OUTPUT -p udp --dport {CLOSED} -j DROP")
    code, found = trace(chain.client, chain.target(4), CLOSED)
    assert (found["hops"], found["result"]["state"], found["path_mtu"], code) == ([], "prohibited", None, 4)
    chain.client.ip("route del default")
    code, found = trace(chain.client, chain.target(4), OPEN)
    assert (found["hops"], found["result"]["state"], found["path_mtu"], code) == ([], "unreachable", None, 4)


@pytest.mark.parametrize(("address", "largest"), [("127.0.0.1", 65535), ("::1", 65536)])
def test_loopback(chain: Chain, address: str, largest: int) -> None:
    code, found = trace(chain.client, address, CLOSED)
    assert seen(found) == [(address, "port unreachable")]
    assert (found["path_mtu"]["bytes"], found["path_mtu"]["proven"], code) == (largest, True, 1)


def test_several_addresses_one_after_the_other(chain: Chain) -> None:
    both_of_them = f"{chain.target(4)},{chain.target(6)}"
    with serving(chain.server, {OPEN: echo}, "0.0.0.0"):
        program = begin(chain.client, both_of_them, OPEN)
        assert not end(program)
    text = program.output.decode()
    titles = [line for line in text.splitlines() if line and line[0] != " "]
    assert titles == [f"{chain.target(4)}:{OPEN}", f"[{chain.target(6)}]:{OPEN}"]
    assert program.status == 1  # the higher one


def test_text_says_what_is_known_as_soon_as_it_is(chain: Chain) -> None:
    """And Ctrl-C ends it."""
    with serving(chain.server, {QUIET: quiet}, "::"):
        program = begin(chain.client, chain.target(4), QUIET, "--timeout", 600)
        last = chain.left(3, 4)
        wait_until(lambda: last in program.output.decode(), [program], timeout=TIMEOUT, what="hop 3")
        program.stop(signal.SIGINT)
    lines = program.output.decode().splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [[str(n), chain.left(n, 4)] for n in (1, 2, 3)]
    assert all(line.endswith(" ms  time exceeded") for line in lines[1:4])
    assert (program.status, end(program)) == (130, "")


def test_interrupted_the_document_has_what_is_known(chain: Chain) -> None:
    arrived = threading.Event()

    def note(_sock: socket.socket, _data: bytes, _peer: Peer) -> None:
        arrived.set()

    with serving(chain.server, {QUIET: note}, "::"):
        program = begin(chain.client, "--json", chain.target(4), QUIET, "--timeout", 600)
        assert arrived.wait(TIMEOUT)
        program.stop(signal.SIGINT)
    found = json.loads(program.output)
    assert seen(found) == routers(chain, 4, 1, 2, 3)
    assert (found["result"], found["path_mtu"], program.status) == (None, None, 130)


def test_a_reply_is_named(chain: Chain) -> None:
    with serving(chain.server, {OPEN: echo}, "::"):
        program = begin(chain.client, chain.target(4), OPEN, "--payload", "68656c6c6f")
        assert not end(program)
    lines = program.output.decode().splitlines()
    assert lines[4].endswith(" ms  reply: echo")
    assert lines[5].split() == ["open", *f"reply from {chain.target(4)}:{OPEN}: echo".split()]
    assert lines[6].startswith("  path MTU      1500 bytes: ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "--trace takes one port"),
        (("53-55",), "--trace takes one port"),
        (("53", "--every", "1"), "exclude each other"),
        (("53", "--source", "192.0.2.200"), "192.0.2.200"),
        (("53", "--interface", "none"), "none: No such device"),
    ],
)
def test_wrong_usage(chain: Chain, arguments: tuple[str, ...], complaint: str) -> None:
    program = begin(chain.client, chain.target(4), *arguments)
    errors = end(program)
    assert complaint in errors
    assert errors.count("\n") == 1
    assert (program.status, bytes(program.output)) == (2, b"")
