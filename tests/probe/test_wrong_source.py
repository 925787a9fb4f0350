"""Answers from an address or port that was not asked; and answers that only look odd."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from cli.command import TIMEOUT, UDPKIT

from udpkit.lab import Host, Lab

from .conftest import NEAR, SECOND, Path, Peer, begin, echo, end, probe, quiet, serving, unlimited

MDNS = 5353
QUICKLY = ("--timeout", "0.3", "--retries", "1")
REFUSES = "a connected client's kernel refuses that reply"
VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


def endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@pytest.fixture
def docker() -> Iterator[Path]:
    """The story of FACTS: a server with `eth0` and a bridge `docker0`, the client behind that bridge."""
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.plug(server, "eth0")
        server.address("eth0", "172.16.13.13/24")
        server.bridge("docker0", "172.17.0.1/16")
        lab.link(client, "eth0", server, "docker0")
        client.address("eth0", "172.17.0.3/16")
        client.ip("route add default via 172.17.0.1")
        yield Path(lab, client, server)


def test_docker0(docker: Path) -> None:
    with serving(docker.server, {56789: echo}, "0.0.0.0"):
        outcome = probe(docker.client, "172.16.13.13", 56789)
        right = probe(docker.client, "172.17.0.1", 56789)
        shown = docker.client.run(UDPKIT, "probe", "172.16.13.13", "56789")
        assert shown.wait(TIMEOUT) == 1
    assert (outcome.status, right.status) == (1, 0)
    [result] = outcome.results
    assert (result["state"], result["reply_from"]) == ("wrong-source", "172.17.0.1:56789")
    assert result["evidence"] == [
        "reply from 172.17.0.1:56789, not from 172.16.13.13:56789: echo",
        REFUSES,
    ]
    assert result["rtt_ms"] > 0
    assert right.states() == {56789: "open"}
    text = shown.output.decode()
    assert "wrong-source" in text
    assert "reply from 172.17.0.1:56789, not from 172.16.13.13:56789" in text
    assert REFUSES in text


@VERSIONS
def test_every_port_that_answers_from_the_wrong_address_is_named(near: Path, version: int) -> None:
    """Wildcard servers, asked at the address that the route does not choose, among others."""
    wrong, asked = [(NEAR, SECOND), (SECOND, NEAR)][version == 6]
    anything = {4: "0.0.0.0", 6: "::"}[version]
    with (
        serving(near.server, {7000: echo, 7001: echo, 7002: quiet}, anything),
        serving(near.server, {7003: echo}, asked[version]),
    ):
        outcome = probe(near.client, asked[version], "7000-7004", *QUICKLY)
    assert outcome.states() == {
        7000: "wrong-source", 7001: "wrong-source", 7002: "silent", 7003: "open", 7004: "closed",
    }  # fmt: skip
    for port in (7000, 7001):
        assert outcome.one(port)["reply_from"] == endpoint(wrong[version], port)


def test_what_another_address_was_asked_is_no_answer_of_the_sender(near: Path) -> None:
    """Everything is answered twice by the address that keeps silent about what it is asked itself."""

    def twice(_sock: socket.socket, data: bytes, peer: Peer) -> None:
        with near.server.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((SECOND[4], MDNS))
            for _ in range(2):
                other.sendto(data[:2] + b"\x84\0" + data[4:], peer)  # a response (RFC 1035, section 4.1.1)

    with near.server.socket(socket.AF_INET, socket.SOCK_DGRAM) as quiet_one:
        quiet_one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        quiet_one.bind((SECOND[4], MDNS))
        with serving(near.server, {MDNS: twice}, NEAR[4]):
            outcome = probe(near.client, f"{NEAR[4]},{SECOND[4]}", MDNS, *QUICKLY)
    asked, other = outcome.one(MDNS, NEAR[4]), outcome.one(MDNS, SECOND[4])
    assert (asked["state"], asked["answer"]) == ("wrong-source", "mDNS: NOERROR, 0 answers")
    assert (other["state"], other["answer"]) == ("silent", None)


def answer_from(host: Host, address: str, port: int = 0) -> Callable[[socket.socket, bytes, Peer], None]:
    """A behaviour: answers from a socket of its own, on any port where it is 0."""

    def answer(sock: socket.socket, data: bytes, peer: Peer) -> None:
        with host.socket(sock.family, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((address, port))
            other.sendto(data, peer)

    return answer


@VERSIONS
def test_answers_from_another_port(near: Path, version: int) -> None:
    address = NEAR[version]
    behaviour = answer_from(near.server, address)
    with serving(near.server, {7000: behaviour, 7001: behaviour, 7002: echo, 7003: quiet}, address):
        alone = begin(near.client, address, 7000)
        outcome = probe(near.client, address, "7000-7004", *QUICKLY)
        alone_outcome = end(alone)
    assert alone_outcome.states() == {7000: "wrong-source"}
    assert outcome.states() == {
        7000: "wrong-source", 7001: "wrong-source", 7002: "open", 7003: "silent", 7004: "closed",
    }  # fmt: skip
    for result in (*alone_outcome.results, outcome.one(7000), outcome.one(7001)):
        assert result["reply_from"].startswith(endpoint(address, 0)[:-1])
        assert result["reply_from"] != endpoint(address, result["port"])
        assert result["evidence"][-1] == REFUSES


def test_a_rule_that_moves_the_port(near: Path) -> None:
    near.server.shell(
        "nft 'table ip t { chain o { type filter hook output priority -300; "
        "udp sport 7000 udp sport set 7999 notrack; }; }'"
    )
    with serving(near.server, {7000: echo}, NEAR[4]):
        outcome = probe(near.client, NEAR[4], "7000-7001")
    assert outcome.states() == {7000: "wrong-source", 7001: "closed"}
    assert outcome.one(7000)["reply_from"] == f"{NEAR[4]}:7999"


def test_another_port_and_another_address(near: Path) -> None:
    with serving(near.server, {7000: answer_from(near.server, SECOND[4], 7777)}, NEAR[4]):
        outcome = probe(near.client, NEAR[4], "7000-7003", *QUICKLY)
    assert outcome.states() == {7000: "wrong-source", 7001: "closed", 7002: "closed", 7003: "closed"}
    assert outcome.one(7000)["reply_from"] == f"{SECOND[4]}:7777"


# No false alarms.


class Nth:
    """Answers each peer's datagrams from the `first` on."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.heard = 0

    def __call__(self, sock: socket.socket, data: bytes, peer: Peer) -> None:
        self.heard += 1
        if self.heard >= self.first:
            sock.sendto(data, peer)


