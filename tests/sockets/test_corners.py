"""Control messages that are cut, merged datagrams, full buffers, signals, threads, workers, nonsense."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import anyio
import pytest

from udpkit.facts import Endpoint
from udpkit.lab import CommandFailed, wait_until
from udpkit.sockets import NetworkError, PacketInfoSocket, Socket, TruncatedControl

from .conftest import NETWORKS, Network, Opener, Stage, open_on
from .serving import wait_for_addresses
from .test_loopback import plain_socket

# Control messages that the kernel cuts.

IP_RECVOPTS, IP_RETOPTS, IP_RECVORIGDSTADDR = 6, 7, 20  # linux/in.h
SO_TIMESTAMPING, SO_RXQ_OVFL = 37, 40  # asm-generic/socket.h
RX_SOFTWARE = 1 << 3 | 1 << 4  # linux/net_tstamp.h
TALKATIVE = [
    (socket.IPPROTO_IP, IP_RECVOPTS, 1),
    (socket.IPPROTO_IP, IP_RETOPTS, 1),
    (socket.IPPROTO_IP, IP_RECVORIGDSTADDR, 1),
    (socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE),
    (socket.SOL_SOCKET, SO_RXQ_OVFL, 1),
]
"""With a datagram's IP options this is more than there is room for: 296 bytes."""


@pytest.mark.parametrize("call", ["recv", "recv_many"])
def test_control_messages_that_the_kernel_cut_are_no_datagram(opener: Opener, call: str) -> None:
    server = opener("127.0.0.1", timestamps=True)
    for level, option, value in TALKATIVE:
        server.setsockopt(level, option, value)
    with plain_socket("127.0.0.1") as client:
        client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1] * 40))
        client.sendto(b"with options", ("127.0.0.1", server.port))
        with pytest.raises(TruncatedControl, match="cut") as cut:
            getattr(server, call)()
        assert cut.value.errno == errno.EMSGSIZE
        client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"")
        client.sendto(b"without", ("127.0.0.1", server.port))
        request = server.recv()
        assert (request.data, str(request.local.address)) == (b"without", "127.0.0.1")


# GSO and GRO.

A, B = 0, 1
"""Two receivers."""

PLANS = {
    "one": [(A, 1200)],
    "alike": [(A, 1200)] * 10,
    "a shorter last one": [(A, 1200)] * 5 + [(A, 7)],
    "a longer one": [(A, 1200)] * 3 + [(A, 1201), (A, 1200)],
    "a shorter one between": [(A, 1200), (A, 1200), (A, 5), (A, 1200)],
    "empty": [(A, 0)] * 3,
    "empty at the end": [(A, 1200)] * 3 + [(A, 0)],
    "single bytes": [(A, 1)] * 150,
    "peers interleaved": [(A, 1200), (B, 1200)] * 20,
    "one peer after the other": [(A, 1200)] * 20 + [(B, 1200)] * 20,
    "more than 64": [(A, 100)] * 200,
    "more than a packet holds": [(A, 1400)] * 60,
    "large": [(A, 30_000)] * 4 + [(A, 65_507)] * 2,
}
OFFLOADS = pytest.mark.parametrize(
    ("gso", "gro"), [(True, True), (True, False), (False, True)], ids=["both", "GSO", "GRO"]
)


def taken(server: Any, count: int) -> list[Any]:
    """Take this many datagrams, in bites of several sizes: what was merged does not fit into one."""
    received: list[Any] = []
    while len(received) < count:
        received.append(server.recv())
        if len(received) < count:
            bite = server.recv_many(min(7, count - len(received)))
            assert 0 < len(bite) <= 7
            received += bite
    return received


