"""What became of datagrams that were sent: ICMP errors, local errors, and what goes on in spite of them."""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from kernel.told import checksum

from udpkit.facts import Endpoint
from udpkit.kernel.icmp import KINDS
from udpkit.lab import CommandFailed, Host, Lab, wait_until
from udpkit.sockets import ErrorReport, NetworkError, Prohibited, Refused, opening

from .conftest import NETWORKS, Network, Opener, Stage
from .serving import wait_for_addresses

PEER_PORT = 9
TOO_BIG = {(3, 4), (2, 0)}
MTU = 1300
REFUSED = {4: (3, 3), 6: (1, 4)}
PAYLOAD = b"what the error is about"

EVERY_NETWORK = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
UNSCOPED = {name: network for name, network in NETWORKS.items() if name != "link-local"}
EVERY_KIND = [
    pytest.param(network, kind[1:], id=f"{name}: {KINDS[kind].name}")
    for name, network in UNSCOPED.items()
    for kind in KINDS
    if kind[0] == network.version
]


def sockaddr(network: Network, stage: Stage, host: Host, address: str, port: int) -> tuple[Any, ...]:
    """An address for a plain socket of `host`."""
    if network.family == socket.AF_INET:
        return address, port
    return address, port, 0, stage.index(host) if address.startswith("fe80") else 0


class Router:
    """Sends ICMP errors about datagrams that the server's host has sent to the client, or could have."""

    def __init__(self, network: Network, stage: Stage) -> None:
        self._network = network
        protocol = socket.IPPROTO_ICMP if network.version == 4 else socket.IPPROTO_ICMPV6
        self._raw = stage.client.socket(network.family, socket.SOCK_RAW, protocol)
        self._raw.bind(sockaddr(network, stage, stage.client, network.router, 0))
        self._server = sockaddr(network, stage, stage.client, network.server, 0)

    def tell(self, kind: tuple[int, int], port: int, payload: bytes = PAYLOAD, times: int = 1) -> None:
        network = self._network
        addresses = b"".join(socket.inet_pton(network.family, a) for a in (network.server, network.client))
        length = 8 + len(payload)
        datagram = struct.pack("!4H", port, PEER_PORT, length, 0) + payload
        if network.version == 4:
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, socket.IPPROTO_UDP, 0)
        else:
            header = struct.pack("!IHBB", 6 << 28, length, socket.IPPROTO_UDP, 64)
        quote = header + addresses + datagram
        message = bytes([*kind, 0, 0]) + struct.pack("!I", MTU if kind in TOO_BIG else 0) + quote
        if network.version == 4:
            message = message[:2] + checksum(message + bytes(len(message) % 2)) + message[4:]
        for _ in range(times):
            self._raw.sendto(message, self._server)

    def close(self) -> None:
        self._raw.close()


@contextmanager
def router(network: Network, stage: Stage) -> Iterator[Router]:
    opened = Router(network, stage)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def client(stage: Stage) -> Iterator[Callable[[Network], socket.socket]]:
    """Makes plain sockets on the client, with a timeout."""
    made = []

    def make(network: Network) -> socket.socket:
        made.append(plain := stage.client.socket(network.family, socket.SOCK_DGRAM))
        plain.settimeout(20)
        plain.bind(sockaddr(network, stage, stage.client, network.client, 0))
        return plain

    yield make
    for plain in made:
        plain.close()


# ICMP errors as values.


@pytest.mark.parametrize(("network", "kind"), EVERY_KIND)
def test_every_icmp_error_is_a_report_that_says_it_all(
    shared_stage: Stage, blocking: Opener, network: Network, kind: tuple[int, int]
) -> None:
    server = blocking(network.bound, on=shared_stage.server, timeout=20)
    known = KINDS[(network.version, *kind)]
    with router(network, shared_stage) as offender:
        offender.tell(kind, server.port)
        if known.errno is None:  # nobody is told: the next error is the first that comes
            kind, known = REFUSED[network.version], KINDS[(network.version, *REFUSED[network.version])]
            offender.tell(kind, server.port)
        assert server.recv_many() == []
    assert server.errors() == [
        ErrorReport(
            kind=known.name,
            errno=known.errno,
            origin="icmp" if network.version == 4 else "icmp6",
            type=kind[0],
            code=kind[1],
            peer=Endpoint(ip_address(network.client), PEER_PORT),
            local=ip_address(network.server),
            offender=ip_address(network.router),
            mtu=MTU if kind in TOO_BIG else None,
            quoted=PAYLOAD,
        )
    ]
    assert server.errors() == []