def later(seconds: float) -> Callable[[socket.socket, bytes, Peer], None]:
    """A behaviour: a server that takes its time, for each request."""

    def send(sock: socket.socket, data: bytes, peer: Peer) -> None:
        with suppress(OSError):  # the test is over
            sock.sendto(data, peer)

    def answer(*arguments: object) -> None:
        threading.Timer(seconds, send, arguments).start()

    return answer


def burst(sock: socket.socket, data: bytes, peer: Peer) -> None:
    for _ in range(500):
        sock.sendto(data * 5, peer)


def test_slow_forgetful_and_loud_servers_are_open(near: Path) -> None:
    """After 0.9 s; the third datagram only; twice; 500 times; an empty answer, and a long one."""
    servers = {
        7000: later(0.9),
        7001: Nth(3),
        7002: lambda sock, data, peer: [sock.sendto(data, peer) for _ in range(2)],
        7003: burst,
        7004: lambda sock, _data, peer: sock.sendto(b"", peer),
        7005: lambda sock, _data, peer: sock.sendto(bytes(60_000), peer),
    }
    with serving(near.server, servers, NEAR[4]):
        outcome = probe(near.client, NEAR[4], "7000-7006")
    assert outcome.states() == dict.fromkeys(servers, "open") | {7006: "closed"}
    assert outcome.one(7001)["sent"] == 3
    assert outcome.one(7004)["evidence"] == [f"reply from {NEAR[4]}:7004: 0 bytes"]


def test_two_ports_whose_answers_cross(near: Path) -> None:
    """Each answers from its own address: nothing of one is the other's, however late."""
    with serving(near.server, {7000: later(0.5), 7001: later(0.2)}, NEAR[4], SECOND[4]):
        outcome = probe(near.client, f"{NEAR[4]},{SECOND[4]}", "7000-7001")
    assert [result["state"] for result in outcome.results] == ["open"] * 4
    assert all(result["reply_from"] == f"{result['address']}:{result['port']}" for result in outcome.results)