@OFFLOADS
@pytest.mark.parametrize("loopback", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_datagrams_that_travel_as_one_arrive_as_they_were(
    opener: Opener, plan: list[tuple[int, int]], loopback: str, gso: bool, gro: bool
) -> None:
    receivers = [opener(gro=gro, receive_buffer=1 << 20) for _ in (A, B)]
    sender = opener(loopback, gso=gso)
    payloads = [(receiver, os.urandom(size)) for receiver, size in plan]
    sender.send_many((data, (loopback, receivers[receiver].port)) for receiver, data in payloads)
    for which, receiver in enumerate(receivers):
        sent = [data for name, data in payloads if name == which]
        received = taken(receiver, len(sent))
        assert [datagram.data for datagram in received] == sent
        for datagram in received:
            assert datagram.peer == sender.local
            assert datagram.local == Endpoint(ip_address(loopback), receiver.port)
            assert (datagram.tos, datagram.ttl, datagram.truncated) == (0, 64, False)
        assert receiver.dropped == 0
    assert sender.errors() == []


def test_what_was_merged_had_one_control_message_that_each_part_has(opener: Opener) -> None:
    """So the tests above do see merged datagrams: the kernel received ten of them in one moment."""
    receiver, sender = opener(gro=True, timestamps=True), opener("127.0.0.1", gso=True)
    sender.send_many([(b"x" * 100, ("127.0.0.1", receiver.port))] * 10)
    assert len({datagram.time_ns for datagram in taken(receiver, 10)}) == 1
    apart = opener("127.0.0.1")
    apart.send_many([(b"x" * 100, ("127.0.0.1", receiver.port))] * 10)
    assert len({datagram.time_ns for datagram in taken(receiver, 10)}) > 1


@OFFLOADS
def test_answers_that_travel_as_one_leave_from_where_each_was_asked(
    opener: Opener, gso: bool, gro: bool
) -> None:
    server, client = opener(gso=gso), opener("0.0.0.0", gro=gro)
    asked = ["127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.3"] * 5
    requests = []
    for number, address in enumerate(asked):
        client.send(f"{number:04}".encode(), (address, server.port))
        requests.append(server.recv())
    requests.sort(key=lambda request: str(request.local))
    server.reply_many((request, request.data) for request in requests)
    answers = {int(answer.data): answer.peer for answer in taken(client, len(asked))}
    assert answers == {
        number: Endpoint(ip_address(address), server.port) for number, address in enumerate(asked)
    }


def test_merged_datagrams_need_more_room_than_the_largest_of_them(opener: Opener) -> None:
    receiver, sender = opener(gro=True, largest=1500), opener("127.0.0.1", gso=True)
    sent = [bytes([number]) * 1000 for number in range(20)]
    sender.send_many((data, ("127.0.0.1", receiver.port)) for data in sent)
    sender.send(b"the end", ("127.0.0.1", receiver.port))
    received = []
    while not received or received[-1].data != b"the end":
        received.append(receiver.recv())
    assert [datagram.data for datagram in received] == [*sent, b"the end"]
    assert {datagram.truncated for datagram in received} == {False}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_segments_larger_than_the_mtu_go_as_fragments(stage: Stage, opener: Opener, network: Network) -> None:
    stage.server.ip("link set eth0 mtu 1280")
    sender = opener(network.bound, on=stage.server, gso=True)
    receiver = opener(network.bound, on=stage.client)
    scope = (0, stage.index(stage.server)) if network.client.startswith("fe80") else ()
    peer = (network.client, receiver.port, *scope)
    sent = [bytes([number]) * 1400 for number in range(10)] + [b"short"] * 3
    sender.send_many((data, peer) for data in sent)
    assert [datagram.data for datagram in taken(receiver, len(sent))] == sent
    assert sender.errors() == []


@pytest.mark.parametrize("peer", ["192.0.2.2", "2001:db8::2"])
def test_segments_larger_than_the_mtu_that_must_not_be_fragmented(
    stage: Stage, opener: Opener, peer: str
) -> None:
    stage.server.ip("link set eth0 mtu 1280")
    sender = opener(on=stage.server, gso=True, dont_fragment=True)
    receiver = opener(on=stage.client)
    sender.send_many((bytes(size), (peer, receiver.port)) for size in [1400] * 5 + [100] * 5)
    assert [len(datagram.data) for datagram in taken(receiver, 5)] == [100] * 5
    assert [(report.errno, report.mtu) for report in sender.errors()] == [(errno.EMSGSIZE, 1280)] * 5


# A send buffer that is full, since the peer's link address is not known yet.


TRANSPARENT = {4: (socket.IPPROTO_IP, 19), 6: (socket.IPPROTO_IPV6, 75)}  # linux/in.h, linux/in6.h


class Dam:
    """A peer on the stage to whom nothing flows until it is opened: datagrams wait in the send buffer."""

    def __init__(self, stage: Stage, version: int) -> None:
        self._stage = stage
        self.address = "192.0.2.50" if version == 4 else "2001:db8::50"
        for setting in ("mcast_solicit", "retrans_time_ms"):  # patience; not everybody may set it
            with suppress(CommandFailed):
                stage.server.sysctl(f"net.ipv{version}.neigh.eth0.{setting}", 1000)
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        self.behind = stage.client.socket(family, socket.SOCK_DGRAM)
        self.behind.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        # Bound to an address that its host does not have yet.
        self.behind.setsockopt(*TRANSPARENT[version], 1)
        self.behind.bind((self.address, 0))
        self.behind.settimeout(20)
        self.peer = (self.address, self.behind.getsockname()[1])

    def open(self) -> None:
        link = self._stage.client.ip("-o link show dev eth0").split()
        mac = link[link.index("link/ether") + 1]
        length = 24 if "." in self.address else 64
        self._stage.client.address("eth0", f"{self.address}/{length}")
        wait_for_addresses(self._stage.client)
        self._stage.server.ip(f"neigh replace {self.address} lladdr {mac} dev eth0 nud permanent")

    def arrived(self, count: int) -> list[bytes]:
        received = [self.behind.recv(2000) for _ in range(count)]
        self.behind.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.behind.recv(2000)
        return received


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def dam(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Dam]:
    dam = Dam(stage, request.param)
    yield dam
    dam.behind.close()


def is_full(sender: Any) -> bool:
    poll = select.poll()
    poll.register(sender.fileno(), select.POLLOUT)
    return not poll.poll(0)


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_send_buffer_that_stays_full(stage: Stage, dam: Dam, timeout: float) -> None:
    too_late = TimeoutError if timeout else BlockingIOError
    numbers = iter(range(10_000))

    def send() -> None:
        opened.send(str(next(numbers)).encode(), dam.peer)

    with open_on(stage.server, lambda: Socket(timeout=timeout, send_buffer=0)) as opened:
        wait_until(lambda: send() or is_full(opened), timeout=20, what="it never became full", polling=True)
        with pytest.raises(too_late):
            wait_until(send, timeout=20, what="a full send buffer took more", polling=True)
        sent = next(numbers) - 1
        assert opened.send_many([(b"not sent", dam.peer)] * 3) == 0
        assert opened.errors() == []
        dam.open()
        assert dam.arrived(sent) == [str(number).encode() for number in range(sent)]


@pytest.mark.parametrize("way", ["send", "send_many", "reply", "reply_many"])
@pytest.mark.parametrize("gso", [False, True], ids=["", "GSO"])
def test_while_the_send_buffer_is_full_it_waits_and_loses_nothing(
    stage: Stage, opener: Opener, dam: Dam, way: str, gso: bool
) -> None:
    sender = opener(on=stage.server, send_buffer=0, gso=gso)
    data = [f"{number:01000}".encode() for number in range(200)]
    request = None
    if way.startswith("reply"):
        dam.behind.sendto(b"ask", ("192.0.2.1" if "." in dam.address else "2001:db8::1", sender.port))
        request = sender.recv()

    def send() -> None:
        if way == "send_many":
            sender.send_many((one, dam.peer) for one in data)
        elif way == "reply_many":
            sender.reply_many((request, one) for one in data)
        else:
            for one in data:
                assert sender.reply(request, one) if request else sender.send(one, dam.peer) is None

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        wait_until(
            lambda: is_full(sender), timeout=20, what="the send buffer never became full", polling=True
        )
        assert not sending.done()
        dam.open()
        assert dam.arrived(len(data)) == data
        sending.result(20)
    assert sender.errors() == []


# Signals.


class Interruption(Exception):
    """Raised by a signal handler."""


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Has a function called every few milliseconds, whatever the main thread does."""
    old = signal.getsignal(signal.SIGALRM)

    def every(call: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: call())
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)

    yield every
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("call", ["recv", "recv_many"])
def test_a_call_that_a_signal_interrupts_goes_on(
    alarm: Callable[[Callable[[], None]], None], call: str, timeout: float | None
) -> None:
    signals = 0
    with Socket("127.0.0.1", timeout=timeout) as server, Socket("127.0.0.1") as client:

        def come() -> None:
            nonlocal signals
            signals += 1
            if signals == 5:
                client.send(b"at last", ("127.0.0.1", server.port))

        alarm(come)
        received = getattr(server, call)()
        received = received if call == "recv" else received[0]
        assert received.data == b"at last"
        assert signals >= 5


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("call", ["recv", "recv_many", "send", "send_many"])
@pytest.mark.parametrize("raised", [KeyboardInterrupt, Interruption])
def test_what_a_signal_handler_raises_gets_out(
    stage: Stage,
    alarm: Callable[[Callable[[], None]], None],
    raised: type[BaseException],
    call: str,
    timeout: float | None,
) -> None:
    dam = Dam(stage, 4)
    with open_on(stage.server, lambda: Socket(timeout=timeout, send_buffer=0)) as server, dam.behind:
        server.send(b"to myself", ("192.0.2.1", server.port))
        request = server.recv()
        calls: dict[str, Callable[[], Any]] = {
            "recv": server.recv,
            "recv_many": server.recv_many,
            "send": lambda: [server.send(b"x", dam.peer) for _ in range(10_000)],
            "send_many": lambda: server.send_many([(b"x", dam.peer)] * 10_000),
        }

        def come() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)  # a second one would hit whatever handles the first
            raise raised

        with pytest.raises(raised):  # noqa: PT012 - the first alarm may come before the call
            alarm(come)
            calls[call]()
        if call.startswith("recv"):
            assert server.reply(request, b"still alive")
            assert server.recv().data == b"still alive"


# Threads, and several workers.


def test_threads_share_a_socket(blocking: Opener) -> None:
    server = blocking(timeout=0.2)
    done = threading.Event()

    def serve() -> int:
        answered = 0
        while not done.is_set():
            with suppress(TimeoutError):
                request = server.recv()
                answered += server.reply(request, request.data)
            many = server.recv_many(3)
            answered += server.reply_many((request, request.data) for request in many)
        return answered

    def ask(name: int) -> int:
        rounds = 100
        with plain_socket("127.0.0.1") as client:
            client.connect((f"127.0.1.{name + 1}", server.port))
            for number in range(rounds):
                client.send(question := f"{name} {number}".encode())
                assert client.recv(100) == question
        return rounds

    with ThreadPoolExecutor(8) as pool:
        serving = [pool.submit(serve) for _ in range(4)]
        try:
            asked = sum(pool.map(ask, range(4)))
        finally:
            done.set()
        assert sum(one.result() for one in serving) == asked
    assert server.errors() == []


SHARED_BY_THREADS = """
import socket, sys, threading
from udpkit.sockets import PacketInfoSocket

sys.setswitchinterval(1e-6)
server = PacketInfoSocket()
server.bind(("0.0.0.0", 0))
server.settimeout(0.2)
enough = threading.Event()

def take():
    while not enough.is_set():
        try:
            server.recvfrom(100)
        except TimeoutError:
            pass

def ask():
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(50)]
    for number in range(20_000):
        address = f"127.0.{number // 250 % 250}.{number % 250 + 1}"
        clients[number % 50].sendto(b"", (address, server.getsockname()[1]))
    enough.set()

