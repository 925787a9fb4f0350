"""udpkit.sockets.AsyncSocket in the event loops: cancellation, several tasks, closing, full buffers."""

from __future__ import annotations

import errno
import functools
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from udpkit.sockets import AsyncSocket, Refused

from .conftest import LOOPS, Stage, open_on
from .test_corners import Dam, is_full
from .test_loopback import plain_socket

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine function in one of the event loops; it may take half a minute."""

    def run_in_time(main: Callable[[], Awaitable[Any]]) -> Any:
        async def in_time() -> Any:
            with anyio.fail_after(25):
                return await main()

        return anyio.run(in_time, **LOOPS[request.param])

    return run_in_time


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with plain_socket("127.0.0.1") as client:
        yield client


def closed_port() -> tuple[str, int]:
    with plain_socket("127.0.0.1") as gone:
        gone.bind(("127.0.0.1", 0))
        return gone.getsockname()


async def turn() -> None:
    """Let every other task run until it waits."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


def test_an_iteration_serves(run: Run) -> None:
    async def main() -> None:
        async with await AsyncSocket.open() as server, await AsyncSocket.open() as client:

            async def serve() -> None:
                async for request in server:
                    assert await server.reply(request, request.data)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve)
                for number in range(100):
                    asked = ("127.0.0.1", "::1", "127.0.0.2")[number % 3]
                    await client.send(str(number).encode(), (asked, server.port))
                    answer = await client.recv()
                    assert (answer.data, str(answer.peer.address)) == (str(number).encode(), asked)
                await server.aclose()

    run(main)


TAKES: dict[str, Callable[[AsyncSocket], Awaitable[list[Any]]]] = {}


def take(way: Callable[[AsyncSocket], Awaitable[list[Any]]]) -> Any:
    TAKES[way.__name__] = way
    return way


@take
async def recv(server: AsyncSocket) -> list[Any]:
    return [await server.recv()]


@take
async def recv_many(server: AsyncSocket) -> list[Any]:
    return await server.recv_many(3)


@take
async def iteration(server: AsyncSocket) -> list[Any]:
    async for datagram in server:
        return [datagram]
    return []


EVERY_TAKE = pytest.mark.parametrize("taking", TAKES.values(), ids=TAKES.keys())


@EVERY_TAKE
@pytest.mark.parametrize("takers", [1, 4])
def test_cancelled_again_and_again_every_datagram_arrives_once(
    run: Run, client: socket.socket, taking: Callable[[AsyncSocket], Awaitable[list[Any]]], takers: int
) -> None:
    count = 2000
    received: list[int] = []
    cancelled = 0

    async def main() -> None:
        async with await AsyncSocket.open("127.0.0.1", receive_buffer=1 << 20) as server:

            async def take_some() -> None:
                nonlocal cancelled
                while len(received) < count:
                    with anyio.CancelScope() as scope:
                        scopes.append(scope)
                        received.extend(int(datagram.data) for datagram in await taking(server))
                    cancelled += scope.cancelled_caught

            scopes: list[anyio.CancelScope] = []
            async with anyio.create_task_group() as tasks:
                for _ in range(takers):
                    tasks.start_soon(take_some)
                sent = turns = 0
                while len(received) < count:
                    turns += 1
                    if sent < count:
                        client.sendto(str(sent).encode(), ("127.0.0.1", server.port))
                        sent += 1
                    for _ in range(1 + turns % 11):  # at every moment of a call, and after it
                        await anyio.lowlevel.checkpoint()
                    while scopes:
                        scopes.pop().cancel()
                tasks.cancel_scope.cancel()
            assert server.dropped == 0

    run(main)
    assert cancelled > 100
    assert sorted(received) == list(range(count))
    if takers == 1:
        assert received == list(range(count))


def test_a_task_that_was_cancelled_while_it_waited_leaves_the_next_datagram_to_others(
    run: Run, client: socket.socket
) -> None:
    async def main() -> None:
        async with await AsyncSocket.open("127.0.0.1") as server:
            for number in range(20):
                with anyio.move_on_after(0.001) as scope:
                    await server.recv()
                assert scope.cancelled_caught
                client.sendto(str(number).encode(), ("127.0.0.1", server.port))
                assert (await server.recv()).data == str(number).encode()

    run(main)


@EVERY_TAKE
def test_several_tasks_receive_each_datagram_once(
    run: Run, client: socket.socket, taking: Callable[[AsyncSocket], Awaitable[list[Any]]]
) -> None:
    received: list[int] = []
    count = 300

    async def main() -> None:
        async with await AsyncSocket.open("127.0.0.1") as server, anyio.create_task_group() as tasks:

            async def take_all() -> None:
                while len(received) < count:
                    received.extend(int(datagram.data) for datagram in await taking(server))
                tasks.cancel_scope.cancel()

            for _ in range(5):
                tasks.start_soon(take_all)
            for number in range(count):
                client.sendto(str(number).encode(), ("127.0.0.1", server.port))
                if number % 7 == 0:
                    await turn()

    run(main)
    assert sorted(received) == list(range(count))


