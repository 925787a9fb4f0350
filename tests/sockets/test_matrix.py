"""Every kind of address in every family, asked of every flavour of server: who answers is who was asked.

The server's routes prefer another source for nearly all of these: `test_a_stock_server…` shows which.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from udpkit._native import read_pcap
from udpkit.lab import Capture, Host, Lab, Program, wait_until

from .flavours import FLAVOURS
from .serving import serving, standing_still, wait_for_addresses

PORT = 5300
PATIENCE = 20
"""Seconds."""


@dataclass(frozen=True)
class Kind:
    """An address to ask, and from where its answer must come."""

    name: str
    asked: str
    preferred: str
    """What the route prefers as the source of the answer: a stock server's choice."""
    right: str = ""
    """The right source, if it is not the address that was asked: nobody can answer from a group."""
    source: str = ""
    """Where the client asks from, if its own route shall not choose."""
    arrives: str = "client.eth0"
    """The host that asks, and its interface by which the answer comes."""

    @property
    def answer(self) -> str:
        return self.right or self.asked

    @property
    def client(self) -> str:
        return self.arrives.partition(".")[0]

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.asked else socket.AF_INET


IPV4 = [
    Kind("plain", "10.0.0.1", "10.0.0.1"),
    Kind("secondary", "10.0.0.7", "10.0.0.1"),
    Kind("second interface", "192.0.2.1", "10.0.0.1"),
    Kind("bridge", "172.17.0.1", "10.0.0.1"),
    Kind("from behind the bridge", "10.0.0.1", "172.17.0.1", arrives="behind.eth0"),
    Kind("lo alias", "198.51.100.9", "10.0.0.1"),
    Kind("link-local", "169.254.7.7", "10.0.0.1"),
    Kind("subnet broadcast", "10.0.0.255", "10.0.0.1", "10.0.0.1"),
    Kind("limited broadcast", "255.255.255.255", "10.0.0.1", "10.0.0.1"),
    Kind("joined group", "239.1.2.3", "10.0.0.1", "10.0.0.1"),
    Kind("asymmetric route", "10.0.0.1", "10.0.1.1", source="203.0.113.5", arrives="client.eth1"),
]
IPV6 = [
    Kind("plain 6", "2001:db8:0:1::1", "2001:db8:0:1::1"),
    Kind("secondary 6", "2001:db8:0:1::7", "2001:db8:0:1::1"),
    Kind("second interface 6", "2001:db8:0:2::1", "2001:db8:0:1::1"),
    Kind("bridge 6", "2001:db8:0:3::1", "2001:db8:0:1::1"),
    Kind("from behind the bridge 6", "2001:db8:0:1::1", "2001:db8:0:3::1", arrives="behind.eth0"),
    Kind("lo alias 6", "2001:db8:0:9::9", "2001:db8:0:1::1"),
    Kind("ULA", "fd00:1::1", "2001:db8:0:1::1", source="2001:db8:0:1::2"),
    Kind("global", "2001:db8:0:1::1", "fd00:1::1", source="fd00:1::2"),
    Kind("link-local 6", "fe80::7", "fe80::1"),
    Kind("all hosts 6", "ff02::1", "fe80::1", "fe80::1"),
    Kind("joined group 6", "ff15::7", "2001:db8:0:1::1", "2001:db8:0:1::1"),
    Kind("asymmetric route 6", "2001:db8:0:1::1", "2001:db8:0:4::1", "", "2001:db8:0:5::5", "client.eth1"),
]
ALL_HOSTS = Kind("all hosts", "224.0.0.1", "10.0.0.1", "10.0.0.1")
"""An IPv6 socket hears only IPv4 groups that it has joined: IP_MULTICAST_ALL is off there (inet6_create)."""

