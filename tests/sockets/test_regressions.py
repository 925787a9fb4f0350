"""What once went wrong: other sockets' datagrams taken, reports slept through or blamed on others."""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import select
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

import udpkit
from udpkit.lab import Host, wait_until
from udpkit.sockets import (
    AsyncSocket,
    ErrorReport,
    NetworkError,
    PacketInfoSocket,
    Refused,
    Socket,
    TruncatedControl,
)
from udpkit.sockets.opening import SO_TIMESTAMPNS, UDP_GRO

from .conftest import LOOPS, Opener, Stage, open_on
from .test_corners import TALKATIVE, Dam
from .test_loopback import plain_socket

IP_RECVERR, IP_RECVTTL = 11, 12  # linux/in.h
PPOLL = {"x86_64": "271", "aarch64": "73"}
SOCKETS = [socket.socket, PacketInfoSocket]


def nobody() -> tuple[str, int]:
    """An address where nobody listens."""
    with plain_socket("127.0.0.1") as closed:
        closed.bind(("127.0.0.1", 0))
        host, port = closed.getsockname()
        return host, port


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Listens, and says nothing."""
    with plain_socket("127.0.0.1") as silent:
        silent.bind(("127.0.0.1", 0))
        yield silent


def wait_for(sock: Any, *events: int) -> None:
    """Until something came to a socket: POLLIN a datagram, POLLERR a report."""
    wanted = sum(events)
    poll = select.poll()
    poll.register(sock.fileno(), wanted)
    wait_until(
        lambda: sum(happened for _, happened in poll.poll(0)) & wanted == wanted,
        timeout=20,
        what="what was sent did not come, nor a report of it",
        polling=True,
    )


# A socket that is closed while a thread waits on it.


def in_thread(call: Callable[[], Any]) -> Future[Any]:
    """Has a thread make a call, and returns when it waits in ppoll(2)."""
    if platform.machine() not in PPOLL:
        pytest.skip(f"which system call is ppoll(2) on {platform.machine()}?")
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    where = Path(f"/proc/self/task/{thread.native_id}/syscall")

    def waits() -> bool:
        with suppress(FileNotFoundError, ProcessLookupError):
            return where.read_text().split()[0] == PPOLL[platform.machine()]
        return True  # over

    wait_until(waits, timeout=20, what="the thread does not wait", polling=True)
    return future


def fails_with(call: Future[Any]) -> int | None:
    error = call.exception(20)
    return error.errno if isinstance(error, OSError) else None


def close_and_take_number(closed: Any, other: socket.socket) -> socket.socket:
    """Close a socket, and give its descriptor number to another."""
    number = closed.fileno()
    closed.close()
    os.dup2(other.fileno(), number)
    other.close()
    return socket.socket(fileno=number)


def packet_info_socket(timeout: float | None) -> PacketInfoSocket:
    opened = PacketInfoSocket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("127.0.0.1", 0))
    opened.settimeout(timeout)
    return opened


RECEIVING: dict[str, tuple[Callable[[float | None], Any], Callable[[Any], Any]]] = {
    "recv": (lambda timeout: Socket("127.0.0.1", timeout=timeout), lambda opened: opened.recv()),
    "recv_many": (lambda timeout: Socket("127.0.0.1", timeout=timeout), lambda opened: opened.recv_many()),
    "recvfrom": (packet_info_socket, lambda opened: opened.recvfrom(100)),
}


@pytest.mark.parametrize("timeout", [None, 0.3])
@pytest.mark.parametrize(("make", "receive"), RECEIVING.values(), ids=RECEIVING.keys())
def test_who_waits_on_a_closed_socket_takes_nothing_from_the_next_with_its_number(
    make: Callable[[float | None], Any], receive: Callable[[Any], Any], timeout: float | None
) -> None:
    with plain_socket("127.0.0.1") as client, make(timeout) as closed:
        port = closed.port if isinstance(closed, Socket) else closed.getsockname()[1]
        waiting = in_thread(lambda: receive(closed))
        with close_and_take_number(closed, plain_socket("127.0.0.1")) as new:
            new.bind(("127.0.0.1", 0))
            new.settimeout(20)
            client.sendto(b"for the new one", new.getsockname())
            if timeout is None:  # its wait holds the closed socket open
                client.sendto(b"for the closed one", ("127.0.0.1", port))
            assert fails_with(waiting) == errno.EBADF
            assert new.recv(100) == b"for the new one"


def test_who_waits_to_send_on_a_closed_socket_sends_nothing_from_the_next_with_its_number(
    stage: Stage,
) -> None:
    dam = Dam(stage, 4)
    opened = open_on(stage.server, lambda: Socket(timeout=0, send_buffer=0))
    with dam.behind, opened:
        sent = 0
        with suppress(BlockingIOError):
            while True:
                opened.send(b"let through", dam.peer)
                sent += 1
        opened.timeout = None
        waiting = in_thread(lambda: opened.send(b"too late", dam.peer))
        assert not waiting.done()
        other = stage.server.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        with close_and_take_number(opened, other):
            dam.open()
            assert fails_with(waiting) == errno.EBADF
            assert dam.arrived(sent) == [b"let through"] * sent


# Reports that wait in the queue.


def test_a_report_that_no_error_announces_ends_the_wait(opener: Opener, silent: socket.socket) -> None:
    sender = opener("127.0.0.1")
    # The second takes from SO_ERROR what the first met, and fails; that it was tried again is not seen.
    sender.send_many([(b"refused", nobody()), (b"taken", silent.getsockname())])
    wait_for(sender, select.POLLERR)
    sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    assert sender.recv_many() == []
    [report] = sender.errors()
    assert (report.kind, report.quoted) == ("port unreachable", b"refused")
    assert silent.recv(100) == b"taken"


@pytest.mark.parametrize("kind", LOOPS)
def test_a_report_that_an_answer_has_found_ends_the_next_wait(kind: str, silent: socket.socket) -> None:
    async def main() -> None:
        async with await AsyncSocket.open("127.0.0.1") as server:
            silent.sendto(b"ping", ("127.0.0.1", server.port))
            request = await server.recv()
            for _ in range(2):
                await server.send(b"refused", nobody())
                wait_for(server, select.POLLERR)
                assert await server.reply(request, b"pong")  # reads the queue, to get through
                assert silent.recv(100) == b"pong"
                with anyio.fail_after(20):
                    assert await server.recv_many() == []
            assert [report.quoted for report in server.errors()] == [b"refused"] * 2
            # Of what errors() has told, nobody is told again.
            await server.send(b"refused", nobody())
            wait_for(server, select.POLLERR)
            assert len(server.errors()) == 1
            silent.sendto(b"ping", ("127.0.0.1", server.port))
            with anyio.fail_after(20):
                assert [request.data for request in await server.recv_many()] == [b"ping"]

    anyio.run(main, **LOOPS[kind])


def test_what_is_there_is_received_before_reports(opener: Opener, silent: socket.socket) -> None:
    server = opener("127.0.0.1")
    server.send(b"refused", nobody())
    silent.sendto(b"one", ("127.0.0.1", server.port))
    silent.sendto(b"two", ("127.0.0.1", server.port))
    wait_for(server, select.POLLIN, select.POLLERR)
    assert [request.data for request in server.recv_many()] == [b"one", b"two"]
    assert [report.quoted for report in server.errors()] == [b"refused"]


KEPT = 1024


def refusals(host: Host) -> int:
    """ICMP messages of this type that have come in (proc_pid_net(5)): under load, not for each datagram."""
    names, values = (line.split() for line in host.read("/proc/net/snmp").splitlines() if "Icmp:" in line)
    return int(dict(zip(names, values, strict=True))["InDestUnreachs"])


@pytest.mark.parametrize("way", ["send_many", "reply_many"])
def test_thousands_of_refusals_are_not_blamed_on_whoever_is_next(shared_stage: Stage, way: str) -> None:
    host = shared_stage.server
    with (
        open_on(host, lambda: Socket("127.0.0.1", timeout=20, receive_buffer=1 << 24)) as sender,
        host.socket(socket.AF_INET, socket.SOCK_DGRAM) as good,
        host.socket(socket.AF_INET, socket.SOCK_DGRAM) as refusing,
    ):
        good.bind(("127.0.0.1", 0))
        good.settimeout(20)
        refusing.bind(("127.0.0.1", 0))
        nowhere = refusing.getsockname()
        refusing.close()
        good.sendto(b"ask", ("127.0.0.1", sender.port))
        request = sender.recv()
        before = refusals(host)
        with socket.socket(fileno=os.dup(sender.fileno())) as plain:
            while refusals(host) - before < 5 * KEPT:
                for _ in range(KEPT // 2):
                    with suppress(ConnectionRefusedError):
                        plain.sendto(b"x", nowhere)
        payloads = [str(number).encode() for number in range(5)]
        if way == "send_many":
            assert sender.send_many((data, good.getsockname()) for data in payloads) == 5
        else:
            assert sender.reply_many((request, data) for data in payloads) == 5
        assert [good.recv(100) for _ in payloads] == payloads
        reports: list[ErrorReport] = sender.errors()
        assert len(reports) == KEPT

        def are_all_told() -> bool:  # some may still be on their way
            reports.extend(report for report in sender.errors() if report.peer)
            return len(reports) + sender.errors_lost >= refusals(host) - before

        wait_until(are_all_told, timeout=20, what="reports are missing", polling=True)
        assert {report.peer.port for report in reports if report.peer} == {nowhere[1]}


# Drop-ins do as what they stand for.


def alternating(send: Callable[[], Any], sock: Any) -> list[str]:
    outcomes = []
    for _ in range(4):
        try:
            send()
        except ConnectionRefusedError:
            outcomes.append("refused")
        else:
            outcomes.append("sent")
            wait_for(sock, select.POLLERR)
    return outcomes


@pytest.mark.parametrize("kind", SOCKETS)
def test_a_connected_socket_is_told_of_every_refusal(kind: type[socket.socket]) -> None:
    with kind(socket.AF_INET, socket.SOCK_DGRAM) as sender, plain_socket("127.0.0.1") as peer:
        sender.bind(("127.0.0.1", 0))
        sender.settimeout(20)
        peer.sendto(b"ping", sender.getsockname())
        _, address = sender.recvfrom(100)
        sender.connect(address)
        peer.close()
        assert alternating(lambda: sender.sendto(b"x", address), sender) == ["sent", "refused"] * 2


@pytest.mark.parametrize("report_errors", [True, False])
def test_a_connected_client_is_told_of_every_refusal(opener: Opener, report_errors: bool) -> None:
    sender = opener(peer=nobody(), report_errors=report_errors)
    assert alternating(lambda: sender.send(b"x"), sender) == ["sent", "refused"] * 2
    assert sender.errors() == []


@pytest.mark.parametrize("kind", SOCKETS)
def test_what_gro_has_merged_is_merged_for_a_program_that_asked_for_it(kind: type[socket.socket]) -> None:
    with kind(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        with Socket(peer=receiver.getsockname(), gso=True) as sender:
            sender.send_many([(b"x" * 100, None)] * 3)
            assert receiver.recvfrom(1000) == (b"x" * 300, ("127.0.0.1", sender.port))


def test_merged_datagrams_that_are_dropped_count_as_one(silent: socket.socket) -> None:
    with Socket("127.0.0.1", gro=True, receive_buffer=0) as receiver, Socket(gso=True) as sender:
        address = ("127.0.0.1", receiver.port)

        def fill() -> bool:
            silent.sendto(bytes(100), address)
            return receiver.dropped > 0

        wait_until(fill, timeout=20, what="the receive buffer never became full", polling=True)
        before = receiver.dropped
        sender.send_many([(bytes(100), address)] * 10)
        wait_until(lambda: receiver.dropped > before, timeout=20, what="it took more", polling=True)
        assert receiver.dropped == before + 1


def test_a_program_that_asked_for_the_error_queue_has_it_read_by_recvfrom() -> None:
    with packet_info_socket(20) as sender:
        sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sender.sendto(b"x", nobody())
        wait_for(sender, select.POLLERR)
        with pytest.raises(Refused, match=r"^\[Errno \d+\] port unreachable to 127\.0\.0\.1:\d+, said by"):
            sender.recvfrom(100)
        sender.setblocking(False)
        with pytest.raises(BlockingIOError):
            sender.recvmsg(100, 500, socket.MSG_ERRQUEUE)


class Diary(asyncio.DatagramProtocol):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _: Any) -> None:
        self.told.append(data)

    def error_received(self, exc: Exception) -> None:
        assert isinstance(exc, OSError)
        self.told.append(exc.errno)

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(exc)
        self.lost.set_result(None)


@pytest.mark.parametrize("drop_in", [False, True], ids=["asyncio", "drop-in"])
def test_what_could_not_be_sent_is_told_before_the_end(drop_in: bool) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        create = udpkit.create_datagram_endpoint if drop_in else loop.create_datagram_endpoint
        transport, diary = await create(Diary, local_addr=("127.0.0.1", 0))
        transport.sendto(bytes(65_530), ("127.0.0.1", 9))
        transport.close()
        await asyncio.wait_for(diary.lost, 20)
        return diary.told

    assert asyncio.run(main()) == [errno.EMSGSIZE, None]


# Control messages that are cut.


def make_talkative(sock: Any) -> None:
    """Beside a datagram with IP options there will be more than there is room for."""
    for level, option, value in (
        *TALKATIVE,
        (socket.SOL_SOCKET, SO_TIMESTAMPNS, 1),
        (socket.IPPROTO_IP, socket.IP_RECVTOS, 1),
        (socket.IPPROTO_IP, IP_RECVTTL, 1),
    ):
        sock.setsockopt(level, option, value)


def send_with_options(client: socket.socket, data: bytes, address: tuple[str, int]) -> None:
    client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1] * 40))
    client.sendto(data, address)
    client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"")


def test_one_datagram_without_its_address_costs_no_other(opener: Opener, silent: socket.socket) -> None:
    server = opener("127.0.0.1")
    make_talkative(server)
    address = ("127.0.0.1", server.port)
    for data in (b"1", b"2"):
        silent.sendto(data, address)
    send_with_options(silent, b"cut", address)
    silent.sendto(b"3", address)
    assert [request.data for request in server.recv_many()] == [b"1", b"2", b"3"]
    with pytest.raises(TruncatedControl):
        server.recv_many()
    silent.sendto(b"4", address)
    assert [request.data for request in server.recv_many()] == [b"4"]


def test_one_datagram_without_its_address_does_not_end_a_transport(silent: socket.socket) -> None:
    async def main() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        transport, diary = await udpkit.create_datagram_endpoint(Diary, local_addr=("127.0.0.1", 0))
        make_talkative(transport.get_extra_info("socket"))
        address = transport.get_extra_info("sockname")
        with anyio.fail_after(20):
            send_with_options(silent, b"cut", address)
            while not complaints:
                await asyncio.sleep(0)
            silent.sendto(b"whole", address)
            while not diary.told:
                await asyncio.sleep(0)
            assert diary.told == [b"whole"]
            [complaint] = complaints
            assert isinstance(complaint["exception"], TruncatedControl)
            assert complaint["transport"] is transport
            assert not transport.is_closing()
            transport.close()
            await diary.lost

    asyncio.run(main())


# What is refused, and how clearly.


WRONG: dict[str, tuple[Any, type[Exception]]] = {
    "a name": ((b"x", ("localhost", 9)), ValueError),
    "no pair": (b"x", TypeError),
    "text": (("x", ("127.0.0.1", 9)), TypeError),
}


@pytest.mark.parametrize(("wrong", "raised"), WRONG.values(), ids=WRONG.keys())
def test_what_stands_before_something_wrong_is_sent(
    opener: Opener, silent: socket.socket, wrong: Any, raised: type[Exception]
) -> None:
    sender, address = opener("127.0.0.1"), silent.getsockname()
    with pytest.raises(raised):
        sender.send_many([(b"one", address), (b"two", address), wrong, (b"three", address)])
    sender.send(b"end", address)
    assert [silent.recv(100) for _ in range(3)] == [b"one", b"two", b"end"]


@pytest.mark.parametrize("before", [0, 3, 256, 300])
def test_what_comes_before_an_iterable_raises_is_sent(before: int) -> None:
    with Socket("127.0.0.1", timeout=20, receive_buffer=1 << 20) as receiver, Socket() as sender:
        address = ("127.0.0.1", receiver.port)
        payloads = [str(number).encode() for number in range(before)]

        def datagrams() -> Iterator[Any]:
            for data in payloads:
                yield data, address
            raise LookupError

        with pytest.raises(LookupError):
            sender.send_many(datagrams())
        sender.send(b"end", address)
        assert [receiver.recv().data for _ in range(before + 1)] == [*payloads, b"end"]


def test_a_connected_client_sends_to_its_peer_alone(opener: Opener, silent: socket.socket) -> None:
    address, other = silent.getsockname(), ("127.0.0.2", 9)
    sender = opener(peer=address)
    for call in (lambda: sender.send(b"x", other), lambda: sender.send_many([(b"x", other)])):
        with pytest.raises(ValueError, match=r"127\.0\.0\.1:\d+.*127\.0\.0\.2:9"):
            call()
    sender.send(b"to its own", address)
    assert silent.recv(100) == b"to its own"


class Mine(socketserver.UDPServer):
    """A server of somebody's own."""


