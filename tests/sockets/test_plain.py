"""PacketInfoSocket beside socket.socket, and PacketInfoMixIn in every kind of socketserver; over loopback."""

from __future__ import annotations

import array
import copy
import errno
import os
import pickle
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from udpkit import PacketInfoMixIn, PacketInfoSocket, PeerAddress
from udpkit.lab import wait_until

KINDS = [socket.socket, PacketInfoSocket]
"""What holds for Python's own must hold for ours."""

FAMILIES = {
    "IPv4": (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
    "IPv6": (socket.AF_INET6, "::1", "::1"),
    "IPv4 on dual-stack": (socket.AF_INET6, "::", "127.0.0.1"),
}
"""A family, where the server is bound, and the address that is asked."""

Pair = tuple[socket.socket, socket.socket]
"""A server, and a client that sends to it; both wait for 5 seconds at most."""


@contextmanager
def pair_of(
    kind: type[socket.socket],
    family: int = socket.AF_INET,
    bound: str = "127.0.0.1",
    asked: str = "127.0.0.1",
) -> Iterator[Pair]:
    with (
        kind(family, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET6 if ":" in asked else socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bound != "::")
        server.bind((bound, 0))
        client.connect((asked, server.getsockname()[1]))
        server.settimeout(5)
        client.settimeout(5)
        yield server, client


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[socket.socket]:
    return request.param


@pytest.fixture
def pair(kind: type[socket.socket]) -> Iterator[Pair]:
    with pair_of(kind) as pair:
        yield pair


@pytest.fixture
def wildcard() -> Iterator[Pair]:
    """Ours on every address of IPv4, and a client that asks one which no route prefers."""
    with pair_of(PacketInfoSocket, bound="0.0.0.0", asked="127.0.0.2") as pair:
        yield pair


def recvfrom_into(sock: socket.socket, size: int, *flags: int) -> tuple[bytes, Any]:
    buffer = bytearray(size)
    length, address = sock.recvfrom_into(buffer, 0, *flags)
    return bytes(buffer[:length]), address


RECEIVING = {
    "recvfrom": lambda sock, *arguments: sock.recvfrom(*arguments),
    "recvfrom_into": recvfrom_into,
}
Receive = Callable[..., tuple[bytes, Any]]


@pytest.fixture(params=RECEIVING.values(), ids=RECEIVING.keys())
def receive(request: pytest.FixtureRequest) -> Receive:
    return request.param


def readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


# Addresses.


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_an_exchange_with_an_address_as_socket_has_it(
    kind: type[socket.socket], family: Any, receive: Receive
) -> None:
    with pair_of(kind, *family) as (server, client):
        client.send(b"ping")
        data, address = receive(server, 100)
        assert data == b"ping"
        port = client.getsockname()[1]
        assert address == {
            "::1": ("::1", port, 0, 0),
            "::": ("::ffff:127.0.0.1", port, 0, 0),
        }.get(family[1], ("127.0.0.1", port))
        assert hash(address) == hash(tuple(address))
        assert {tuple(address): "known"}[address] == "known"
        assert server.sendto(b"pong", address) == 4
        assert client.recv(100) == b"pong"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_the_address_says_which_one_was_asked(family: Any) -> None:
    with pair_of(PacketInfoSocket, *family) as (server, client):
        client.send(b"ping")
        _, address = server.recvfrom(100)
        assert isinstance(address, PeerAddress)
        assert address.local == ip_address(family[2])


ANSWERS: dict[str, Callable[[socket.socket, Any], object]] = {
    "sendto": lambda server, address: server.sendto(b"pong", address),
    "no flags": lambda server, address: server.sendto(b"pong", 0, address),
    "MSG_DONTWAIT": lambda server, address: server.sendto(b"pong", socket.MSG_DONTWAIT, address),
    "MSG_CONFIRM": lambda server, address: server.sendto(b"pong", socket.MSG_CONFIRM, address),
    "a copy": lambda server, address: server.sendto(b"pong", copy.copy(address)),
    "a deep copy": lambda server, address: server.sendto(b"pong", copy.deepcopy({"peer": address})["peer"]),
    "a duplicate": lambda server, address: duplicate(server, lambda dup: dup.sendto(b"pong", address)),
    "in another thread": lambda server, address: in_thread(lambda: server.sendto(b"pong", address)),
    "after others": lambda server, address: [server.sendto(b"pong", address) for _ in range(3)],
}


def duplicate(sock: socket.socket, use: Callable[[socket.socket], object]) -> None:
    with sock.dup() as dup:
        assert type(dup) is type(sock)
        use(dup)


def in_thread(run: Callable[[], object]) -> None:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_connected_client_gets_the_answer(
    wildcard: Pair, receive: Receive, answer: Callable[..., object]
) -> None:
    server, client = wildcard
    client.send(b"ping")
    answer(server, receive(server, 100)[1])
    assert client.recv(100) == b"pong"


def test_requests_are_answered_in_any_order(wildcard: Pair) -> None:
    server, _ = wildcard
    port = server.getsockname()[1]
    asked = [f"127.0.0.{last}" for last in range(2, 9)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        for address in asked:
            client.sendto(address.encode(), (address, port))
        for data, address in reversed([server.recvfrom(100) for _ in asked]):
            server.sendto(data, address)
        answers = [client.recvfrom(100) for _ in asked]
    assert answers == [(address.encode(), (address, port)) for address in reversed(asked)]


def test_pickled_it_is_the_plain_tuple(wildcard: Pair) -> None:
    server, client = wildcard
    client.send(b"ping")
    _, address = server.recvfrom(100)
    pickled = pickle.loads(pickle.dumps(address))  # noqa: S301 - our own
    assert type(pickled) is tuple
    assert pickled == address == client.getsockname()


def test_to_a_plain_tuple_the_route_chooses_the_source(wildcard: Pair) -> None:
    """So the tests above would fail if the source were not pinned."""
    server, _ = wildcard
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(b"ping", ("127.0.0.2", server.getsockname()[1]))
        _, address = server.recvfrom(100)
        server.sendto(b"pong", tuple(address))
        assert client.recvfrom(100) == (b"pong", ("127.0.0.1", server.getsockname()[1]))


# Receiving.


def test_a_datagram_that_is_too_long_is_cut(pair: Pair, receive: Receive) -> None:
    server, client = pair
    for data in (b"0123456789", b"next"):
        client.send(data)
    assert receive(server, 4)[0] == b"0123"
    assert receive(server, 100)[0] == b"next"


@pytest.mark.parametrize("size", [0, 1, 65_507])
def test_a_datagram_of_any_size(pair: Pair, receive: Receive, size: int) -> None:
    server, client = pair
    data = os.urandom(size)
    client.send(data)
    received, address = receive(server, 70_000)
    assert received == data
    assert server.sendto(data, address) == size
    assert client.recv(70_000) == data


def test_recvfrom_of_no_bytes_takes_a_datagram(pair: Pair) -> None:
    server, client = pair
    client.send(b"first")
    client.send(b"second")
    assert server.recvfrom(0) == (b"", client.getsockname())
    assert server.recvfrom(100)[0] == b"second"


@pytest.mark.parametrize(
    "buffer",
    [bytearray(8), memoryview(bytearray(8)), array.array("I", [0, 0])],
    ids=["bytearray", "memoryview", "array"],
)
def test_recvfrom_into_any_buffer(pair: Pair, buffer: Any) -> None:
    server, client = pair
    for data in (b"abcdef", b"xyz", b"01"):
        client.send(data)
    assert server.recvfrom_into(buffer, 4) == (4, client.getsockname())
    assert bytes(buffer) == b"abcd\0\0\0\0"
    assert server.recvfrom_into(buffer=buffer, nbytes=0, flags=0)[0] == 3
    assert bytes(buffer) == b"xyzd\0\0\0\0"
    assert server.recvfrom_into(buffer)[0] == 2
    assert bytes(buffer) == b"01zd\0\0\0\0"


@pytest.mark.parametrize("flags", [socket.MSG_PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT])
def test_a_peek_leaves_the_datagram(pair: Pair, receive: Receive, flags: int) -> None:
    server, client = pair
    client.send(b"ping")
    expected = (b"ping", client.getsockname())
    assert [receive(server, 100, flags) for _ in range(2)] == [expected] * 2
    assert receive(server, 100) == expected
    assert not readable(server)


def test_a_peek_knows_the_way_back(wildcard: Pair) -> None:
    server, client = wildcard
    client.send(b"ping")
    _, address = server.recvfrom(1, socket.MSG_PEEK)
    server.sendto(b"pong", address)
    assert client.recv(100) == b"pong"


def test_waitall_is_done_with_one_datagram(pair: Pair, receive: Receive) -> None:
    server, client = pair
    client.send(b"ping")
    assert receive(server, 100, socket.MSG_WAITALL)[0] == b"ping"


WRONG_ARGUMENTS: dict[str, Callable[[socket.socket], object]] = {
    "less than no bytes": lambda sock: sock.recvfrom(-1),
    "half a byte": lambda sock: sock.recvfrom(1.5),  # type: ignore[arg-type]
    "flags in words": lambda sock: sock.recvfrom(100, "peek"),  # type: ignore[arg-type]
    "a buffer that cannot be written": lambda sock: sock.recvfrom_into(b"1234"),  # type: ignore[arg-type]
    "no buffer": lambda sock: sock.recvfrom_into(100),  # type: ignore[call-overload]
    "more than the buffer holds": lambda sock: sock.recvfrom_into(bytearray(2), 3),
    "less than none of the buffer": lambda sock: sock.recvfrom_into(bytearray(2), -1),
}


@pytest.mark.parametrize("call", WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS.keys())
def test_a_wrong_argument_takes_no_datagram(pair: Pair, call: Callable[[socket.socket], object]) -> None:
    server, client = pair
    client.send(b"ping")
    with pytest.raises((TypeError, ValueError)):
        call(server)
    assert server.recvfrom(100)[0] == b"ping"


# Waiting.


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_it_waits_no_longer_than_its_timeout(pair: Pair, receive: Receive, timeout: float) -> None:
    server, client = pair
    server.settimeout(timeout)
    with pytest.raises(TimeoutError if timeout else BlockingIOError) as refusal:
        receive(server, 100)
    assert refusal.value.errno == (None if timeout else errno.EAGAIN)
    client.send(b"ping")  # and is as good as before
    assert receive(server, 100)[0] == b"ping"


def test_dontwait_does_not_wait(pair: Pair, receive: Receive) -> None:
    server, client = pair
    server.settimeout(None)
    rescue = threading.Timer(10, client.send, [b"it waited"])
    rescue.start()
    try:
        with pytest.raises(BlockingIOError):
            receive(server, 100, socket.MSG_DONTWAIT)
    finally:
        rescue.cancel()
        rescue.join()


@pytest.mark.parametrize("timeout", [None, 20])
def test_it_waits_until_a_datagram_is_there(pair: Pair, receive: Receive, timeout: float | None) -> None:
    server, client = pair
    server.settimeout(timeout)
    received = []
    thread = threading.Thread(target=lambda: received.append(receive(server, 100)))
    thread.start()
    wait_until(lambda: asleep(thread), timeout=5, what="it does not wait", polling=True)
    client.send(b"ping")
    thread.join(10)
    assert received == [(b"ping", client.getsockname())]


def asleep(thread: threading.Thread) -> bool:
    """Whether it waits in the kernel for a datagram."""
    with open(f"/proc/self/task/{thread.native_id}/wchan") as wchan:  # noqa: PTH123
        return "poll" in (where := wchan.read()) or "skb" in where or where == "0"


@pytest.mark.parametrize("timeout", [None, 20])
@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals come to the main thread alone"
)
def test_a_signal_ends_the_wait_only_if_its_handler_raises(
    pair: Pair, receive: Receive, timeout: float | None
) -> None:
    server, client = pair
    server.settimeout(timeout)
    handled = []

    def handle(*_: object) -> None:
        handled.append(1)
        if len(handled) == 1:
            return  # the wait goes on (PEP 475)
        signal.setitimer(signal.ITIMER_REAL, 0)  # one more would hit whatever comes behind the call
        if len(handled) == 2:
            client.send(b"ping")
            return
        raise InterruptedError("so it is")

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        assert receive(server, 100)[0] == b"ping"
        with pytest.raises(InterruptedError, match="so it is"):  # noqa: PT012 - it may come before the call
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            receive(server, 100)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


SEVERAL_THREADS = """
import socket, sys, threading
from udpkit import PacketInfoSocket

ASKS = 10_000
server = PacketInfoSocket()
server.bind(("0.0.0.0", 0))
received = []

def serve():
    while (datagram := server.recvfrom(100))[0]:
        received.append(datagram[0])

threads = [threading.Thread(target=serve) for _ in range(4)]
sys.setswitchinterval(1e-6)
for thread in threads:
    thread.start()
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
port = server.getsockname()[1]
for number in range(ASKS):
    client.sendto(b"%d" % number, (f"127.{number // 250}.{number % 250}.1", port))
    while len(received) < number - 50:
        pass
for _ in threads:
    client.sendto(b"", ("127.0.0.1", port))
for thread in threads:
    thread.join()
print(len(set(received)))
"""


def test_several_threads_receive_from_ever_new_addresses() -> None:
    """One that waited for another's lock while it holds Python's own would stop the whole process."""
    run = subprocess.run([sys.executable, "-c", SEVERAL_THREADS], capture_output=True, timeout=30, check=True)
    assert run.stdout == b"10000\n"


# Sending.

PAYLOADS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"pong",
    "bytearray": lambda: bytearray(b"pong"),
    "memoryview": lambda: memoryview(b"_pong_")[1:5],
    "array": lambda: array.array("H", b"pong"),
    "empty": lambda: b"",
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
@pytest.mark.parametrize("plain", [False, True], ids=["address", "plain tuple"])
def test_whatever_has_bytes_is_sent(pair: Pair, payload: Callable[[], Any], plain: bool) -> None:
    server, client = pair
    client.send(b"ping")
    _, address = server.recvfrom(100)
    data = payload()
    assert server.sendto(data, tuple(address) if plain else address) == memoryview(data).nbytes
    assert client.recv(100) == bytes(data)


REFUSED: dict[str, Callable[[socket.socket, Any], object]] = {
    "too long": lambda sock, address: sock.sendto(bytes(65_508), address),
    "far too long": lambda sock, address: sock.sendto(bytes(100_000), address),
    "no bytes": lambda sock, address: sock.sendto("pong", address),
    "nothing": lambda sock, _: sock.sendto(),
    "to nobody": lambda sock, _: sock.sendto(b"pong"),
    "to None": lambda sock, _: sock.sendto(b"pong", None),
    "to port 0": lambda sock, address: sock.sendto(b"pong", (address[0], 0)),
    "to a port beyond": lambda sock, address: sock.sendto(b"pong", (address[0], 65_536)),
    "to another family": lambda sock, _: sock.sendto(b"pong", ("::1", 9)),
    "to a list": lambda sock, address: sock.sendto(b"pong", list(address)),
    "to a broadcast address": lambda sock, _: sock.sendto(b"pong", ("127.255.255.255", 9)),
    "with a word for flags": lambda sock, address: sock.sendto(b"pong", "now", address),
    "with too much": lambda sock, address: sock.sendto(b"pong", 0, address, 0),
    "out of band": lambda sock, address: sock.sendto(b"pong", socket.MSG_OOB, address),
    "when closed": lambda sock, address: (sock.close(), sock.sendto(b"pong", address)),
    "receiving when closed": lambda sock, _: (sock.close(), sock.recvfrom(100)),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_it_refuses_as_socket_does(call: Callable[[socket.socket, Any], object]) -> None:
    refusals = []
    for kind in KINDS:
        with pair_of(kind) as (server, client):
            client.send(b"ping")
            _, address = server.recvfrom(100)
            with pytest.raises(Exception) as refusal:  # noqa: PT011 - which one is the question
                call(server, address)
            refusals.append(refusal.value)
    stock, ours = refusals
    assert isinstance(ours, type(stock))
    assert getattr(ours, "errno", None) == getattr(stock, "errno", None)


def test_a_name_is_looked_up(pair: Pair) -> None:
    server, client = pair
    client.send(b"ping")
    server.recvfrom(100)
    server.sendto(b"pong", ("localhost", client.getsockname()[1]))
    assert client.recv(100) == b"pong"


def test_a_connected_socket_hears_that_it_was_refused(kind: type[socket.socket], receive: Receive) -> None:
    with pair_of(kind) as (sock, closed):
        sock.connect(closed.getsockname())
        closed.close()
        sock.send(b"is anybody there?")
        with pytest.raises(ConnectionRefusedError) as refusal:
            receive(sock, 100)
        assert refusal.value.errno == errno.ECONNREFUSED
        sock.send(b"still nobody?")
        with pytest.raises(ConnectionRefusedError):
            sock.send(b"nobody?")


def test_an_unconnected_socket_never_hears_of_it(pair: Pair) -> None:
    server, client = pair
    client.send(b"ping")
    _, address = server.recvfrom(100)
    client.close()
    for _ in range(3):
        assert server.sendto(b"pong", address) == 4
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.recvfrom(100)


def test_the_other_calls_are_those_of_socket(pair: Pair) -> None:
    server, client = pair
    buffer = bytearray(10)
    for number in range(4):
        client.send(b"ping %d" % number)
    assert server.recv(100) == b"ping 0"
    assert server.recv_into(buffer) == 6
    data, _, _, address = server.recvmsg(100)
    assert data == b"ping 2"
    assert server.sendmsg([b"po", b"ng"], [], 0, address) == 4
    server.connect(address)
    server.sendall(b"pong")
    assert server.recvfrom(100) == (b"ping 3", address)
    assert [client.recv(100) for _ in range(2)] == [b"pong"] * 2


# Making and closing.


def test_it_closes_as_a_context_manager(kind: type[socket.socket]) -> None:
    with kind(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert sock.fileno() >= 0
    assert sock.fileno() == -1
    with pytest.raises(OSError) as refusal:  # noqa: PT011 - the number says which
        sock.recvfrom(100)
    assert refusal.value.errno == errno.EBADF


@pytest.mark.parametrize(
    "arguments", [(), (socket.AF_INET,), (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP)]
)
def test_udp_is_the_kind_that_is_meant(arguments: tuple[int, ...]) -> None:
    with PacketInfoSocket(*arguments) as sock:
        assert sock.type == socket.SOCK_DGRAM
        assert sock.family == (arguments or (socket.AF_INET,))[0]


def test_flags_beside_the_type_hold() -> None:
    with PacketInfoSocket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        with pytest.raises(BlockingIOError):
            sock.recvfrom(100)
        assert not sock.get_inheritable()


@contextmanager
def descriptors_kept() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - paths would be made for it
    yield
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


@pytest.mark.parametrize(
    "arguments",
    [
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_INET6, socket.SOCK_STREAM),
    ],
    ids=["TCP", "unix", "TCP over IPv6"],
)
def test_another_kind_of_socket_is_refused_and_leaks_nothing(arguments: tuple[int, int]) -> None:
    with descriptors_kept(), pytest.raises(ValueError, match="not a UDP socket") as _kept:
        PacketInfoSocket(*arguments)
    with socket.socket(*arguments) as stream:
        with pytest.raises(ValueError, match="not a UDP socket"):
            PacketInfoSocket(fileno=stream.fileno())
        assert stream.getsockname() is not None, "it is its owner's, and still open"


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        number = sock.fileno()
    with pytest.raises(OSError) as refusal:  # noqa: PT011 - the number says which
        PacketInfoSocket(fileno=number)
    assert refusal.value.errno == errno.EBADF


def test_it_takes_over_a_descriptor(receive: Receive) -> None:
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    plain.bind(("0.0.0.0", 0))
    with (
        PacketInfoSocket(fileno=plain.detach()) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(5)
        client.connect(("127.0.0.2", server.getsockname()[1]))
        client.send(b"ping")
        server.sendto(*receive(server, 100))
        assert client.recv(100) == b"ping"


def test_a_duplicate_outlives_the_original(wildcard: Pair) -> None:
    server, client = wildcard
    with server.dup() as dup:
        dup.settimeout(5)
        server.close()
        client.send(b"ping")
        dup.sendto(*dup.recvfrom(100))
        assert client.recv(100) == b"ping"


# socketserver.


class DatagramEcho(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read())


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data, self.client_address)


HANDLERS = [DatagramEcho, Echo]
BASES = [socketserver.UDPServer, socketserver.ThreadingUDPServer]

LISTENING = {
    "IPv4": (socket.AF_INET, "0.0.0.0", "127.0.0.2"),
    "IPv4 on dual-stack": (socket.AF_INET6, "::", "127.0.0.2"),
    "IPv6": (socket.AF_INET6, "::1", "::1"),
}


def server_class(base: type[socketserver.UDPServer], family: int) -> type[socketserver.UDPServer]:
    class Server(PacketInfoMixIn, base):
        address_family = family

    return Server


@pytest.mark.parametrize("listening", LISTENING.values(), ids=LISTENING.keys())
@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("base", BASES)
def test_a_server_answers_from_the_address_that_was_asked(base: Any, handler: Any, listening: Any) -> None:
    family, bound, asked = listening
    with server_class(base, family)((bound, 0), handler) as server, ExitStack() as stack:
        assert isinstance(server.socket, PacketInfoSocket)
        assert server.server_address == server.socket.getsockname()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        clients = []
        try:
            for number in range(5):
                client = stack.enter_context(
                    socket.socket(socket.AF_INET6 if ":" in asked else socket.AF_INET, socket.SOCK_DGRAM)
                )
                client.settimeout(5)
                client.connect((asked, server.server_address[1]))
                client.send(b"ping %d" % number)
                clients.append(client)
            assert [client.recv(100) for client in clients] == [b"ping %d" % number for number in range(5)]
        finally:
            server.shutdown()
        thread.join(5)
        assert not thread.is_alive(), "shutdown() ends serve_forever()"
    assert server.socket.fileno() == -1


def test_without_the_mix_in_the_client_gets_nothing() -> None:
    """So the test above would fail."""
    with (
        socketserver.UDPServer(("0.0.0.0", 0), Echo) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(5)
        client.sendto(b"ping", ("127.0.0.2", server.server_address[1]))
        server.handle_request()
        assert client.recvfrom(100) == (b"ping", ("127.0.0.1", server.server_address[1]))


def test_a_handler_that_fails_does_not_end_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    class Sometimes(Echo):
        def handle(self) -> None:
            if self.request[0] == b"fail":
                raise ValueError("as asked")
            super().handle()

    with (
        server_class(socketserver.UDPServer, socket.AF_INET)(("0.0.0.0", 0), Sometimes) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(5)
        client.connect(("127.0.0.2", server.server_address[1]))
        for data in (b"fail", b"ping"):
            client.send(data)
            server.handle_request()
        assert client.recv(100) == b"ping"
    assert "ValueError: as asked" in capsys.readouterr().err


def test_a_server_that_waits_for_a_request_in_vain_says_so() -> None:
    class Patient(PacketInfoMixIn, socketserver.UDPServer):
        timed_out = False

        def handle_timeout(self) -> None:
            self.timed_out = True

    with Patient(("127.0.0.1", 0), Echo) as server:
        server.timeout = 0.01
        server.handle_request()
        assert server.timed_out


def test_an_address_in_use_leaks_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with descriptors_kept(), pytest.raises(OSError, match="in use") as _kept:
            server_class(socketserver.UDPServer, socket.AF_INET)(taken.getsockname(), Echo)


@pytest.mark.parametrize("base", [socketserver.TCPServer, socketserver.UnixDatagramServer])
def test_another_kind_of_server_is_refused_and_leaks_nothing(base: Any) -> None:
    class Wrong(PacketInfoMixIn, base):
        pass

    address: Any = "\0udpkit-test" if base is socketserver.UnixDatagramServer else ("127.0.0.1", 0)
    with descriptors_kept(), pytest.raises(ValueError, match="not a UDP socket") as _kept:
        Wrong(address, Echo)