FAMILIES = {
    "IPv4": ("0.0.0.0", [*IPV4, ALL_HOSTS]),
    "IPv6": ("::", IPV6),
    "dual-stack": ("", IPV4 + IPV6),
}
"""Where the server is bound, and what can be asked."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A server with an address of each kind; a client with two cables to it, and one behind its bridge.

    What the client asks leaves by eth0. Answers to the addresses on its lo come back by eth1.
    """
    with Lab() as lab:
        server, client, behind = hosts = [lab.host(name) for name in ("server", "client", "behind")]
        # Every link has a link-local address, or neighbors could not be solicited for an answer whose source
        # is on another link (ndisc_solicit). The kernel's own would be ready a second later.
        for host in hosts:
            host.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)
            for which in ("all", "default"):  # strict, it would drop what comes by another way than it leaves
                host.sysctl(f"net.ipv4.conf.{which}.rp_filter", 0)
        server.bridge("br0", "172.17.0.1/16", "2001:db8:0:3::1/64", "fe80::1/64")
        lab.link(client, "eth0", server, "eth0")
        lab.link(client, "eth1", server, "eth2")
        lab.link(behind, "eth0", server, "br0")
        lab.plug(server, "eth1")

        server.address("eth0", "10.0.0.1/24", "10.0.0.7/24", "169.254.7.7/16")
        server.address("eth0", "2001:db8:0:1::7/64", "2001:db8:0:1::1/64", "fd00:1::1/64")
        server.address("eth0", "fe80::7/64", "fe80::1/64")
        server.address("eth1", "192.0.2.1/24", "2001:db8:0:2::1/64", "fe80::1/64")
        server.address("eth2", "10.0.1.1/24", "2001:db8:0:4::1/64", "fe80::1/64")
        server.address("lo", "198.51.100.9/32", "2001:db8:0:9::9/128")
        server.ip("route add 203.0.113.5 via 10.0.1.2")
        server.ip("route add 2001:db8:0:5::5 via 2001:db8:0:4::2")

        client.address("eth0", "10.0.0.2/24", "2001:db8:0:1::2/64", "fd00:1::2/64", "fe80::2/64")
        client.address("eth1", "10.0.1.2/24", "2001:db8:0:4::2/64", "fe80::2/64")
        client.address("lo", "203.0.113.5/32", "2001:db8:0:5::5/128")
        client.ip("route add default via 10.0.0.1")
        client.ip("route add default via 2001:db8:0:1::1")
        client.ip("route add 169.254.0.0/16 dev eth0")

        behind.address("eth0", "172.17.0.3/16", "2001:db8:0:3::3/64", "fe80::3/64")
        behind.ip("route add default via 172.17.0.1")
        behind.ip("route add default via 2001:db8:0:3::1")
        wait_for_addresses(*hosts)
        yield lab


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def ask(lab: Lab, opened: ExitStack, kind: Kind, *, connected: bool, data: bytes = b"") -> socket.socket:
    """A socket that has sent the data, else the kind's name.

    Connected, it takes answers only from where it asked.
    """
    client = lab.hosts[kind.client]
    sock = opened.enter_context(client.socket(kind.family, socket.SOCK_DGRAM))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if kind.source:
        sock.bind((kind.source, 0))
    scope = (0, interface_index(client, "eth0")) if kind.asked.startswith(("fe80:", "ff")) else ()
    address = (kind.asked, PORT, *scope)
    if connected:
        sock.connect(address)
        sock.send(data or kind.name.encode())
    else:
        sock.sendto(data or kind.name.encode(), address)
    return sock


def interface_index(host: Host, interface: str) -> int:
    return int(host.ip(f"-oneline link show dev {interface}").partition(":")[0])


Asked = list[tuple[Kind, socket.socket]]


def heard(asked: Asked, deadline: float) -> dict[str, str]:
    """Who answered whom until then."""
    answerers = {}
    for kind, sock in asked:
        sock.settimeout(max(deadline - time.monotonic(), 0.1))
        try:
            data, (address, port, *_) = sock.recvfrom(100)
        except TimeoutError:
            answerers[kind.name] = "nobody"
        else:
            assert (data, port) == (kind.name.encode(), PORT)
            answerers[kind.name] = address.partition("%")[0]
    return answerers