@pytest.mark.parametrize("server", [socketserver.UDPServer, socketserver.ThreadingUDPServer, Mine])
def test_the_mix_in_stands_before_the_server(server: type) -> None:
    with pytest.raises(TypeError, match=r"Wrong.*before"):
        type("Wrong", (server, udpkit.PacketInfoMixIn), {})
    right = type("Right", (udpkit.PacketInfoMixIn, server), {})
    assert type("Subclass", (right,), {}).server_bind is udpkit.PacketInfoMixIn.server_bind


def test_other_mix_ins_may_stand_before_the_mix_in() -> None:
    bases = (socketserver.ThreadingMixIn, udpkit.PacketInfoMixIn, socketserver.UDPServer)
    assert type("Server", bases, {}).server_bind is udpkit.PacketInfoMixIn.server_bind


HERE = ("127.0.0.1", 9)
UNCLEAR: dict[str, tuple[Callable[[Socket], Any], type[Exception], str]] = {
    "open a port too large": (lambda _: Socket("127.0.0.1", 70_000), ValueError, "70000.*65535"),
    "open a negative port": (lambda _: Socket("127.0.0.1", -1), ValueError, "-1.*65535"),
    "connect to a port too large": (lambda _: Socket(peer=("::1", 70_000)), ValueError, "70000.*65535"),
    "open a port of letters": (lambda _: Socket("", "53"), TypeError, "port.*int.*str"),  # type: ignore[arg-type]
    "open bytes": (lambda _: Socket(b"::"), TypeError, "address.*str.*bytes"),  # type: ignore[arg-type]
    "connect to a number": (lambda _: Socket(peer=5), TypeError, "peer.*host, port.*Endpoint"),  # type: ignore[arg-type]
    "a buffer of letters": (lambda _: Socket(send_buffer="1"), TypeError, "buffer.*int.*str"),  # type: ignore[arg-type]
    "send to a port too large": (lambda s: s.send(b"", ("::1", 70_000)), ValueError, "70000.*65535"),
    "send to a port of letters": (lambda s: s.send(b"", ("::1", "9")), TypeError, "port.*int.*str"),  # type: ignore[arg-type]
    "send to an address of bytes": (lambda s: s.send(b"", (b"::1", 9)), TypeError, "address.*str.*bytes"),  # type: ignore[arg-type]
    "send to a host": (lambda s: s.send(b"", "::1"), TypeError, "peer.*host, port.*Endpoint"),  # type: ignore[arg-type]
    "send text": (lambda s: s.send("text", HERE), TypeError, "bytes.*str"),  # type: ignore[arg-type]
    "send many texts": (lambda s: s.send_many([("text", HERE)]), TypeError, "bytes.*str"),  # type: ignore[list-item]
    "send many numbers": (lambda s: s.send_many([5]), TypeError, r"pair \(data, peer\)"),  # type: ignore[list-item]
    "send IPv6 from IPv4": (lambda s: s.send(b"", ("::1", 9)), NetworkError, r"IPv4.*\[::1\]:9"),
}


@pytest.mark.parametrize(("call", "raised", "says"), UNCLEAR.values(), ids=UNCLEAR.keys())
def test_a_refusal_says_what_is_expected(
    call: Callable[[Socket], Any], raised: type[Exception], says: str
) -> None:
    with Socket("127.0.0.1") as opened, pytest.raises(raised, match=says) as refusal:
        call(opened)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("loopback", ["127.0.0.1", "::1"])
def test_a_port_in_use_is_named(opener: Opener, loopback: str) -> None:
    port = opener(loopback).port
    with pytest.raises(OSError, match=f"{loopback}.*{port}") as refusal:
        opener(loopback, port)
    assert refusal.value.errno == errno.EADDRINUSE