@pytest.mark.parametrize("tasks_waiting", [1, 3])
def test_closing_ends_whatever_waits(run: Run, tasks_waiting: int) -> None:
    ended = []

    async def main() -> None:
        server = await AsyncSocket.open("127.0.0.1")

        async def wait(call: Callable[[], Awaitable[Any]]) -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await call()
            ended.append("closed")

        async def iterate() -> None:
            async for _ in server:
                pass
            ended.append("over")

        async with anyio.create_task_group() as tasks:
            for _ in range(tasks_waiting):
                tasks.start_soon(wait, server.recv)
                tasks.start_soon(wait, server.recv_many)
                tasks.start_soon(iterate)
            await turn()
            await server.aclose()
            await server.aclose()
        for call in (server.recv, server.recv_many, functools.partial(server.send, b"", ("127.0.0.1", 9))):
            with pytest.raises(anyio.ClosedResourceError):
                await call()
        with pytest.raises(OSError) as closed:  # noqa: PT011 - the errno says it
            server.errors()
        assert closed.value.errno == errno.EBADF

    run(main)
    assert sorted(ended) == ["closed"] * 2 * tasks_waiting + ["over"] * tasks_waiting


def test_once_closed_it_gives_nothing_not_even_what_it_had(run: Run, client: socket.socket) -> None:
    async def main() -> None:
        server = await AsyncSocket.open("127.0.0.1")
        for _ in range(3):
            client.sendto(b"ping", ("127.0.0.1", server.port))
        await server.recv()
        await server.aclose()
        for call in (server.recv, server.recv_many):
            with pytest.raises(anyio.ClosedResourceError):
                await call()

    run(main)


def test_closing_ends_who_waits_for_room_to_send(run: Run, stage: Stage) -> None:
    dam = Dam(stage, 4)

    async def main() -> None:
        sender = open_on(stage.server, lambda: AsyncSocket(send_buffer=0))
        async with anyio.create_task_group() as tasks:

            async def send() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await sender.send_many([(b"x", dam.peer)] * 10_000)

            for _ in range(3):
                tasks.start_soon(send)
            while not is_full(sender):
                await anyio.lowlevel.checkpoint()
            await turn()
            await sender.aclose()

    with dam.behind:
        run(main)


def test_while_one_task_waits_for_room_others_receive_and_a_cancelled_one_has_sent_a_beginning(
    run: Run, stage: Stage
) -> None:
    dam = Dam(stage, 4)
    data = [str(number).encode() for number in range(10_000)]

    async def main() -> int:
        async with open_on(stage.server, lambda: AsyncSocket(send_buffer=0)) as sender:
            async with anyio.create_task_group() as tasks:

                async def send() -> None:
                    await sender.send_many((one, dam.peer) for one in data)

                tasks.start_soon(send)
                while not is_full(sender):
                    await anyio.lowlevel.checkpoint()
                with stage.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.sendto(b"meanwhile", ("192.0.2.1", sender.port))
                    assert (await sender.recv()).data == b"meanwhile"
                tasks.cancel_scope.cancel()
            await anyio.to_thread.run_sync(dam.open)
            await sender.send(b"the end", dam.peer)
            arrived = []
            while not arrived or arrived[-1] != b"the end":
                arrived.append(await anyio.to_thread.run_sync(dam.behind.recv, 100))
            return arrived[:-1]

    with dam.behind:
        arrived = run(main)
    assert arrived
    assert arrived == data[: len(arrived)]


# Errors.

WINDOW = 0.3
"""Seconds during which waiting tasks are watched."""


@pytest.mark.parametrize("wait", ["recv", "recv_many", "iteration"])
def test_an_error_report_makes_nobody_spin(run: Run, wait: str) -> None:
    """Not even who never asks for reports: each of them ends at most one wait."""
    turns = 0

    async def main() -> float:
        async with await AsyncSocket.open("127.0.0.1") as server, anyio.create_task_group() as tasks:

            async def go_on() -> None:
                nonlocal turns
                while True:
                    await TAKES[wait](server)
                    turns += 1

            tasks.start_soon(go_on)
            await turn()
            for _ in range(3):
                await server.send(b"is there anybody?", closed_port())
            before = time.process_time()
            await anyio.sleep(WINDOW)
            seconds = time.process_time() - before
            tasks.cancel_scope.cancel()
            assert [report.errno for report in server.errors()] == [errno.ECONNREFUSED] * 3
            return seconds

    assert run(main) < WINDOW / 2
    assert turns <= 3


def test_recv_many_tells_of_a_report_by_ending(run: Run) -> None:
    async def main() -> None:
        async with await AsyncSocket.open("127.0.0.1") as server, anyio.create_task_group() as tasks:
            heard = []

            async def listen() -> None:
                heard.append(await server.recv_many())
                heard.extend(report.kind for report in server.errors())
                tasks.cancel_scope.cancel()

            tasks.start_soon(listen)
            await turn()
            await server.send(b"is there anybody?", closed_port())
            await anyio.sleep_forever()
        assert heard == [[], "port unreachable"]

    run(main)


@pytest.mark.parametrize("wait", ["recv", "iteration"])
def test_a_connected_client_is_told_and_goes_on(run: Run, client: socket.socket, wait: str) -> None:
    address = closed_port()

    async def main() -> None:
        async with await AsyncSocket.open(peer=address) as connected:
            await connected.send(b"is there anybody?")
            with pytest.raises(Refused) as refusal:
                await TAKES[wait](connected)
            assert refusal.value.report.peer == connected.peer
            client.bind(address)
            await connected.send(b"and now?")
            client.sendto(*client.recvfrom(100))
            [answer] = await TAKES[wait](connected)
            assert answer.data == b"and now?"

    run(main)
