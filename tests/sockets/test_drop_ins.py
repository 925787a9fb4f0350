"""create_datagram_endpoint() beside asyncio's own: what a DatagramProtocol sees must be the same.

Each test runs with asyncio's own as well, so that it says what asyncio does, not what one believes it does.
Those marked `beyond` are about what udpkit does otherwise on purpose: the docstring of each says so.
"""

from __future__ import annotations

import asyncio
import copy
import errno
import gc
import os
import pickle
import select
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import uvloop

import udpkit
from udpkit.facts import Endpoint
from udpkit.lab import Host, Lab

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Maker:
    """Who makes the endpoint, and on which loop."""

    name: str
    ours: bool
    on_uvloop: bool = False

    async def __call__(
        self, factory: Callable[[], Any], *addresses: Any, **arguments: Any
    ) -> tuple[Any, Any]:
        stock = asyncio.get_running_loop().create_datagram_endpoint
        create: Any = udpkit.create_datagram_endpoint if self.ours else stock
        return await create(factory, *addresses, **arguments)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return uvloop.new_event_loop() if self.on_uvloop else asyncio.new_event_loop()


MAKERS = [
    Maker("asyncio", ours=False),
    Maker("udpkit on asyncio", ours=True),
    Maker("udpkit on uvloop", ours=True, on_uvloop=True),
]
beyond = pytest.mark.parametrize("maker", MAKERS[1:], ids=lambda maker: maker.name, indirect=True)
"""What asyncio does not do, or not yet in every version."""


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.name)
def maker(request: pytest.FixtureRequest) -> Maker:
    return request.param


@pytest.fixture
def anyio_backend(maker: Maker) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": maker.on_uvloop}


class Recorder(asyncio.DatagramProtocol):
    """Keeps what it is told, in order."""

    transport: Any

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.told.append(("made", transport))

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.told.append(("received", data, addr))

    def error_received(self, exc: Exception) -> None:
        self.told.append(("error", exc))

    def pause_writing(self) -> None:
        self.told.append(("paused",))

    def resume_writing(self) -> None:
        self.told.append(("resumed",))

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(("lost", exc))

    def all(self, what: str) -> list[Any]:
        return [event[1] if len(event) == 2 else event[1:] for event in self.told if event[0] == what]

    @property
    def data(self) -> list[bytes]:
        return [data for data, _ in self.all("received")]


class Echo(Recorder):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


async def until(condition: Callable[[], Any], what: str = "it did not happen") -> Any:
    """Wait until it is true, while the loop runs."""
    deadline = time.monotonic() + 10
    while not (result := condition()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.001)
    return result


async def turns(count: int = 20) -> None:
    """Let the loop run some times: what it was to do at once is done."""
    for _ in range(count):
        await asyncio.sleep(0)


Make = Callable[..., Awaitable[tuple[Any, Any]]]