threads = [threading.Thread(target=take) for _ in range(4)] + [threading.Thread(target=ask)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("nobody waits for ever")
"""


def test_threads_share_a_drop_in() -> None:
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SHARED_BY_THREADS], stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.communicate(timeout=20)[0] == "nobody waits for ever\n"
    finally:
        program.kill()
        program.communicate()


@pytest.mark.parametrize("bound", ["", "0.0.0.0"], ids=["dual-stack", "IPv4"])
def test_workers_share_a_port_and_each_datagram_is_answered_once(opener: Opener, bound: str) -> None:
    first = opener(bound, reuse_port=True)
    workers = [first, *(opener(bound, first.port, reuse_port=True) for _ in range(2))]
    clients = [plain_socket("127.0.0.1") for _ in range(60)]
    try:
        for number, client in enumerate(clients):
            client.connect((f"127.0.0.{number % 3 + 1}", first.port))
            client.send(str(number).encode())
        by_worker = [0, 0, 0]
        while sum(by_worker) < len(clients):
            ready = [worker.fileno() for worker in workers]
            for descriptor in select.select(ready, [], [], 20)[0]:
                which = ready.index(descriptor)
                requests = workers[which].recv_many()
                workers[which].reply_many((request, request.data) for request in requests)
                by_worker[which] += len(requests)
        assert sum(by_worker) == len(clients)
        assert sum(count > 0 for count in by_worker) > 1
        for number, client in enumerate(clients):
            assert client.recv(100) == str(number).encode()
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(100)
    finally:
        for client in clients:
            client.close()


# Nonsense.


def test_a_request_from_port_0_cannot_be_answered_and_harms_nobody(stage: Stage, opener: Opener) -> None:
    server = opener(on=stage.server)
    with (
        stage.client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw,
        stage.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(20)
        raw.sendto(struct.pack("!4H", 0, server.port, 8 + 7, 0) + b"spoofed", ("192.0.2.1", 0))
        client.sendto(b"honest", ("192.0.2.1", server.port))
        spoofed, honest = server.recv(), server.recv()
        assert (spoofed.data, spoofed.peer.port) == (b"spoofed", 0)
        assert server.reply(spoofed, b"to nobody") is False
        server.reply_many([(spoofed, b"to nobody"), (honest, b"to somebody")])
        assert client.recv(100) == b"to somebody"
    reports = server.errors()
    assert [(report.origin, report.peer, report.quoted) for report in reports] == [
        ("local", spoofed.peer, b"to nobody")
    ] * 2
    assert server.stale_sources == 0


NOT_OPENED = {
    "port too large": (("127.0.0.1", 70_000), {}, ValueError),
    "port of letters": (("127.0.0.1", "53"), {}, TypeError),
    "address of numbers": ((5,), {}, TypeError),
    "interface unknown": (("127.0.0.1",), {"interface": "nowhere0"}, OSError),
    "batch of letters": ((), {"batch": "x"}, TypeError),
    "batch too large": ((), {"batch": 1025}, ValueError),
    "largest too large": ((), {"largest": 65_536}, ValueError),
    "largest negative": ((), {"largest": -1}, (ValueError, OverflowError)),
    "buffer of letters": ((), {"receive_buffer": "x"}, TypeError),
    "peer's port too large": ((), {"peer": ("127.0.0.1", 70_000)}, ValueError),
    "peer without a port": ((), {"peer": ("127.0.0.1",)}, TypeError),
    "peer of another family": (("127.0.0.1",), {"peer": ("::1", 53)}, OSError),
    "peer no peer": ((), {"peer": 53}, TypeError),
    "unknown option": ((), {"colour": "blue"}, TypeError),
}


@pytest.mark.parametrize(("arguments", "options", "raised"), NOT_OPENED.values(), ids=NOT_OPENED.keys())
def test_what_cannot_be_opened(
    opener: Opener, arguments: tuple[Any, ...], options: dict[str, Any], raised: type[Exception]
) -> None:
    with pytest.raises(raised) as refusal:
        opener(*arguments, **options)
    assert str(refusal.value)


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1"])
def test_no_timeout(timeout: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)), Socket("127.0.0.1", timeout=timeout):
        pass
    with Socket("127.0.0.1", timeout=1) as opened:
        with pytest.raises((ValueError, TypeError, OverflowError)):
            opened.timeout = timeout
        assert opened.timeout == 1


HERE = ("127.0.0.1", 9)
NONSENSE: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "send text": (lambda s, _: s.send("text", HERE), TypeError),
    "send a number": (lambda s, _: s.send(5, HERE), TypeError),
    "send to nobody": (lambda s, _: s.send(b""), NetworkError),
    "send to a name": (lambda s, _: s.send(b"", ("localhost", 9)), ValueError),
    "send to a port too large": (
        lambda s, _: s.send(b"", ("127.0.0.1", 70_000)),
        (ValueError, ValueError),
    ),
    "send to a negative port": (lambda s, _: s.send(b"", ("127.0.0.1", -1)), (ValueError, OverflowError)),
    "send to a port of letters": (lambda s, _: s.send(b"", ("127.0.0.1", "9")), TypeError),
    "send to no port": (lambda s, _: s.send(b"", ("127.0.0.1",)), TypeError),
    "send to a number": (lambda s, _: s.send(b"", 9), TypeError),
    "send to text": (lambda s, _: s.send(b"", "127.0.0.1"), TypeError),
    "send to IPv6 from IPv4": (lambda s, _: s.send(b"", ("::1", 9)), NetworkError),
    "send to an interface unknown": (lambda s, _: s.send(b"", ("fe80::1%nowhere0", 9)), OSError),
    "send many of nothing": (lambda s, _: s.send_many(None), TypeError),
    "send many numbers": (lambda s, _: s.send_many([5]), TypeError),
    "send many without a peer": (lambda s, _: s.send_many([(b"",)]), TypeError),
    "send many texts": (lambda s, _: s.send_many([("text", HERE)]), TypeError),
    "reply to data": (lambda s, _: s.reply(b"ping", b"pong"), TypeError),
    "reply to None": (lambda s, _: s.reply(None, b"pong"), TypeError),
    "reply with text": (lambda s, request: s.reply(request, "pong"), TypeError),
    "reply to many numbers": (lambda s, _: s.reply_many([5]), TypeError),
    "reply to many peers": (lambda s, _: s.reply_many([(HERE, b"pong")]), TypeError),
    "reply to many with text": (lambda s, request: s.reply_many([(request, "pong")]), TypeError),
    "receive fewer than none": (lambda s, _: s.recv_many(-1), (ValueError, OverflowError)),
    "receive letters": (lambda s, _: s.recv_many("x"), TypeError),
}


@pytest.mark.parametrize(("call", "raised"), NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_refused_and_harms_nobody(
    opener: Opener, call: Callable[[Any, Any], Any], raised: type[Exception]
) -> None:
    server = opener("127.0.0.1")
    with plain_socket("127.0.0.1") as client:
        client.connect(("127.0.0.1", server.port))
        client.send(b"one")
        request = server.recv()
        client.send(b"two")
        with pytest.raises(raised) as refusal:
            call(server, request)
        assert str(refusal.value)
        request = server.recv()
        assert request.data == b"two"
        assert server.reply(request, b"pong")
        assert client.recv(100) == b"pong"


def test_none_wanted_is_none_taken(opener: Opener) -> None:
    server = opener("127.0.0.1")
    server.send(b"one", ("127.0.0.1", server.port))
    assert server.recv_many(0) == []
    assert server.recv().data == b"one"


def test_what_an_iterable_raises_gets_out(opener: Opener) -> None:
    server = opener("127.0.0.1")

    def broken() -> Iterator[Any]:
        yield b"x", ("127.0.0.1", server.port)
        raise Interruption

    for call in (server.send_many, server.reply_many):
        with pytest.raises((Interruption, TypeError)):
            call(broken())
    server.send(b"alive", ("127.0.0.1", server.port))
    while server.recv().data != b"alive":
        pass


@pytest.mark.parametrize("data", [b"bytes", bytearray(b"bytes"), memoryview(b"-b-y-t-e-s")[1::2]])
def test_whatever_has_bytes_can_be_sent(opener: Opener, data: Any) -> None:
    server = opener("127.0.0.1")
    server.send(data, ("127.0.0.1", server.port))
    request = server.recv()
    assert request.data == bytes(data)
    assert server.reply(request, data)
    assert server.recv().data == bytes(data)


PEERS = {
    "tuple": lambda port: ("127.0.0.1", port),
    "Endpoint": lambda port: Endpoint(ip_address("127.0.0.1"), port),
    "mapped": lambda port: ("::ffff:127.0.0.1", port),
    "four fields": lambda port: ("::ffff:127.0.0.1", port, 0, 0),
}


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS.keys())
@pytest.mark.parametrize("bound", ["", "127.0.0.1"], ids=["dual-stack", "IPv4"])
def test_every_way_to_name_a_peer(opener: Opener, bound: str, peer: Callable[[int], Any]) -> None:
    server = opener(bound)
    server.send(b"one", peer(server.port))
    server.send_many([(b"two", peer(server.port))])
    received = [server.recv() for _ in range(2)]
    assert [datagram.data for datagram in received] == [b"one", b"two"]
    assert received[0].peer == Endpoint(ip_address("127.0.0.1"), server.port)


USED = {
    "recv": lambda s, _: s.recv(),
    "recv_many": lambda s, _: s.recv_many(),
    "reply": lambda s, request: s.reply(request, b""),
    "reply_many": lambda s, request: s.reply_many([(request, b"")]),
    "send": lambda s, _: s.send(b"", HERE),
    "send_many": lambda s, _: s.send_many([(b"", HERE)]),
    "errors": lambda s, _: s.errors(),
    "dropped": lambda s, _: s.dropped,
    "local": lambda s, _: s.local,
    "receive_buffer": lambda s, _: s.receive_buffer,
    "getsockopt": lambda s, _: s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
}


@pytest.mark.parametrize("use", USED.values(), ids=USED.keys())
def test_after_its_end_it_says_so(opener: Opener, use: Callable[[Any, Any], Any]) -> None:
    server = opener("127.0.0.1")
    for _ in range(3):
        server.send(b"hello", ("127.0.0.1", server.port))
    request = server.recv()
    server.close()
    server.close()
    with pytest.raises((OSError, anyio.ClosedResourceError)) as closed:
        use(server, request)
    assert getattr(closed.value, "errno", errno.EBADF) == errno.EBADF
    assert server.fileno() == -1
    assert "closed" in repr(getattr(server, "_socket", server)) or "closed" in repr(server)


def test_a_waiting_program_that_is_woken_by_shutdown_does_not_crash() -> None:
    """shutdown(2) wakes whoever waits in recvmsg(2), with a datagram that nobody sent."""
    with PacketInfoSocket() as server:
        server.bind(("127.0.0.1", 0))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(server.recvfrom, 100)
            wait_until(lambda: asleep(pool), timeout=20, what="recvfrom() did not wait", polling=True)
            with pytest.raises(OSError, match="not connected"):
                server.shutdown(socket.SHUT_RDWR)
            assert waiting.result(20) == (b"", None)


def asleep(pool: ThreadPoolExecutor) -> bool:
    [thread] = pool._threads
    with open(f"/proc/self/task/{thread.native_id}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] == "S"
