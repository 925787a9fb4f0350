"""One echo server in each flavour that udpkit has: `flavours.py FLAVOUR ADDRESS PORT [slowly]`.

An empty address is dual-stack, `::` takes IPv6 only. Each says so once it can be asked. `stock` is what the
others would be without udpkit.
"""

from __future__ import annotations

import asyncio
import os
import socket
import socketserver
import struct
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio

from udpkit.sockets import AsyncSocket, PacketInfoMixIn, PacketInfoSocket, Socket, create_datagram_endpoint

GROUP, GROUP6 = "239.1.2.3", "ff15::7"


def ready(sock: Any) -> None:
    """Join the groups of its families on eth0, and say so."""
    index = socket.if_nametoindex("eth0")
    is_ipv4 = sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_INET
    if is_ipv4 or not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        membership = struct.pack("=4s4xi", socket.inet_aton(GROUP), index)  # struct ip_mreqn, ip(7)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    if not is_ipv4:
        membership = struct.pack("=16si", socket.inet_pton(socket.AF_INET6, GROUP6), index)  # ipv6(7)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    os.write(1, b"ready\n")


def one_by_one(address: str, port: int) -> None:
    with Socket(address, port, v6only=address == "::") as server:
        ready(server)
        while True:
            request = server.recv()
            server.reply(request, request.data)


def in_batches(address: str, port: int) -> None:
    with Socket(address, port, v6only=address == "::") as server:
        ready(server)
        while True:
            server.reply_many([(request, request.data) for request in server.recv_many()])


async def awaited(address: str, port: int) -> None:
    async with await AsyncSocket.open(address, port, v6only=address == "::") as server:
        ready(server)
        async for request in server:
            await server.reply(request, request.data)


async def awaited_in_batches(address: str, port: int) -> None:
    async with await AsyncSocket.open(address, port, v6only=address == "::") as server:
        ready(server)
        while True:
            await server.reply_many([(request, request.data) for request in await server.recv_many()])


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def drop_in(address: str, port: int) -> None:
    if address == "::":  # asyncio has no word for it either
        transport, _ = await create_datagram_endpoint(Echo, sock=bound(socket.socket, address, port))
    else:
        transport, _ = await create_datagram_endpoint(Echo, local_addr=(address or "::", port))
    ready(transport.get_extra_info("socket"))
    try:
        await anyio.sleep_forever()
    finally:
        transport.close()


def plain_socket(kind: type[socket.socket], address: str, port: int) -> None:
    with bound(kind, address, port) as server:
        ready(server)
        while True:
            server.sendto(*server.recvfrom(65535))


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data, self.client_address)


def server_class(address: str, port: int) -> None:
    class Server(PacketInfoMixIn, socketserver.ThreadingUDPServer):
        address_family = family(address)

        def server_bind(self) -> None:
            configure(self.socket, address)
            super().server_bind()

    with Server((address or "::", port), Handler) as server:
        ready(server.socket)
        server.serve_forever()


def bound(kind: type[socket.socket], address: str, port: int) -> socket.socket:
    sock = kind(family(address), socket.SOCK_DGRAM)
    configure(sock, address)
    sock.bind((address or "::", port))
    return sock


def family(address: str) -> int:
    return socket.AF_INET if "." in address else socket.AF_INET6


def configure(sock: socket.socket, address: str) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address == "::")


def run(server: Callable[..., Awaitable[None]], backend: str, address: str, port: int) -> None:
    uvloop = {"use_uvloop": True} if backend == "uvloop" else {}
    anyio.run(
        server, address, port, backend="trio" if backend == "trio" else "asyncio", backend_options=uvloop
    )


FLAVOURS: dict[str, Callable[[str, int], None]] = {
    "sync": one_by_one,
    "sync-batches": in_batches,
    "asyncio": partial(run, awaited, "asyncio"),
    "asyncio-batches": partial(run, awaited_in_batches, "asyncio"),
    "uvloop": partial(run, awaited, "uvloop"),
    "trio": partial(run, awaited, "trio"),
    "drop-in": partial(run, drop_in, "asyncio"),
    "drop-in-uvloop": partial(run, drop_in, "uvloop"),
    "PacketInfoSocket": partial(plain_socket, PacketInfoSocket),
    "socketserver": server_class,
}
STOCK = {"stock": partial(plain_socket, socket.socket)}


def bind_slowly(sock: socket.socket, address: Any, bind: Callable[..., None] = socket.socket.bind) -> None:
    bind(sock, address)
    os.write(1, b"bound\n")
    sys.stdin.readline()


if __name__ == "__main__":
    flavour, address, port, *slowly = sys.argv[1:]
    if slowly:
        socket.socket.bind = bind_slowly  # type: ignore[method-assign]
    {**FLAVOURS, **STOCK}[flavour](address, int(port))