@pytest.fixture
async def make(maker: Maker) -> AsyncIterator[Make]:
    """Makes endpoints; all are closed in the end, and each has told its protocol once."""
    made = []

    async def make(
        factory: Callable[[], Any] = Recorder, *addresses: Any, **arguments: Any
    ) -> tuple[Any, Any]:
        made.append(await maker(factory, *addresses, **arguments))
        return made[-1]

    yield make
    for transport, _ in made:
        transport.close()
    for _, protocol in made:
        await until(lambda: protocol.all("lost"), "connection_lost() was not called")  # noqa: B023
        await turns()
        assert len(protocol.all("lost")) == 1
        assert protocol.told[-1][0] == "lost", "nothing comes after connection_lost()"


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """A plain socket on 127.0.0.1 that does not wait."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.setblocking(False)
        yield client


@pytest.fixture
async def complaints() -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop's exception handler is told."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    yield complaints
    loop.set_exception_handler(before)


def readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


async def take(sock: socket.socket) -> tuple[bytes, Any]:
    """The next datagram that comes to a client."""
    await until(lambda: readable(sock), "no datagram came")
    return sock.recvfrom(70_000)


def port_of(transport: Any) -> int:
    return transport.get_extra_info("sockname")[1]


HERE = ("127.0.0.1", 0)


# Receiving.


async def test_it_is_connected_when_it_is_handed_over(make: Make) -> None:
    transport, protocol = await make(local_addr=HERE)
    assert isinstance(transport, asyncio.BaseTransport)
    assert protocol.told == [("made", transport)]
    assert not transport.is_closing()


FAMILIES = {
    "IPv4": (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
    "IPv6": (socket.AF_INET6, "::1", "::1"),
    "IPv4 on dual-stack": (socket.AF_INET6, "::", "127.0.0.1"),
}
"""A family, where the endpoint is bound, and the address that is asked."""


def bound(family: int, address: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != "::")
    sock.bind((address, 0))
    return sock


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
async def test_an_exchange_with_an_address_as_asyncio_has_it(make: Make, family: Any) -> None:
    family, address, asked = family
    transport, protocol = await make(Echo, sock=bound(family, address))
    with socket.socket(socket.AF_INET6 if ":" in asked else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((asked, port_of(transport)))
        client.send(b"ping")
        assert (await take(client))[0] == b"ping"
        port = client.getsockname()[1]
    [(data, addr)] = protocol.all("received")
    expected = {"::1": ("::1", port, 0, 0), "::": ("::ffff:127.0.0.1", port, 0, 0)}
    assert type(data) is bytes
    assert isinstance(addr, tuple)
    assert addr == expected.get(address, ("127.0.0.1", port))
    assert hash(addr) == hash(tuple(addr))
    assert {addr: "known"}[tuple(addr)] == {tuple(addr): "known"}[addr] == "known"
    assert repr(addr) == repr(tuple(addr))
    assert f"{addr[0]} {addr[1]}" == f"{addr[-4 if len(addr) == 4 else -2]} {port}"


async def test_many_are_handed_over_in_their_order_and_answered_in_it(
    make: Make, client: socket.socket
) -> None:
    transport, protocol = await make(Echo, local_addr=HERE)
    asked = [b"%d" % number for number in range(150)]  # some batches; as many as the receive buffers hold
    for data in asked:
        client.sendto(data, transport.get_extra_info("sockname"))
    assert [(await take(client))[0] for _ in asked] == asked
    assert protocol.data == asked


async def test_more_answers_than_are_sent_together(make: Make, client: socket.socket) -> None:
    class Long(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            for number in range(5):
                self.transport.sendto(data + bytes([number]) * 5000, addr)

    transport, _ = await make(Long, local_addr=HERE)
    for number in range(5):
        client.sendto(b"%d" % number, transport.get_extra_info("sockname"))
    answers = [(await take(client))[0] for _ in range(25)]
    assert answers == [b"%d" % (number // 5) + bytes([number % 5]) * 5000 for number in range(25)]


async def test_others_have_their_turn_before_all_is_handed_over(make: Make, client: socket.socket) -> None:
    class Busy(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            if not self.all("received"):
                asyncio.get_running_loop().call_soon(self.told.append, ("others", None))
            super().datagram_received(data, addr)

    transport, protocol = await make(Busy, local_addr=HERE)
    for _ in range(200):
        client.sendto(b"ping", transport.get_extra_info("sockname"))
    await until(lambda: len(protocol.data) == 200)
    assert protocol.told.index(("others", None)) < 150


@pytest.mark.parametrize("size", [0, 1, 65_507])
async def test_a_datagram_of_any_size_is_received(make: Make, client: socket.socket, size: int) -> None:
    transport, protocol = await make(local_addr=HERE)
    data = os.urandom(size)
    client.sendto(data, transport.get_extra_info("sockname"))
    await until(lambda: protocol.told[1:] == [("received", data, client.getsockname())])


async def test_a_protocol_that_raises_misses_no_datagram(
    make: Make, client: socket.socket, complaints: list[dict[str, Any]]
) -> None:
    class Sometimes(Echo):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            if data == b"fail":
                raise ValueError("as asked")
            super().datagram_received(data, addr)

    transport, protocol = await make(Sometimes, local_addr=HERE)
    for data in (b"first", b"fail", b"fail", b"last"):
        client.sendto(data, transport.get_extra_info("sockname"))
    assert [(await take(client))[0] for _ in range(2)] == [b"first", b"last"]
    assert protocol.data == [b"first", b"last"]
    assert [str(context["exception"]) for context in complaints] == ["as asked"] * 2
    assert not transport.is_closing()


async def test_another_protocol_takes_over_from_the_next_datagram_on(
    make: Make, client: socket.socket
) -> None:
    second = Recorder()

    class HandsOver(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.set_protocol(second)

    transport, first = await make(HandsOver, local_addr=HERE)
    assert transport.get_protocol() is first
    for data in (b"1", b"2", b"3"):
        client.sendto(data, transport.get_extra_info("sockname"))
    await until(lambda: len(second.data) == 2)
    assert (first.data, second.data) == ([b"1"], [b"2", b"3"])
    assert transport.get_protocol() is second
    transport.set_protocol(first)


async def test_a_slow_protocol_holds_no_answer_back(make: Make, client: socket.socket) -> None:
    arrived_before = []

    class Slow(Echo):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            arrived = 0
            while readable(client):
                client.recv(100)
                arrived += 1
            arrived_before.append(arrived)
            time.sleep(0.003)  # it computes
            super().datagram_received(data, addr)

    transport, protocol = await make(Slow, local_addr=HERE)
    for number in range(10):
        client.sendto(b"%d" % number, transport.get_extra_info("sockname"))
    await until(lambda: len(protocol.data) == 10)
    assert arrived_before == [0] + [1] * 9, "each answer is out before the next datagram is looked at"


# Sending.


async def test_outside_of_datagram_received_it_leaves_at_once(make: Make, client: socket.socket) -> None:
    transport, _ = await make(local_addr=HERE)
    transport.sendto(b"now", client.getsockname())
    assert client.recvfrom(100) == (b"now", transport.get_extra_info("sockname"))


async def test_from_connection_made_and_error_received_it_leaves_at_once(
    make: Make, client: socket.socket
) -> None:
    class Greets(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.sendto(b"hello", client.getsockname())
            self.greeted = client.recv(100)

        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.sendto(b"oh", client.getsockname())
            self.complained = client.recv(100)

    transport, protocol = await make(Greets, local_addr=HERE)
    assert protocol.greeted == b"hello"
    transport.sendto(b"nobody has port 0", ("127.0.0.1", 0))
    await until(lambda: protocol.all("error"))
    assert protocol.complained == b"oh"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_to_an_address_or_a_name(make: Make, client: socket.socket, host: str) -> None:
    transport, _ = await make(local_addr=HERE)
    transport.sendto(b"ping", (host, client.getsockname()[1]))
    assert (await take(client))[0] == b"ping"


async def test_an_address_of_ipv6_of_any_length(make: Make) -> None:
    transport, _ = await make(local_addr=("::1", 0))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.bind(("::1", 0))
        for addr in (client.getsockname(), client.getsockname()[:3], client.getsockname()[:2]):
            transport.sendto(b"ping", addr)
            assert await take(client) == (b"ping", transport.get_extra_info("sockname"))


CONNECTED = {
    "by address": lambda peer: {"remote_addr": peer},
    "by name": lambda peer: {"remote_addr": ("localhost", peer[1]), "family": socket.AF_INET},
    "from an address": lambda peer: {"remote_addr": peer, "local_addr": ("127.0.0.3", 0)},
}


@pytest.mark.parametrize("arguments", CONNECTED.values(), ids=CONNECTED.keys())
async def test_connected(
    make: Make, client: socket.socket, arguments: Callable[[Any], dict[str, Any]]
) -> None:
    peer = client.getsockname()
    transport, protocol = await make(**arguments(peer))
    assert transport.get_extra_info("peername") == peer
    for addr in ((), (None,), (peer,)):
        transport.sendto(b"ping", *addr)
        assert client.recvfrom(100) == (b"ping", transport.get_extra_info("sockname"))
    for wrong in (("127.0.0.9", peer[1]), (peer[0], 1), ("localhost", peer[1])):
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            transport.sendto(b"ping", wrong)
    assert not readable(client)
    client.sendto(b"pong", transport.get_extra_info("sockname"))
    await until(lambda: protocol.told[1:] == [("received", b"pong", peer)])
    transport.sendto(b"and again", protocol.all("received")[0][1])
    assert client.recv(100) == b"and again"


async def test_a_connected_one_does_not_hear_strangers(make: Make, client: socket.socket) -> None:
    transport, protocol = await make(remote_addr=client.getsockname())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(HERE)
        stranger.sendto(b"stranger", transport.get_extra_info("sockname"))
    client.sendto(b"peer", transport.get_extra_info("sockname"))
    await until(lambda: protocol.data)
    assert protocol.data == [b"peer"]


async def test_a_socket_that_is_connected(make: Make, client: socket.socket) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(client.getsockname())
    transport, protocol = await make(Echo, sock=sock)
    transport.sendto(b"ping")
    assert client.recvfrom(100) == (b"ping", transport.get_extra_info("sockname"))
    client.sendto(b"pong", transport.get_extra_info("sockname"))
    assert (await take(client))[0] == b"pong"
    assert protocol.told[1:] == [("received", b"pong", client.getsockname())]


async def test_a_socket_that_is_connected_sends_to_its_peer_alone(make: Make, client: socket.socket) -> None:
    """asyncio does not look at the address then."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(client.getsockname())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(HERE)
        transport, _ = await make(sock=sock)
        transport.sendto(b"ping", stranger.getsockname())
        assert not readable(stranger)
        assert client.recv(100) == b"ping"


