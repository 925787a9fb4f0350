"""udpkit.sockets.Socket in this process, over loopback."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from udpkit.sockets import Socket, TruncatedControl


@pytest.fixture
def server() -> Iterator[Socket]:
    with Socket() as server:
        server._socket.settimeout(5)
        yield server


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        yield client


@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2", "127.200.3.4"])
def test_it_answers_from_the_address_that_was_asked(
    server: Socket, client: socket.socket, asked: str
) -> None:
    client.connect((asked, server.port))
    client.send(b"ping")
    request = server.recv()
    assert request.data == b"ping"
    assert (str(request.local.address), request.local.port) == (asked, server.port)
    assert (str(request.peer.address), request.peer.port) == client.getsockname()
    server.reply(request, b"pong")
    assert client.recv(100) == b"pong"


def test_requests_may_be_answered_in_any_order(server: Socket, client: socket.socket) -> None:
    asked = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    for address in asked:
        client.sendto(address.encode(), (address, server.port))
    for request in reversed([server.recv() for _ in asked]):
        server.reply(request, request.data)
    answers = [client.recvfrom(100) for _ in asked]
    assert answers == [(address.encode(), (address, server.port)) for address in reversed(asked)]


@pytest.mark.parametrize("size", [0, 1, 65507])
def test_a_datagram_of_any_size_goes_both_ways_whole(
    server: Socket, client: socket.socket, size: int
) -> None:
    payload = os.urandom(size)
    client.sendto(payload, ("127.0.0.2", server.port))
    request = server.recv()
    assert request.data == payload
    server.reply(request, payload)
    assert client.recvfrom(65535) == (payload, ("127.0.0.2", server.port))


def test_an_answer_that_no_datagram_can_hold_is_refused(server: Socket, client: socket.socket) -> None:
    client.sendto(b"ping", ("127.0.0.1", server.port))
    request = server.recv()
    with pytest.raises(OSError, match="too long") as refusal:
        server.reply(request, bytes(65508))
    assert refusal.value.errno == errno.EMSGSIZE
    assert server.stale_sources == 0


@pytest.mark.parametrize("room", [0, socket.CMSG_LEN(0), socket.CMSG_LEN(4), socket.CMSG_LEN(8)])
def test_control_messages_that_the_kernel_cut_raise_truncated_control(
    client: socket.socket, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    class Short(socket.socket):
        """Has `room` bytes for control messages; the cutting is done by the kernel."""

        def recvmsg(self, size: int, *_: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
            return super().recvmsg(size, room)

    monkeypatch.setattr("udpkit.sockets.socket.socket.socket", Short)
    with Socket("127.0.0.1") as server:
        monkeypatch.undo()
        client.sendto(b"ping", ("127.0.0.1", server.port))
        with pytest.raises(TruncatedControl, match="cut"):
            server.recv()


BAD_ADDRESSES = {
    "not this host's": ("192.0.2.99", 0),
    "IPv6": ("::1", 0),
    "no port": ("127.0.0.1", 65536),
}


@pytest.mark.parametrize(("address", "port"), BAD_ADDRESSES.values(), ids=BAD_ADDRESSES.keys())
def test_a_bad_address_raises_and_leaks_no_descriptor(address: str, port: int) -> None:
    assert_leaks_nothing(lambda: Socket(address, port), (OSError, OverflowError))


def test_an_address_in_use_raises_and_leaks_no_descriptor(server: Socket) -> None:
    assert_leaks_nothing(lambda: Socket("127.0.0.1", server.port), OSError)


def assert_leaks_nothing(
    make: Callable[[], object], raises: type[Exception] | tuple[type[Exception], ...]
) -> None:
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


def test_the_address_to_bind_to_is_the_only_one_it_listens_on(client: socket.socket) -> None:
    with Socket("127.0.0.2") as server:
        server._socket.settimeout(5)
        client.connect(("127.0.0.3", server.port))
        client.send(b"ping")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        client.connect(("127.0.0.2", server.port))
        client.send(b"ping")
        assert server.recv().local.address == IPv4Address("127.0.0.2")