@EVERY_NETWORK
def test_both_families_errors_are_asked_for(blocking: Opener, network: Network) -> None:
    opened = blocking(network.bound)
    levels = {"0.0.0.0": [socket.IPPROTO_IP], "::": [socket.IPPROTO_IP, socket.IPPROTO_IPV6]}
    options = {socket.IPPROTO_IP: opening.IP_RECVERR, socket.IPPROTO_IPV6: opening.IPV6_RECVERR}
    deaf = blocking(network.bound, report_errors=False)
    for level in levels[network.bound or "::"]:
        assert opened.getsockopt(level, options[level]) == 1
        assert deaf.getsockopt(level, options[level]) == 0


@EVERY_NETWORK
def test_a_refused_answer_is_reported_and_the_server_goes_on(
    stage: Stage, opener: Opener, client: Callable[[Network], socket.socket], network: Network
) -> None:
    server = opener(network.bound, on=stage.server)
    gone, here = client(network), client(network)
    address = sockaddr(network, stage, stage.client, network.server, server.port)
    gone.sendto(b"hello, and goodbye", address)
    request = server.recv()
    gone.close()
    assert server.reply(request, b"is there anybody?")
    assert server.recv_many() == []
    [report] = server.errors()
    assert (report.kind, report.errno) == ("port unreachable", errno.ECONNREFUSED)
    assert report.peer == request.peer
    assert report.local == ip_address(network.server)
    assert str(report.offender).partition("%")[0] == network.client
    assert report.quoted == b"is there anybody?"
    here.sendto(b"I am", address)
    request = server.recv()
    assert server.reply(request, b"good")
    assert here.recv(100) == b"good"


def send_until_refused(connected: Any) -> None:
    wait_until(lambda: connected.send(b"again"), timeout=20, what="sending was not refused", polling=True)


CALLS: dict[str, Callable[[Any], Any]] = {
    "recv": lambda connected: connected.recv(),
    "send": send_until_refused,
}


@EVERY_NETWORK
@pytest.mark.parametrize("call", CALLS)
def test_a_connected_client_that_is_refused_is_told_with_the_report(
    stage: Stage, opener: Opener, network: Network, call: str
) -> None:
    scope = (0, stage.index(stage.server)) if network.client.startswith("fe80") else ()
    peer = (network.client, PEER_PORT, *scope)
    connected = opener(on=stage.server, peer=peer)
    connected.send(b"is there anybody?")
    with pytest.raises(Refused) as refusal:
        CALLS[call](connected)
    assert isinstance(refusal.value, ConnectionRefusedError)
    assert refusal.value.errno == errno.ECONNREFUSED
    report = refusal.value.report
    assert (report.kind, report.peer) == ("port unreachable", connected.peer)
    assert report.quoted in (b"is there anybody?", b"again")
    assert connected.peer.port == PEER_PORT


def test_with_errors_not_asked_for_a_connected_client_is_refused_nevertheless(
    stage: Stage, blocking: Opener
) -> None:
    connected = blocking(on=stage.server, peer=("192.0.2.2", PEER_PORT), report_errors=False, timeout=20)
    connected.send(b"is there anybody?")
    with pytest.raises(Refused) as refusal:
        connected.recv()
    assert refusal.value.report.errno == errno.ECONNREFUSED


# Neither killed nor spinning.