PAYLOADS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"ping",
    "bytearray": lambda: bytearray(b"ping"),
    "memoryview": lambda: memoryview(b"_ping_")[1:5],
    "cut memoryview": lambda: memoryview(bytearray(b"p_i_n_g_"))[::2],
    "a subclass": lambda: type("Message", (bytes,), {})(b"ping"),
    "most that fits": lambda: bytes(65_507),
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
async def test_whatever_has_bytes_is_sent(
    make: Make,
    maker: Maker,
    client: socket.socket,
    payload: Callable[[], Any],
    request: pytest.FixtureRequest,
) -> None:
    if not maker.ours and "cut memoryview" in request.node.name:
        pytest.skip("asyncio's own ends the transport: socket.sendto() wants contiguous bytes")
    transport, _ = await make(local_addr=HERE)
    transport.sendto(payload(), client.getsockname())
    assert (await take(client))[0] == bytes(payload())


@pytest.mark.parametrize(
    "maker", MAKERS if sys.version_info >= (3, 13) else MAKERS[1:], ids=lambda m: m.name, indirect=True
)
@pytest.mark.parametrize("connected", [False, True])
async def test_an_empty_datagram_is_sent(make: Make, client: socket.socket, connected: bool) -> None:
    """asyncio does that from 3.13 on."""
    transport, _ = await make(remote_addr=client.getsockname()) if connected else await make(local_addr=HERE)
    transport.sendto(b"", None if connected else client.getsockname())
    assert (await take(client))[0] == b""


@pytest.mark.parametrize("data", ["ping", 4, None, [1, 2], 1.5])
async def test_what_is_no_bytes_is_a_type_error(make: Make, client: socket.socket, data: Any) -> None:
    transport, protocol = await make(local_addr=HERE)
    with pytest.raises(TypeError, match="bytes-like"):
        transport.sendto(data, client.getsockname())
    transport.sendto(b"ping", client.getsockname())
    assert client.recv(100) == b"ping"
    assert protocol.told == [("made", transport)]


REFUSED = {
    "too long": (bytes(65_508), ("127.0.0.1", 9), errno.EMSGSIZE),
    "far too long": (bytes(100_000), ("127.0.0.1", 9), errno.EMSGSIZE),
    "a broadcast address": (b"ping", ("127.255.255.255", 9), errno.EACCES),
    "port 0": (b"ping", ("127.0.0.1", 0), errno.EINVAL),
    "another family": (b"ping", ("::1", 9), None),
}