def ask_each(lab: Lab, opened: ExitStack, kinds: list[Kind], *, connected: bool = True) -> dict[str, str]:
    """One after the other: who answers. Connected clients, where there can be any."""
    deadline = time.monotonic() + PATIENCE
    answerers = {}
    for kind in kinds:
        sock = ask(lab, opened, kind, connected=connected and not kind.right)
        answerers |= heard([(kind, sock)], deadline)
    return answerers


def ask_all(lab: Lab, opened: ExitStack, kinds: list[Kind], server: Program) -> dict[str, str]:
    """All at once, so that one batch has every kind of address: who answers."""
    with standing_still(server):
        asked = [(kind, ask(lab, opened, kind, connected=not kind.right)) for kind in kinds]
    return heard(asked, time.monotonic() + PATIENCE)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_answer_comes_from_the_address_that_was_asked(
    lab: Lab, opened: ExitStack, flavour: str, family: str
) -> None:
    address, kinds = FAMILIES[family]
    right = {kind.name: kind.answer for kind in kinds}
    captures = {way: capture(lab, opened, way) for way in ("client.eth0", "client.eth1", "behind.eth0")}
    server = opened.enter_context(serving(lab.hosts["server"], flavour, address, PORT))

    assert ask_each(lab, opened, kinds) == right
    assert ask_all(lab, opened, kinds, server) == right
    assert answers(captures) == {kind.name: {(kind.arrives, kind.answer): 2} for kind in kinds}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_who_asks_at_the_moment_the_port_opens_is_answered_from_the_right_address_too(
    lab: Lab, opened: ExitStack, flavour: str
) -> None:
    """So the kernel must have been told before bind(2) what to say of each datagram."""
    kinds = [kind for kind in IPV4 + IPV6 if not kind.right]
    server = opened.enter_context(serving(lab.hosts["server"], flavour, "", PORT, "slowly"))
    asked = [(kind, ask(lab, opened, kind, connected=True)) for kind in kinds]
    server.type(b"go on\n")
    assert heard(asked, time.monotonic() + PATIENCE) == {kind.name: kind.asked for kind in kinds}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stock_server_answers_from_the_address_that_the_route_prefers(
    lab: Lab, opened: ExitStack, family: str
) -> None:
    """So the test above would fail for every kind whose `preferred` is another than its `answer`."""
    address, kinds = FAMILIES[family]
    opened.enter_context(serving(lab.hosts["server"], "stock", address, PORT))
    assert ask_each(lab, opened, kinds, connected=False) == {kind.name: kind.preferred for kind in kinds}


@pytest.mark.parametrize("kind", [IPV4[1], IPV6[1]], ids=lambda kind: kind.name)
def test_a_connected_client_does_not_hear_an_answer_from_another_address(
    lab: Lab, opened: ExitStack, kind: Kind
) -> None:
    """So it is proof enough that a connected client heard its answer."""
    wire = capture(lab, opened, kind.arrives)
    opened.enter_context(serving(lab.hosts["server"], "stock", "", PORT))
    sock = ask(lab, opened, kind, connected=True)
    wait_until(
        lambda: answers({kind.arrives: wire}) == {kind.name: {(kind.arrives, kind.preferred): 1}},
        [wire],
        timeout=PATIENCE,
        what="the stock server did not answer",
    )
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(100)


def capture(lab: Lab, opened: ExitStack, way: str) -> Capture:
    host, _, interface = way.partition(".")
    capture = lab.hosts[host].capture(interface)
    opened.callback(capture.close)
    return capture


def answers(captures: dict[str, Capture]) -> dict[str, Counter[tuple[str, str]]]:
    """What was answered by which way and from which source, as the captures have it."""
    seen: dict[str, Counter[tuple[str, str]]] = {}
    for way, captured in captures.items():
        for datagram in read_pcap(captured.pcap()).datagrams:
            if datagram.source_port == PORT:
                seen.setdefault(datagram.payload.decode(), Counter())[way, str(datagram.source)] += 1
    return seen
