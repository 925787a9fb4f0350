"""Sockets of every kind in this process, over loopback."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_address

import pytest

from udpkit.facts import Endpoint
from udpkit.sockets import NetworkError, Socket

from .conftest import Opener

LARGEST = {"127.0.0.1": 65_507, "::1": 65_527}
"""Bytes of payload that a packet of each family has room for."""

BOTH_FAMILIES = pytest.mark.parametrize("loopback", LARGEST)


def plain_socket(address: str) -> socket.socket:
    plain = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    plain.settimeout(20)
    return plain


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with plain_socket("127.0.0.1") as client:
        yield client


@pytest.mark.parametrize("bound", ["", "0.0.0.0"], ids=["dual-stack", "IPv4"])
@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2", "127.200.3.4"])
def test_it_answers_from_the_address_that_was_asked(
    opener: Opener, client: socket.socket, asked: str, bound: str
) -> None:
    server = opener(bound)
    client.connect((asked, server.port))
    client.send(b"ping")
    request = server.recv()
    assert request.data == b"ping"
    assert request.local == request.destination == Endpoint(ip_address(asked), server.port)
    assert (str(request.peer.address), request.peer.port) == client.getsockname()
    assert request.interface == socket.if_nametoindex("lo")
    assert server.reply(request, b"pong")
    assert client.recv(100) == b"pong"


def test_requests_may_be_answered_in_any_order(opener: Opener, client: socket.socket) -> None:
    server = opener()
    asked = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    for address in asked:
        client.sendto(address.encode(), (address, server.port))
    requests = [server.recv() for _ in asked]
    server.reply_many((request, request.data) for request in reversed(requests))
    answers = [client.recvfrom(100) for _ in asked]
    assert answers == [(address.encode(), (address, server.port)) for address in reversed(asked)]


@BOTH_FAMILIES
@pytest.mark.parametrize("beyond_empty", [True, False], ids=["largest", "empty"])
def test_a_datagram_of_any_size_goes_both_ways_whole(
    opener: Opener, loopback: str, beyond_empty: bool
) -> None:
    payload = os.urandom(LARGEST[loopback] if beyond_empty else 0)
    server, client = opener(), opener(loopback)
    client.send(payload, (loopback, server.port))
    request = server.recv()
    assert (request.data, request.truncated) == (payload, False)
    assert server.reply(request, payload)
    server.reply_many([(request, payload)] * 2)
    for _ in range(3):
        answer = client.recv()
        assert (answer.data, answer.peer) == (payload, Endpoint(ip_address(loopback), server.port))


@BOTH_FAMILIES
def test_an_answer_that_no_datagram_can_hold_is_reported(opener: Opener, loopback: str) -> None:
    server, client = opener(), opener(loopback)
    client.send(b"ping", (loopback, server.port))
    request = server.recv()
    too_long = bytes(LARGEST[loopback] + 1)
    assert server.reply(request, too_long) is False
    [report] = server.errors()
    assert (report.errno, report.kind, report.origin) == (errno.EMSGSIZE, "too big", "local")
    assert report.peer == request.peer
    server.reply_many([(request, b"before"), (request, too_long), (request, b"after")])
    assert [client.recv().data for _ in range(2)] == [b"before", b"after"]
    assert [report.errno for report in server.errors()] == [errno.EMSGSIZE]
    assert server.stale_sources == 0
    with pytest.raises(NetworkError) as refusal:
        client.send(too_long, (loopback, server.port))
    assert refusal.value.errno == errno.EMSGSIZE


@BOTH_FAMILIES
def test_what_is_longer_than_the_room_for_it_says_so(opener: Opener, loopback: str) -> None:
    server, client = opener(largest=10), opener(loopback)
    client.send_many((bytes(size), (loopback, server.port)) for size in (9, 10, 11))
    received = [server.recv() for _ in range(3)]
    assert [(len(one.data), one.truncated) for one in received] == [(9, False), (10, False), (10, True)]


@BOTH_FAMILIES
def test_what_the_header_says_arrives_beside_the_datagram(opener: Opener, loopback: str) -> None:
    server = opener(timestamps=True)
    with plain_socket(loopback) as client:
        if loopback == "::1":
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0xBA)
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 7)
        else:
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xBA)
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 7)
        client.sendto(b"", (loopback, server.port))
    request = server.recv()
    assert (request.tos, request.ecn, request.ttl) == (0xBA, 2, 7)
    assert request.time_ns > 1_600_000_000 * 10**9


def test_without_timestamps_there_are_none(opener: Opener, client: socket.socket) -> None:
    server = opener("127.0.0.1")
    client.sendto(b"", ("127.0.0.1", server.port))
    assert server.recv().time_ns is None


@pytest.mark.parametrize("maximum", [1, 3, 64])
def test_recv_many_takes_what_is_there_in_its_order(
    opener: Opener, client: socket.socket, maximum: int
) -> None:
    server = opener("127.0.0.1")
    sent = [str(number).encode() for number in range(100)]
    for data in sent:
        client.sendto(data, ("127.0.0.1", server.port))
    received: list[bytes] = []
    while len(received) < len(sent):
        batch = server.recv_many(maximum)
        assert len(batch) == min(maximum, 64, len(sent) - len(received)) or 0 < len(batch) < maximum
        received += [datagram.data for datagram in batch]
        if len(received) < len(sent):
            received.append(server.recv().data)
    assert received == sent


def test_nothing_in_time(client: socket.socket) -> None:
    with Socket("127.0.0.1", timeout=0) as server:
        for timeout, raised in ((0, BlockingIOError), (0.01, TimeoutError)):
            server.timeout = timeout
            with pytest.raises(raised):
                server.recv()
            assert server.recv_many() == []
        client.sendto(b"now", ("127.0.0.1", server.port))
        assert server.recv().data == b"now"


def test_a_connected_socket_hears_nobody_else(opener: Opener, client: socket.socket) -> None:
    client.bind(("127.0.0.1", 0))
    connected = opener(peer=client.getsockname())
    assert connected.peer == Endpoint(IPv4Address("127.0.0.1"), client.getsockname()[1])
    with plain_socket("127.0.0.1") as stranger:
        stranger.sendto(b"listen to me", ("127.0.0.1", connected.port))
    connected.send(b"ping")
    connected.send_many([(b"pong", None)])
    assert client.recv(100) == b"ping"
    data, address = client.recvfrom(100)
    client.sendto(data, address)
    assert connected.recv().data == b"pong"


BAD_ADDRESSES = {
    "not this host's": (("192.0.2.99", 0), OSError),
    "not this host's IPv6": (("2001:db8::99", 0), OSError),
    "no port": (("127.0.0.1", 65536), ValueError),
    "no port, either": (("127.0.0.1", -1), ValueError),
}


@pytest.mark.parametrize(("address", "raised"), BAD_ADDRESSES.values(), ids=BAD_ADDRESSES.keys())
def test_a_bad_address_raises_and_leaks_no_descriptor(
    address: tuple[str, int], raised: type[Exception]
) -> None:
    assert_leaks_nothing(lambda: Socket(*address), raised)


def test_an_address_in_use_raises_and_leaks_no_descriptor() -> None:
    with Socket() as server:
        assert_leaks_nothing(lambda: Socket("127.0.0.1", server.port), OSError)


@pytest.mark.parametrize("option", [{"batch": 0}, {"largest": 65_536}, {"batch": 1025}])
def test_a_bad_option_raises_and_leaks_no_descriptor(option: dict[str, int]) -> None:
    assert_leaks_nothing(lambda: Socket("127.0.0.1", **option), ValueError)


def assert_leaks_nothing(make: Callable[[], object], raises: type[Exception]) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - paths would be made for it
    with pytest.raises(raises) as _kept:  # the traceback holds the frame, so nothing is collected meanwhile
        make()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_a_descriptor_for_select_that_closes_with_it(client: socket.socket) -> None:
    with Socket("127.0.0.1") as server:
        assert select.select([server], [], [], 0) == ([], [], [])
        client.sendto(b"", ("127.0.0.1", server.port))
        assert select.select([server], [], [], 5) == ([server], [], [])
    assert server.fileno() == -1
    server.close()  # once more does no harm


def test_the_address_to_bind_to_is_the_only_one_it_listens_on(opener: Opener, client: socket.socket) -> None:
    server = opener("127.0.0.2")
    client.connect(("127.0.0.3", server.port))
    client.send(b"ping")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)
    client.connect(("127.0.0.2", server.port))
    client.send(b"ping")
    assert server.recv().local.address == IPv4Address("127.0.0.2")


def test_an_ipv6_socket_that_shall_take_no_ipv4_takes_none(opener: Opener, client: socket.socket) -> None:
    server = opener("::", v6only=True)
    client.connect(("127.0.0.1", server.port))
    client.send(b"ping")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


@BOTH_FAMILIES
@pytest.mark.parametrize("asked", [0, 100_000, 1 << 26], ids=["least", "usual", "beyond the limit"])
def test_buffers_are_as_large_as_the_kernel_says(opener: Opener, loopback: str, asked: int) -> None:
    opened = opener(loopback, receive_buffer=asked, send_buffer=asked)
    for given, option, limit in (
        (opened.receive_buffer, socket.SO_RCVBUF, "rmem_max"),
        (opened.send_buffer, socket.SO_SNDBUF, "wmem_max"),
    ):
        assert given == opened.getsockopt(socket.SOL_SOCKET, option)
        with open(f"/proc/sys/net/core/{limit}") as file:  # noqa: PTH123
            most = int(file.read())
        if asked == 0:
            assert 0 < given < 10_000
        else:
            assert given in (2 * asked, 2 * min(asked, most))


@BOTH_FAMILIES
@pytest.mark.parametrize("taken_before", [0, 3])
def test_drops_are_exactly_what_is_missing(opener: Opener, loopback: str, taken_before: int) -> None:
    server = opener(loopback, receive_buffer=0)
    sent = 200
    received = []
    with plain_socket(loopback) as client:
        for number in range(sent):
            client.sendto(str(number).encode(), (loopback, server.port))
            if number < taken_before:
                received.append(server.recv().data)
        # What is there now, and one that marks the end: there is room for it once the others are taken.
        kept = sent - server.dropped
        assert kept < sent
        while len(received) < kept:
            received += [datagram.data for datagram in server.recv_many()]
        client.sendto(b"the end", (loopback, server.port))
        assert server.recv().data == b"the end"
    assert len(received) == len(set(received)) == sent - server.dropped