@pytest.mark.parametrize(("data", "addr", "number"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_cannot_be_sent_comes_to_error_received(
    make: Make, client: socket.socket, data: bytes, addr: Any, number: int | None
) -> None:
    transport, protocol = await make(Echo, local_addr=HERE)
    transport.sendto(data, addr)
    await until(lambda: protocol.all("error"))
    [error] = protocol.all("error")
    assert isinstance(error, OSError)
    if number:
        assert error.errno == number
    client.sendto(b"still there?", transport.get_extra_info("sockname"))
    assert (await take(client))[0] == b"still there?"
    assert len(protocol.all("error")) == 1


@beyond
async def test_a_name_that_is_not_known_comes_to_error_received(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with asyncio, whose own look-up cannot be replaced here: sendto() does not raise for the network."""

    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    transport, protocol = await make(local_addr=HERE)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    transport.sendto(b"ping", ("nobody.example", 9))
    await until(lambda: protocol.all("error"))
    assert isinstance(protocol.all("error")[0], socket.gaierror)
    assert not transport.is_closing()


@beyond
@pytest.mark.parametrize("addr", [None, ("127.0.0.1",), ("127.0.0.1", 65_536), ("127.0.0.1", "x"), 9])
async def test_an_address_that_is_none_does_not_end_the_transport(
    make: Make, client: socket.socket, addr: Any
) -> None:
    """asyncio's own ends it, for whatever is no OSError."""
    transport, protocol = await make(local_addr=HERE)
    try:
        transport.sendto(b"ping", addr)
    except (TypeError, ValueError, OverflowError, OSError):
        pass
    else:
        await until(lambda: protocol.all("error"))
    transport.sendto(b"ping", client.getsockname())
    assert client.recv(100) == b"ping"


# A send buffer that is full.


@dataclass(frozen=True)
class Stuck:
    """A socket whose datagrams wait for the peer's link-layer address, and fill its send buffer."""

    sock: socket.socket
    peer: socket.socket
    addr: tuple[str, int]
    host: Host

    def go_on(self) -> None:
        """From now on the kernel knows the address, and sends."""
        self.host.ip("neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent")


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    with Lab() as lab:
        host, other = lab.host("host"), lab.host("other")
        lab.link(host, "eth0", other, "eth0")
        other.ip("link set eth0 address 02:00:00:00:00:02 arp off")  # it does not answer who it is
        host.address("eth0", "192.0.2.1/24")
        other.address("eth0", "192.0.2.2/24")
        host.sysctl("net.ipv4.neigh.eth0.mcast_solicit", 1000)  # and is asked for long
        other.ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent")
        with (
            host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
            other.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        ):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # as little as there is: some datagrams
            peer.bind(("192.0.2.2", 9))
            yield Stuck(sock, peer, ("192.0.2.2", 9), host)


def numbered(count: int) -> list[bytes]:
    return [b"%0100d" % number for number in range(count)]


async def test_a_full_buffer_pauses_the_protocol_until_it_is_empty(
    make: Make, maker: Maker, stuck: Stuck
) -> None:
    transport, protocol = await make(sock=stuck.sock)
    transport.set_write_buffer_limits(high=500, low=200)
    datagrams = numbered(30)
    sent = 0
    while not protocol.all("paused"):
        before = transport.get_write_buffer_size()
        assert before <= 500
        transport.sendto(datagrams[sent], stuck.addr)
        sent += 1
    assert transport.get_write_buffer_size() > 500 >= before
    transport.sendto(datagrams[sent], stuck.addr)  # a protocol that does not heed it loses nothing
    await turns()
    assert protocol.told[1:] == [("paused",)]

    stuck.go_on()
    await until(lambda: protocol.all("resumed"))
    assert [(await take(stuck.peer))[0] for _ in range(sent + 1)] == datagrams[: sent + 1]
    assert protocol.told[1:] == [("paused",), ("resumed",)]
    if maker.ours:  # asyncio 3.13.0 forgets the headers of what had to wait twice
        assert transport.get_write_buffer_size() == 0

    transport.sendto(b"and more", stuck.addr)
    assert (await take(stuck.peer))[0] == b"and more"


async def test_what_is_buffered_is_kept_as_it_was(make: Make, stuck: Stuck) -> None:
    transport, _ = await make(sock=stuck.sock)
    expected = numbered(20)
    reused = bytearray(100)
    for data in expected:
        reused[:] = data
        transport.sendto(memoryview(reused), stuck.addr)
    assert transport.get_write_buffer_size() > 0
    stuck.go_on()
    assert [(await take(stuck.peer))[0] for _ in expected] == expected


async def test_answers_wait_for_their_turn_too(make: Make, stuck: Stuck) -> None:
    transport, protocol = await make(Echo, sock=stuck.sock)
    for data in numbered(20):
        transport.sendto(data, stuck.addr)
    size = transport.get_write_buffer_size()
    with stuck.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as neighbour:
        neighbour.sendto(b"ping", ("192.0.2.1", stuck.sock.getsockname()[1]))
        await until(lambda: protocol.data == [b"ping"])
        assert transport.get_write_buffer_size() > size
        assert not readable(neighbour)
        stuck.go_on()
        assert (await take(neighbour))[0] == b"ping"
    assert [(await take(stuck.peer))[0] for _ in range(20)] == numbered(20)


async def test_close_sends_what_is_buffered_first(make: Make, stuck: Stuck) -> None:
    transport, protocol = await make(sock=stuck.sock)
    sent = numbered(20)
    for data in sent:
        transport.sendto(data, stuck.addr)
    transport.close()
    assert transport.is_closing()
    await turns()
    assert not protocol.all("lost")
    stuck.go_on()
    await until(lambda: protocol.all("lost") == [None])
    assert [(await take(stuck.peer))[0] for _ in sent] == sent


async def test_close_while_paused_receives_no_more(make: Make, stuck: Stuck) -> None:
    transport, protocol = await make(sock=stuck.sock)
    for data in numbered(20):
        transport.sendto(data, stuck.addr)
    transport.close()
    with stuck.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as neighbour:
        neighbour.sendto(b"too late", ("192.0.2.1", stuck.sock.getsockname()[1]))
    await turns()
    stuck.go_on()
    await until(lambda: protocol.all("lost"))
    assert protocol.data == []


async def test_abort_does_not_send_what_is_buffered(make: Make, stuck: Stuck) -> None:
    transport, protocol = await make(sock=stuck.sock)
    for data in numbered(20):
        transport.sendto(data, stuck.addr)
    transport.abort()
    assert transport.is_closing()
    await until(lambda: protocol.all("lost") == [None])
    transport.abort()
    transport.close()


@beyond
async def test_what_is_sent_after_close_is_not_buffered(make: Make, stuck: Stuck) -> None:
    """asyncio's own sends it nevertheless, as long as there is something before it."""
    transport, protocol = await make(sock=stuck.sock)
    sent = numbered(20)
    for data in sent:
        transport.sendto(data, stuck.addr)
    transport.close()
    size = transport.get_write_buffer_size()
    transport.sendto(b"too late", stuck.addr)
    assert transport.get_write_buffer_size() == size
    stuck.go_on()
    await until(lambda: protocol.all("lost"))
    assert [(await take(stuck.peer))[0] for _ in sent] == sent
    assert not readable(stuck.peer)


async def test_a_protocol_that_goes_on_as_it_is_resumed_loses_nothing(make: Make, stuck: Stuck) -> None:
    """The usual way to send much: as long as one may, and again from resume_writing()."""
    datagrams = numbered(200)

    class Pump(Recorder):
        def pump(self) -> None:
            self.may = True
            while self.may and self.left:
                self.transport.sendto(self.left.pop(0), stuck.addr)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.may = False

        def resume_writing(self) -> None:
            super().resume_writing()
            self.pump()

    transport, protocol = await make(Pump, sock=stuck.sock)
    transport.set_write_buffer_limits(high=500, low=200)
    protocol.left = datagrams.copy()
    protocol.pump()
    stuck.go_on()
    assert [(await take(stuck.peer))[0] for _ in datagrams] == datagrams
    told = [event for event, *_ in protocol.told[1:]]
    assert told == ["paused", "resumed"] * (len(told) // 2)


LIMITS: dict[str, tuple[dict[str, int], tuple[int, int] | None]] = {
    "as they are": ({}, (16 * 1024, 64 * 1024)),
    "high": ({"high": 1000}, (250, 1000)),
    "low": ({"low": 1000}, (1000, 4000)),
    "both": ({"high": 7, "low": 3}, (3, 7)),
    "none": ({"high": 0}, (0, 0)),
    "upside down": ({"high": 3, "low": 7}, None),
    "less than none": ({"high": 3, "low": -7}, None),
}


@pytest.mark.parametrize(("arguments", "limits"), LIMITS.values(), ids=LIMITS.keys())
async def test_write_buffer_limits(make: Make, arguments: dict[str, int], limits: Any) -> None:
    transport, _ = await make(local_addr=HERE)
    assert transport.get_write_buffer_size() == 0
    if limits:
        transport.set_write_buffer_limits(**arguments)
        assert transport.get_write_buffer_limits() == limits
    else:
        with pytest.raises(ValueError, match=r"high \(3\) must be >= low \(-?7\) must be >= 0"):
            transport.set_write_buffer_limits(**arguments)


# Errors.


def nobody(family: int, address: str) -> Any:
    """An address where nobody listens."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        return sock.getsockname()


async def test_a_connected_one_is_told_that_it_was_refused(make: Make, maker: Maker) -> None:
    peer = nobody(socket.AF_INET, "127.0.0.1")
    transport, protocol = await make(remote_addr=peer)
    transport.sendto(b"is anybody there?")
    await until(lambda: protocol.all("error"))
    [error] = protocol.all("error")
    assert isinstance(error, ConnectionRefusedError)
    assert error.errno == errno.ECONNREFUSED
    if maker.ours:
        assert error.report.peer == Endpoint(ip_address(peer[0]), peer[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as now_there:
        now_there.bind(peer)
        transport.sendto(b"and now?")
        assert (await take(now_there))[0] == b"and now?"
    assert len(protocol.all("error")) == 1
    assert not transport.is_closing()


@beyond
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
async def test_an_unconnected_one_is_told_who_refused(make: Make, family: Any) -> None:
    """asyncio's own never hears of it."""
    family, address, asked = family
    peers = [nobody(socket.AF_INET6 if ":" in asked else socket.AF_INET, asked) for _ in range(3)]
    transport, protocol = await make(sock=bound(family, address))
    for peer in peers:
        transport.sendto(b"is anybody there?", peer)
    await until(lambda: len(protocol.all("error")) == 3)
    for error, peer in zip(protocol.all("error"), peers, strict=True):
        assert isinstance(error, udpkit.Refused)
        assert error.report.kind == "port unreachable"
        assert error.report.peer == Endpoint(ip_address(peer[0]), peer[1])
        assert error.report.quoted == b"is anybody there?"


@beyond
async def test_a_refused_answer_keeps_nobody_else_from_theirs(make: Make, client: socket.socket) -> None:
    transport, protocol = await make(Echo, local_addr=HERE)
    asked = transport.get_extra_info("sockname")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.sendto(b"ping", asked)
        peer = ("127.0.0.1", gone.getsockname()[1])
    for number in range(5):
        client.sendto(b"%d" % number, asked)
    assert [(await take(client))[0] for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    await until(lambda: protocol.all("error"))
    assert [error.report.peer for error in protocol.all("error")] == [Endpoint(ip_address(peer[0]), peer[1])]


@beyond
async def test_a_protocol_that_raises_misses_no_error(make: Make, complaints: list[dict[str, Any]]) -> None:
    class Fails(Recorder):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            raise ValueError("as asked")

    transport, protocol = await make(Fails, local_addr=HERE)
    for _ in range(3):
        transport.sendto(b"is anybody there?", nobody(socket.AF_INET, "127.0.0.1"))
    await until(lambda: len(protocol.all("error")) == 3, "the other errors were lost")
    assert [str(context["exception"]) for context in complaints] == ["as asked"] * 3
    assert not transport.is_closing()


@beyond
async def test_close_in_error_received_is_the_end(make: Make) -> None:
    class Leaves(Recorder):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.close()

    transport, protocol = await make(Leaves, local_addr=HERE)
    for _ in range(3):
        transport.sendto(b"is anybody there?", nobody(socket.AF_INET, "127.0.0.1"))
    await until(lambda: protocol.all("lost"))
    assert len(protocol.all("error")) == 1, "nothing comes after close()"


@beyond
@pytest.mark.parametrize("connected", [False, True])
async def test_an_error_does_not_keep_the_loop_busy(
    make: Make, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    """With IP_RECVERR a socket stays readable until its error queue is read."""
    loop = asyncio.get_running_loop()
    calls = []
    add_reader = loop.add_reader

    def counting(descriptor: Any, callback: Callable[[], object]) -> None:
        add_reader(descriptor, lambda: (calls.append(descriptor), callback()))

    monkeypatch.setattr(loop, "add_reader", counting)
    peer = nobody(socket.AF_INET, "127.0.0.1")
    transport, protocol = await make(remote_addr=peer) if connected else await make(local_addr=HERE)
    for errors in range(1, 4):
        transport.sendto(b"is anybody there?", None if connected else peer)
        await until(lambda: len(protocol.all("error")) == errors)  # noqa: B023
        assert not awake(transport), "the error queue and SO_ERROR are empty"
    woken = len(calls)
    assert woken <= 6
    await turns(100)
    assert len(calls) == woken


@pytest.mark.parametrize("maker", MAKERS[:1], ids=["asyncio"], indirect=True)
async def test_an_error_queue_that_nobody_reads_would(make: Make) -> None:
    """So the test above would fail."""
    sock = bound(socket.AF_INET, "127.0.0.1")
    sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
    transport, _ = await make(sock=sock)
    transport.sendto(b"is anybody there?", nobody(socket.AF_INET, "127.0.0.1"))
    await turns(100)
    assert awake(transport)


def awake(transport: Any) -> bool:
    """Whether the loop would be woken again."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


# Closing.


async def test_close_is_told_once_and_not_at_once(make: Make) -> None:
    transport, protocol = await make(local_addr=HERE)
    sock = transport.get_extra_info("socket")
    transport.close()
    transport.close()
    assert transport.is_closing()
    assert not protocol.all("lost"), "only when the caller is done"
    await until(lambda: protocol.all("lost") == [None])
    await turns()
    assert protocol.all("lost") == [None]
    assert sock.fileno() == -1
    transport.close()
    transport.abort()


async def test_abort_is_told_once(make: Make) -> None:
    transport, protocol = await make(local_addr=HERE)
    transport.abort()
    transport.abort()
    transport.close()
    assert transport.is_closing()
    await until(lambda: protocol.all("lost") == [None])


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_after_the_end_in_datagram_received_nothing_is_received(
    make: Make, client: socket.socket, end: str
) -> None:
    class Leaves(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            getattr(self.transport, end)()

    transport, protocol = await make(Leaves, local_addr=HERE)
    for data in (b"1", b"2", b"3"):
        client.sendto(data, transport.get_extra_info("sockname"))
    await until(lambda: protocol.all("lost") == [None])
    assert protocol.data == [b"1"]


async def test_an_answer_before_close_is_sent(make: Make, client: socket.socket) -> None:
    class Answers(Echo):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.close()

    transport, protocol = await make(Answers, local_addr=HERE)
    client.sendto(b"ping", transport.get_extra_info("sockname"))
    assert (await take(client))[0] == b"ping"
    await until(lambda: protocol.all("lost") == [None])


async def test_close_in_connection_made(make: Make) -> None:
    class Leaves(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.close()

    transport, protocol = await make(Leaves, local_addr=HERE)
    assert transport.is_closing()
    await until(lambda: protocol.all("lost") == [None])


@beyond
async def test_what_is_sent_after_close_is_dropped_silently(make: Make, client: socket.socket) -> None:
    """asyncio's own sends it until connection_lost(), and raises AttributeError from then on."""
    transport, protocol = await make(local_addr=HERE)
    transport.close()
    transport.sendto(b"too late", client.getsockname())
    await until(lambda: protocol.all("lost"))
    transport.sendto(b"far too late", client.getsockname())
    await turns()
    assert not readable(client)
    assert protocol.told[1:] == [("lost", None)]


async def test_a_protocol_that_raises_as_it_ends_leaves_no_socket_open(
    make: Make, complaints: list[dict[str, Any]]
) -> None:
    class Fails(Recorder):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            raise ValueError("as asked")

    transport, _ = await make(Fails, local_addr=HERE)
    sock = transport.get_extra_info("socket")
    transport.close()
    await until(lambda: complaints)
    assert [str(context["exception"]) for context in complaints] == ["as asked"]
    assert sock.fileno() == -1


def abandon(maker: Maker) -> Any:
    """Make an endpoint, close its loop, and forget it; returns its socket."""
    loop = maker.new_loop()
    try:
        transport, protocol = loop.run_until_complete(maker(asyncio.DatagramProtocol, local_addr=HERE))
    finally:
        loop.close()
    sock = transport.get_extra_info("socket")
    del transport, protocol, loop
    gc.collect()
    return sock


def test_an_unclosed_transport_is_warned_of(maker: Maker) -> None:
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        sock = abandon(maker)
    assert sock.fileno() == -1


async def test_cancelled_while_it_is_made_it_closes(maker: Maker) -> None:
    sock = bound(socket.AF_INET, "127.0.0.1")
    protocol = Recorder()
    task = asyncio.ensure_future(maker(lambda: protocol, sock=sock))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: sock.fileno() == -1)
    assert protocol.all("lost") == [None]


# Opening.


async def test_extra_info(make: Make) -> None:
    transport, _ = await make(local_addr=HERE)
    sock = transport.get_extra_info("socket")
    assert sock.getsockname() == transport.get_extra_info("sockname")
    assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_DGRAM)
    assert transport.get_extra_info("peername") is None
    assert transport.get_extra_info("peername", "nobody") in (None, "nobody")
    assert transport.get_extra_info("cipher", "none") == "none"


async def test_a_family_alone_is_enough_to_send(make: Make, client: socket.socket) -> None:
    transport, protocol = await make(family=socket.AF_INET)
    transport.sendto(b"ping", client.getsockname())
    _, addr = await take(client)
    client.sendto(b"pong", addr)
    await until(lambda: protocol.data == [b"pong"])


async def test_both_addresses_may_be_given_by_position(make: Make, client: socket.socket) -> None:
    transport, _ = await make(Recorder, ("127.0.0.3", 0), client.getsockname())
    assert transport.get_extra_info("sockname")[0] == "127.0.0.3"
    assert transport.get_extra_info("peername") == client.getsockname()


async def test_reuse_port(make: Make) -> None:
    first, _ = await make(local_addr=HERE, reuse_port=True)
    second, _ = await make(local_addr=first.get_extra_info("sockname"), reuse_port=True)
    assert first.get_extra_info("sockname") == second.get_extra_info("sockname")
    with pytest.raises(OSError, match="in use") as refusal:
        await make(local_addr=first.get_extra_info("sockname"))
    assert refusal.value.errno == errno.EADDRINUSE


async def test_allow_broadcast(make: Make) -> None:
    """With a remote address it is not connected, so that whoever is there may answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
        somebody.bind(("0.0.0.0", 0))
        remote = ("127.255.255.255", somebody.getsockname()[1])
        transport, protocol = await make(remote_addr=remote, allow_broadcast=True)
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
        assert transport.get_extra_info("peername") is None
        for addr in ((), (remote,)):
            transport.sendto(b"who?", *addr)
            data, asker = await take(somebody)
            assert data == b"who?"
        with pytest.raises(ValueError, match="Invalid address"):
            transport.sendto(b"who?", ("127.0.0.1", 9))
        somebody.sendto(b"I am", asker)
        await until(lambda: protocol.data == [b"I am"])


async def test_a_socket_is_made_non_blocking(make: Make) -> None:
    sock = bound(socket.AF_INET, "127.0.0.1")
    sock.settimeout(7)
    await make(sock=sock)
    assert sock.gettimeout() == 0


NO_PAIR = TypeError if sys.version_info >= (3, 11) else (TypeError, AssertionError)

WRONG_ARGUMENTS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "nothing": ({}, ValueError, "unexpected address family"),
    "no pair": ({"local_addr": "127.0.0.1"}, NO_PAIR, "2-tuple is expected"),
    "a list": ({"local_addr": ["127.0.0.1", 0]}, NO_PAIR, "2-tuple is expected"),
    "no port": ({"remote_addr": ("127.0.0.1",)}, NO_PAIR, "2-tuple is expected"),
    "two families": (
        {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 9)},
        ValueError,
        "can not get address information",
    ),
    "an address of the other family": (
        {"local_addr": ("127.0.0.1", 0), "family": socket.AF_INET6},
        OSError,
        "family|not known",
    ),
    "not this host's": ({"local_addr": ("192.0.2.1", 0)}, OSError, "assign|not available"),
}


def open_sockets() -> set[Path]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the directory itself
            found.add(entry.readlink())
    return {target for target in found if str(target).startswith("socket:")}


@pytest.mark.parametrize(
    ("arguments", "kind", "message"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS.keys()
)
async def test_a_wrong_argument_says_so_and_leaks_nothing(
    make: Make, arguments: dict[str, Any], kind: Any, message: str
) -> None:
    before = open_sockets()
    with pytest.raises(kind, match=message) as _kept:
        await make(**arguments)
    assert open_sockets() == before


MODIFIERS: dict[str, Any] = {
    "local_addr": HERE,
    "remote_addr": ("127.0.0.1", 9),
    "family": socket.AF_INET,
    "proto": socket.IPPROTO_UDP,
    "flags": socket.AI_PASSIVE,
    "reuse_port": True,
    "allow_broadcast": True,
}


@pytest.mark.parametrize("modifier", MODIFIERS)
async def test_a_socket_is_taken_as_it_is(make: Make, modifier: str) -> None:
    with bound(socket.AF_INET, "127.0.0.1") as sock:
        with pytest.raises(
            ValueError, match=r"socket modifier keyword arguments can not be used when sock is specified\."
        ) as refusal:
            await make(sock=sock, **{modifier: MODIFIERS[modifier]})
        assert f"{modifier}={MODIFIERS[modifier]}" in str(refusal.value), "it says which"
        assert sock.fileno() >= 0


async def test_a_socket_for_tcp_is_refused(make: Make) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        with pytest.raises(ValueError, match=r"[Ss]ocket was expected, got <socket\.socket"):
            await make(sock=other)
        assert other.fileno() >= 0


@beyond
async def test_datagrams_that_are_not_udp_are_refused(make: Make) -> None:
    """asyncio takes them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        with pytest.raises(ValueError, match=r"[Ss]ocket was expected, got <socket\.socket"):
            await make(sock=other)
        assert other.fileno() >= 0
    with pytest.raises(ValueError, match="only AF_INET and AF_INET6 are supported"):
        await make(family=socket.AF_UNIX)


@beyond
async def test_a_factory_that_raises_leaves_no_socket_open(make: Make) -> None:
    """asyncio's own leaves it to the garbage collector."""

    def fails() -> None:
        raise ValueError("as asked")

    before = open_sockets()
    with pytest.raises(ValueError, match="as asked") as _kept:
        await make(fails, local_addr=HERE)
    assert open_sockets() == before


# From the address that was asked.


ANSWERS: dict[str, Callable[[Any, Any], Any]] = {
    "at once": lambda transport, addr: transport.sendto(b"pong", addr),
    "later": lambda transport, addr: asyncio.get_running_loop().call_later(
        0.01, transport.sendto, b"pong", addr
    ),
    "from a task": lambda transport, addr: asyncio.ensure_future(answer_soon(transport, addr)),
    "a copy": lambda transport, addr: transport.sendto(b"pong", copy.copy(addr)),
    "a deep copy": lambda transport, addr: transport.sendto(b"pong", copy.deepcopy([addr])[0]),
    "out of a set": lambda transport, addr: transport.sendto(b"pong", {addr}.pop()),
    "a bytearray": lambda transport, addr: transport.sendto(bytearray(b"pong"), addr),
}


async def answer_soon(transport: Any, addr: Any) -> None:
    await asyncio.sleep(0.01)
    transport.sendto(b"pong", addr)


EVERYWHERE = {
    "IPv4": (socket.AF_INET, "0.0.0.0"),
    "IPv4 on dual-stack": (socket.AF_INET6, "::"),
}


@beyond
@pytest.mark.parametrize("where", EVERYWHERE.values(), ids=EVERYWHERE.keys())
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_a_connected_client_gets_the_answer(
    make: Make, where: Any, answer: Callable[[Any, Any], Any]
) -> None:
    class Answers(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.kept = answer(self.transport, addr)

    transport, protocol = await make(Answers, sock=bound(*where))
    for asked in ("127.0.0.2", "127.0.0.3", "127.0.0.1"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((asked, port_of(transport)))
            client.send(b"ping")
            assert (await take(client)) == (b"pong", (asked, port_of(transport)))
        assert protocol.all("received")[-1][1].local == ip_address(asked)


async def test_to_a_plain_tuple_the_route_chooses_the_source(make: Make) -> None:
    """So the test above would fail with asyncio's own. Pickled, an address is the plain tuple."""

    class Forgets(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            pickled = pickle.loads(pickle.dumps(addr))  # noqa: S301 - our own
            assert type(pickled) is tuple
            self.transport.sendto(data, pickled)

    transport, _ = await make(Forgets, local_addr=("0.0.0.0", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"ping", ("127.0.0.2", port_of(transport)))
        assert await take(client) == (b"ping", ("127.0.0.1", port_of(transport)))


@beyond
async def test_one_client_that_asks_several_addresses_is_answered_from_each(make: Make) -> None:
    transport, _ = await make(Echo, local_addr=("0.0.0.0", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        asked = [f"127.0.0.{last}" for last in range(1, 100)]
        for address in asked:
            client.sendto(address.encode(), (address, port_of(transport)))
        answers = [await take(client) for _ in asked]
    assert answers == [(address.encode(), (address, port_of(transport))) for address in asked]
