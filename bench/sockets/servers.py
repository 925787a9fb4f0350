"""The echo servers that are measured: `python servers.py NAME` prints its port and serves until it is killed.

All of them do the same: bind every IPv4 address, take a large receive buffer, send each datagram back.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn

EVERY = "0.0.0.0"  # noqa: S104  the answer's source address is only a question on a wildcard socket
BUFFER = 1 << 20
"""Bytes of receive buffer: a full window must fit, whatever the kernel counts for it. As in echo.c."""

Main = Callable[[], Coroutine[Any, Any, None]]


def announce(port: int) -> None:
    print(port, flush=True)


# Loops: how `main` is run.


def on_asyncio(main: Main) -> None:
    asyncio.run(main())


def on_uvloop(main: Main) -> None:
    import uvloop

    uvloop.run(main())


def on_trio(main: Main) -> None:
    import trio

    trio.run(main)


# The Python servers udpkit is compared with.


def recvmsg() -> NoReturn:
    """What one writes by hand to answer from the address asked: IP_PKTINFO, one datagram per call."""
    ip_pktinfo = 8  # in `socket` as of Python 3.14 only
    pktinfo = struct.Struct("=I4s4s")  # ipi_ifindex, ipi_spec_dst, ipi_addr
    space = socket.CMSG_SPACE(pktinfo.size)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        server.setsockopt(socket.IPPROTO_IP, ip_pktinfo, 1)
        server.bind((EVERY, 0))
        announce(server.getsockname()[1])
        while True:
            data, [(level, kind, info)], _, peer = server.recvmsg(2048, space)
            source = pktinfo.pack(0, info[4:8], bytes(4))
            server.sendmsg([data], [(level, kind, source)], 0, peer)


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer: Any) -> None:
        self.transport.sendto(data, peer)


async def serve_protocol(create_datagram_endpoint: Callable[..., Awaitable[Any]]) -> None:
    transport, _ = await create_datagram_endpoint(Echo, local_addr=(EVERY, 0))
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    announce(transport.get_extra_info("sockname")[1])
    await asyncio.Event().wait()


async def loops_own_endpoint() -> None:
    await serve_protocol(asyncio.get_running_loop().create_datagram_endpoint)


# udpkit's.


async def drop_in() -> None:
    from udpkit import create_datagram_endpoint

    await serve_protocol(create_datagram_endpoint)


async def iterator() -> None:
    from udpkit import AsyncSocket

    async with await AsyncSocket.open(EVERY, receive_buffer=BUFFER) as server:
        announce(server.port)
        async for request in server:
            await server.reply(request, request.data)


def batches() -> NoReturn:
    from udpkit import Socket

    with Socket(EVERY, receive_buffer=BUFFER) as server:
        announce(server.port)
        while True:
            server.reply_many([(request, request.data) for request in server.recv_many()])


def singly() -> NoReturn:
    from udpkit import Socket

    with Socket(EVERY, receive_buffer=BUFFER) as server:
        announce(server.port)
        while True:
            request = server.recv()
            server.reply(request, request.data)


SERVERS: dict[str, Callable[[], object]] = {
    "recvmsg": recvmsg,
    "asyncio": lambda: on_asyncio(loops_own_endpoint),
    "uvloop": lambda: on_uvloop(loops_own_endpoint),
    "batches": batches,
    "singly": singly,
    "drop-in-asyncio": lambda: on_asyncio(drop_in),
    "drop-in-uvloop": lambda: on_uvloop(drop_in),
    "iterator-asyncio": lambda: on_asyncio(iterator),
    "iterator-uvloop": lambda: on_uvloop(iterator),
    "iterator-trio": lambda: on_trio(iterator),
}


if __name__ == "__main__":
    try:
        SERVERS[sys.argv[1]]()
    except ImportError as error:
        sys.exit(f"cannot run: {error}")