class Stranger:
    """A behaviour: before the server answers, somebody else sends the client a datagram."""

    def __init__(self, host: Host, address: str, port: int, delay: float) -> None:
        self.host, self.address, self.port, self.delay = host, address, port, delay

    def __call__(self, sock: socket.socket, data: bytes, peer: Peer) -> None:
        answer_from(self.host, self.address, self.port)(sock, b"unrelated", peer)
        later(self.delay)(sock, data, peer)


@pytest.mark.parametrize("port", [7000, 9], ids=["the same port", "another port"])
@pytest.mark.parametrize("asked", ["7000", "7000-7001"])
def test_a_strangers_datagram_is_not_the_answer_of_a_port_that_answers(
    near: Path, port: int, asked: str
) -> None:
    server = Stranger(near.server, SECOND[4], port, 0.2)
    with serving(near.server, {7000: server}, NEAR[4]):
        outcome = probe(near.client, NEAR[4], asked)
    assert outcome.one(7000)["state"] == "open"
    assert outcome.one(7000)["reply_from"] == f"{NEAR[4]}:7000"


def test_a_server_that_is_overloaded(near: Path) -> None:
    """Its queue is full of others' datagrams, which it answers one by one."""
    unlimited(near.server)
    with (
        near.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        serving(near.server, {7000: echo, 7001: quiet}, NEAR[4]),
    ):
        over = threading.Event()

        def flood() -> None:
            other.connect((NEAR[4], 7000))
            while not over.is_set():
                with suppress(OSError):
                    other.send(bytes(1000))

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            outcome = probe(near.client, NEAR[4], "7000-7002")
        finally:
            over.set()
            thread.join()
    assert outcome.states() == {7000: "open", 7001: "silent", 7002: "closed"}


def test_many_silent_ports_and_one_that_answers_from_another_port(near: Path) -> None:
    """Which of them it was is found out in ever smaller groups."""
    near.server.shell("iptables -A INPUT -p udp ! --dport 7123 -j DROP")
    with serving(near.server, {7123: answer_from(near.server, NEAR[4])}, NEAR[4]):
        outcome = probe(near.client, NEAR[4], "7000-7299", *QUICKLY)
    assert [port for port, state in outcome.states().items() if state != "silent"] == [7123]
    assert outcome.one(7123)["state"] == "wrong-source"


def test_a_wrong_answer_that_nobody_can_name_counts_once_it_is_repeated(near: Path) -> None:
    """One datagram from elsewhere may be a stranger's; another one, after the timeout, counts."""

    def shout(sock: socket.socket, _data: bytes, peer: Peer) -> None:
        answer_from(near.server, SECOND[4], 7000)(sock, b"what?", peer)

    with serving(near.server, {7000: shout}, NEAR[4]):
        outcome = probe(near.client, NEAR[4], 7000)
        once = probe(near.client, NEAR[4], 7000, "--retries", 0, "--timeout", 0.3)
    for [result] in (outcome.results, once.results):
        assert (result["state"], result["reply_from"]) == ("wrong-source", f"{SECOND[4]}:7000")
    assert outcome.one(7000)["sent"] > 1 == once.one(7000)["sent"]


@VERSIONS
def test_both_addresses_of_a_wildcard_server_in_one_sweep(near: Path, version: int) -> None:
    """Its answers for the one address look like more answers from the other."""
    anything = {4: "0.0.0.0", 6: "::"}[version]
    with serving(
        near.server, {7000: echo, 7001: lambda sock, _data, peer: sock.sendto(b"!", peer)}, anything
    ):
        outcome = probe(near.client, f"{NEAR[version]},{SECOND[version]}", "7000-7001", *QUICKLY)
    states = {(result["address"], result["port"]): result["state"] for result in outcome.results}
    right, wrong = [(NEAR, SECOND), (SECOND, NEAR)][version == 6]
    assert states == {
        (address[version], port): state
        for address, state in ((right, "open"), (wrong, "wrong-source"))
        for port in (7000, 7001)
    }


def test_answers_twice_beside_a_quiet_one_of_the_same_number(near: Path) -> None:
    """What comes twice from one host is not the answer of another."""

    def twice(sock: socket.socket, _data: bytes, peer: Peer) -> None:
        for _ in range(2):
            sock.sendto(b"!", peer)

    with serving(near.server, {7000: twice}, NEAR[4]), serving(near.server, {7000: quiet}, SECOND[4]):
        outcome = probe(near.client, f"{NEAR[4]},{SECOND[4]}", 7000, *QUICKLY)
    assert [result["state"] for result in outcome.results] == ["open", "silent"]