def spent(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and the processor time that its thread had used for it."""
    before = time.thread_time()
    return call(), time.thread_time() - before


WINDOW = 0.4
"""Seconds during which a waiting call is watched: one that spins uses all of them."""


@pytest.mark.parametrize("timeout", [None, 30], ids=["blocking", "timeout"])
@pytest.mark.parametrize("wait", ["recv", "recv_many until there is one"])
@EVERY_NETWORK
def test_an_error_while_waiting_does_not_make_it_spin(
    shared_stage: Stage, blocking: Opener, network: Network, wait: str, timeout: float | None
) -> None:
    server = blocking(network.bound, on=shared_stage.server, timeout=timeout)
    turns = 0

    def until_there_is_one() -> Any:
        nonlocal turns
        while not (received := server.recv_many()):
            turns += 1
        return received[0]

    address = sockaddr(network, shared_stage, shared_stage.client, network.server, server.port)
    with (
        router(network, shared_stage) as offender,
        ThreadPoolExecutor(1) as pool,
        shared_stage.client.socket(network.family, socket.SOCK_DGRAM) as plain,
    ):
        waiting = pool.submit(spent, server.recv if wait == "recv" else until_there_is_one)
        offender.tell(REFUSED[network.version], server.port)
        threading.Event().wait(WINDOW)
        assert not waiting.done()
        plain.sendto(b"the end", address)
        datagram, seconds = waiting.result(20)
    assert datagram.data == b"the end"
    assert seconds < WINDOW / 4
    assert turns <= 1
    assert [report.kind for report in server.errors()] == ["port unreachable"]


@EVERY_NETWORK
@pytest.mark.parametrize("options", [{}, {"receive_buffer": 0}], ids=["usual buffer", "least buffer"])
def test_a_storm_of_errors_keeps_no_client_from_its_answer(
    stage: Stage,
    opener: Opener,
    client: Callable[[Network], socket.socket],
    network: Network,
    options: dict[str, int],
) -> None:
    server = opener(network.bound, on=stage.server, **options)
    asker = client(network)
    asker.connect(sockaddr(network, stage, stage.client, network.server, server.port))
    asker.settimeout(0.1)
    rounds = 20
    begun, calm = threading.Event(), threading.Event()

    def storm() -> int:
        told = 0
        with router(network, stage) as offender:
            while not calm.is_set() or told == 0:
                offender.tell(REFUSED[network.version], server.port, times=20)
                told += 20
                begun.set()
        return told

    def serve() -> None:
        answered = 0
        while answered < rounds:
            request = server.recv()
            answered += server.reply(request, request.data)

    with ThreadPoolExecutor(2) as pool:
        serving = pool.submit(serve)
        storming = pool.submit(storm)
        try:
            assert begun.wait(20)
            for number in range(rounds):
                payload = str(number).encode()
                answer = b""
                while answer != payload:  # a full buffer may have dropped it
                    asker.send(payload)
                    answer = heard(asker)
                    if serving.done():
                        serving.result()
                        break
        finally:
            calm.set()
        told = storming.result()
        serving.result(20)
    reports = server.errors()
    while more := server.errors():
        reports += more
    assert len(reports) + server.errors_lost > 0
    # Those without details are what SO_ERROR alone said, perhaps of the same error.
    assert len([report for report in reports if report.origin != "local"]) <= told
    assert {report.errno for report in reports} == {errno.ECONNREFUSED}
    assert server.stale_sources == 0


def heard(asker: socket.socket) -> bytes:
    try:
        return asker.recv(100)
    except TimeoutError:
        return b""


def test_reports_that_nobody_takes_are_counted(shared_stage: Stage, blocking: Opener) -> None:
    server = blocking("0.0.0.0", on=shared_stage.server, timeout=20)
    told = 1500
    network = NETWORKS["IPv4"]
    with router(network, shared_stage) as offender:
        for number in range(told):
            offender.tell(REFUSED[4], server.port, payload=f"{number:04}".encode())
            assert server.recv_many() == []
    reports = server.errors()
    assert (len(reports), server.errors_lost) == (1024, told - 1024)
    assert [int(report.quoted) for report in reports] == list(range(told - 1024, told))


@EVERY_NETWORK
def test_a_peer_that_always_refuses_is_nobody_elses_trouble(
    stage: Stage, opener: Opener, client: Callable[[Network], socket.socket], network: Network
) -> None:
    server = opener(network.bound, on=stage.server)
    address = sockaddr(network, stage, stage.client, network.server, server.port)
    gone, here = client(network), client(network)
    gone.sendto(b"hello", address)
    refusing = server.recv()
    gone.close()
    here.sendto(b"hello", address)
    listening = server.recv()
    rounds = 50
    for number in range(rounds):
        assert server.reply(refusing, b"not heard")
        assert server.reply(listening, str(number).encode())
    server.reply_many([(refusing, b"not heard"), (listening, b"last")] * 2)
    answers = [here.recv(100) for _ in range(rounds + 2)]
    assert answers == [*(str(number).encode() for number in range(rounds)), b"last", b"last"]
    reports: list[ErrorReport] = []
    wait_until(
        lambda: reports.extend(server.errors()) or len(reports) == rounds + 2,
        timeout=20,
        what="not every refusal was reported",
        polling=True,
    )
    assert {report.peer for report in reports} == {refusing.peer}
    assert {report.kind for report in reports} == {"port unreachable"}


def test_an_error_for_which_the_queue_had_no_room_is_still_told(
    shared_stage: Stage, blocking: Opener
) -> None:
    server = blocking("0.0.0.0", on=shared_stage.server, receive_buffer=0, timeout=20)
    with (
        router(NETWORKS["IPv4"], shared_stage) as offender,
        shared_stage.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain,
    ):
        fill(server, plain, ("192.0.2.1", server.port))
        offender.tell(REFUSED[4], server.port)
    [report] = server.errors()
    assert (report.errno, report.origin, report.peer) == (errno.ECONNREFUSED, "local", None)
    assert server.recv().data == b"fills it"


def fill(server: Any, plain: socket.socket, address: Any) -> None:
    """Send until the kernel has dropped one."""
    wait_until(
        lambda: plain.sendto(b"fills it", address) and server.dropped,
        timeout=20,
        what="the receive buffer never became full",
        polling=True,
    )


# What this host itself will not send.


def unsendable(opener: Opener, host: Host, peer: tuple[Any, ...], data: bytes, **options: Any) -> ErrorReport:
    """Send once alone, and once among many: both give the same report. Returns it."""
    sender = opener(on=host, **options)
    with pytest.raises(NetworkError) as refusal:
        sender.send(data, peer)
    assert sender.errors() == []  # it was raised instead
    sender.send_many([(data, peer)])
    [report] = sender.errors()
    assert report == refusal.value.report
    assert (refusal.value.errno, report.origin, report.type, report.code) == (
        report.errno,
        "local",
        None,
        None,
    )
    assert str(report) in str(refusal.value)
    return report


@pytest.mark.parametrize("peer", ["198.51.100.1", "2001:db8:ffff::1"])
def test_where_no_route_leads(shared_stage: Stage, opener: Opener, peer: str) -> None:
    report = unsendable(opener, shared_stage.server, (peer, 53), b"ping")
    assert (report.kind, report.errno) == ("no route", errno.ENETUNREACH)
    assert report.peer == Endpoint(ip_address(peer), 53)
    assert report.quoted == b"ping"


FIREWALLS = {
    "nft": "nft 'table inet t { chain out { type filter hook output priority 0; udp dport 53 drop; }; }'",
    "iptables": "for t in iptables ip6tables; do $t -A OUTPUT -p udp --dport 53 -j DROP || exit; done",
}


@pytest.mark.parametrize("rule", FIREWALLS.values(), ids=FIREWALLS.keys())
@pytest.mark.parametrize("peer", ["192.0.2.2", "2001:db8::2"])
def test_what_a_rule_of_this_host_drops(stage: Stage, opener: Opener, peer: str, rule: str) -> None:
    try:
        stage.server.shell(rule)
    except CommandFailed as failure:
        pytest.skip(f"no such firewall here: {failure}")
    report = unsendable(opener, stage.server, (peer, 53), b"ping")
    assert (report.kind, report.errno) == ("blocked by a local rule", errno.EPERM)
    sender = opener(on=stage.server)
    with pytest.raises(Prohibited):
        sender.send(b"ping", (peer, 53))
    sender.send(b"ping", (peer, 54))


@pytest.mark.parametrize("peer", ["192.0.2.2", "2001:db8::2"])
def test_too_big_for_this_hosts_own_link(stage: Stage, opener: Opener, peer: str) -> None:
    stage.server.ip("link set eth0 mtu 1400")
    room = 1400 - (28 if "." in peer else 48)
    report = unsendable(opener, stage.server, (peer, 53), bytes(room + 1), dont_fragment=True)
    assert (report.kind, report.errno, report.mtu) == ("too big", errno.EMSGSIZE, 1400)
    assert report.peer == Endpoint(ip_address(peer), 53)
    opener(on=stage.server, dont_fragment=True).send(bytes(room), (peer, 53))
    opener(on=stage.server).send(bytes(room + 1), (peer, 53))  # in fragments


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("bound", ["", None], ids=["dual-stack", "one family"])
def test_too_big_for_a_link_behind_a_router(opener: Opener, version: int, bound: str | None) -> None:
    if bound is None:
        bound = "0.0.0.0" if version == 4 else "::"
    peer = "198.51.100.2" if version == 4 else "2001:db8:2::2"
    gateway = "192.0.2.9" if version == 4 else "2001:db8::9"
    with Lab() as lab:
        near, middle, far = lab.host("near"), lab.host("middle"), lab.host("far")
        lab.link(near, "eth0", middle, "eth0")
        lab.link(middle, "eth1", far, "eth0")
        near.address("eth0", "192.0.2.1/24", "2001:db8::1/64")
        middle.address("eth0", "192.0.2.9/24", "2001:db8::9/64")
        middle.address("eth1", "198.51.100.9/24", "2001:db8:2::9/64")
        far.address("eth0", "198.51.100.2/24", "2001:db8:2::2/64")
        wait_for_addresses(near, middle, far)
        middle.ip(f"link set eth1 mtu {MTU}")
        middle.sysctl("net.ipv4.ip_forward", 1)
        middle.sysctl("net.ipv6.conf.all.forwarding", 1)
        near.ip("route add default via 192.0.2.9")
        near.ip("-6 route add default via 2001:db8::9")
        far.ip("route add default via 198.51.100.9")
        far.ip("-6 route add default via 2001:db8:2::9")
        sender = opener(bound, on=near, dont_fragment=True)
        sender.send(bytes(1400), (peer, 53))
        assert sender.recv_many() == []
        [heard] = sender.errors()
        kind, origin = ("fragmentation needed", "icmp") if version == 4 else ("packet too big", "icmp6")
        assert (heard.kind, heard.origin, heard.errno, heard.mtu) == (kind, origin, errno.EMSGSIZE, MTU)
        assert (heard.peer, heard.offender) == (Endpoint(ip_address(peer), 53), ip_address(gateway))
        with pytest.raises(NetworkError) as refusal:  # from now on this host knows
            sender.send(bytes(1400), (peer, 53))
        assert (refusal.value.report.kind, refusal.value.report.mtu) == ("too big", MTU)
        sender.send(bytes(MTU - 48), (peer, 53))


# Addresses that come and go.


@EVERY_NETWORK
def test_a_source_that_has_left_is_dropped_and_reported(
    stage: Stage, opener: Opener, client: Callable[[Network], socket.socket], network: Network
) -> None:
    server = opener(network.bound, on=stage.server)
    asker = client(network)
    length = 24 if network.version == 4 else 64
    for _ in range(3):  # it may come back, and leave again
        asker.sendto(b"ping", sockaddr(network, stage, stage.client, network.second, server.port))
        kept = server.recv()
        assert str(kept.local.address).partition("%")[0] == network.second
        stage.server.ip(f"address del {network.second}/{length} dev eth0")
        stale = server.stale_sources
        assert server.reply(kept, b"one")
        server.reply_many([(kept, b"two"), (kept, b"three")])
        assert server.stale_sources == stale + 3
        answers = [asker.recvfrom(100) for _ in range(3)]
        assert [data for data, _ in answers] == [b"one", b"two", b"three"]
        assert network.second not in {source[0].partition("%")[0] for _, source in answers}
        reports = server.errors()
        assert [report.quoted for report in reports] == [b"one", b"two", b"three"]
        assert {(report.origin, report.peer) for report in reports} == {("local", kept.peer)}
        assert {str(report.local).partition("%")[0] for report in reports} == {network.second}
        nodad = "nodad" if network.version == 6 else ""
        stage.server.ip(f"address add {network.second}/{length} dev eth0 {nodad}")
        wait_for_addresses(stage.server)
        assert server.reply(kept, b"back")
        data, source = asker.recvfrom(100)
        assert (data, source[0].partition("%")[0]) == (b"back", network.second)
        assert server.errors() == []


def test_without_its_interface_a_server_answers_nobody_and_lives(
    stage: Stage, opener: Opener, client: Callable[[Network], socket.socket]
) -> None:
    network = NETWORKS["IPv4"]
    server = opener("", on=stage.server)
    asker = client(network)
    asker.connect((network.server, server.port))
    asker.send(b"ping")
    request = server.recv()
    stage.server.ip("link set eth0 down")
    assert server.reply(request, b"pong") is False
    [report] = server.errors()
    assert (report.origin, report.peer) == ("local", request.peer)
    stage.server.ip("link set eth0 up")
    assert server.reply(request, b"pong")
    assert asker.recv(100) == b"pong"
    assert server.stale_sources == 0
