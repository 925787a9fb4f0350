"""The socket for async programs: asyncio, uvloop among it, and trio."""

from __future__ import annotations

import functools
import select
import socket
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint

from udpkit._native import Datagram
from udpkit.facts import Address
from udpkit.sockets.common import Common, Data
from udpkit.sockets.opening import Options, Peer
from udpkit.sockets.readiness import readable, writable

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AsyncSocket(Common):
    """`Socket` with the same words, to be awaited; a datagram at a time when iterated over.

    >>> async def serve():
    ...     async with await AsyncSocket.open("0.0.0.0", 5300) as server:
    ...         async for request in server:
    ...             await server.reply(request, request.data)

    Datagrams are taken from the kernel in batches; a batch lets other tasks run once. Whoever is cancelled
    while receiving has taken nothing: the datagram is there for the next call. Several tasks may receive;
    each gets datagrams of its own. When nobody receives, the kernel's buffer fills and then drops, and
    `dropped` counts.
    """

    def __init__(self, address: str | Address = "", port: int = 0, **options: Unpack[Options]) -> None:
        """As `Socket`, but for the timeout. A name is looked up here and now: `open` does it in a thread."""
        super().__init__(address, port, **options)
        self._readable = readable(self._socket)
        self._writable: select.epoll | None = None
        self._received: deque[Datagram] = deque()
        # Every wait below is a checkpoint of its own.
        self._receiving = anyio.Lock(fast_acquire=True)
        self._sending = anyio.Lock(fast_acquire=True)

    @classmethod
    async def open(
        cls, address: str | Address = "", port: int = 0, **options: Unpack[Options]
    ) -> AsyncSocket:
        """The same without blocking, names included."""
        return await anyio.to_thread.run_sync(functools.partial(cls, address, port, **options))

    async def recv(self) -> Datagram:
        """Wait for a datagram. Raises as Socket.recv(), and anyio.ClosedResourceError once it is closed."""
        while not self._received:
            await self._fill(patient=True)
        return self._received.popleft()

    async def recv_many(self, maximum: int | None = None) -> list[Datagram]:
        """Wait for datagrams, and take those that are there: at most `maximum`, a batch by default.

        Empty when an error report came instead: see `errors`.
        """
        wanted = self._wanted(maximum)
        if wanted and not self._received:
            await self._fill(patient=False)
            if not self._received:
                self._heard = self._channel.reported
        return [self._received.popleft() for _ in range(min(wanted, len(self._received)))]

    async def _fill(self, *, patient: bool) -> None:
        """Wait until something was received; unless `patient`, until there is an error report, too."""
        async with self._receiving:
            await checkpoint()
            while not self._received:  # another task may have filled it meanwhile
                self._received += self._channel.recv_many(self._open(), self._batch, 0, patient)
                if self._received or (not patient and self._is_news()):
                    return
                await anyio.wait_readable(self._readable)

    async def reply(self, request: Datagram, data: Data) -> bool:
        """Answer from the address that was asked: Socket.reply(). Waits while the send buffer is full."""
        while (taken := self._channel.reply(self._open(), request, data, 0)) is None:
            await self._wait_for_room()
        return taken

    async def reply_many(self, answers: Iterable[tuple[Datagram, Data]]) -> None:
        """Answer many, in their order: Socket.reply_many(). Waits while the send buffer is full."""
        await self._all(self._channel.reply_many, list(answers))

    async def send(self, data: Data, peer: Peer | None = None) -> None:
        """Send a datagram: Socket.send(). Waits while the send buffer is full."""
        await checkpoint()
        while not self._channel.send(self._open(), data, peer, 0):
            await self._wait_for_room()

    async def send_many(self, datagrams: Iterable[tuple[Data, Peer | None]]) -> None:
        """Send many, in their order: Socket.send_many(). Waits while the send buffer is full."""
        await checkpoint()
        await self._all(self._channel.send_many, list(datagrams))

    async def _all(self, send: Callable[[socket.socket, list[Any], float], int], pairs: list[Any]) -> None:
        while (done := send(self._open(), pairs, 0)) < len(pairs):
            del pairs[:done]
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        async with self._sending:
            self._open()
            self._writable = self._writable or writable(self._socket)
            await anyio.wait_readable(self._writable)

    def _open(self) -> socket.socket:
        if self._socket.fileno() < 0:
            raise anyio.ClosedResourceError
        return self._socket

    async def aclose(self) -> None:
        """Close it. Whoever waits on it gets anyio.ClosedResourceError; an iteration ends."""
        if self._socket.fileno() >= 0:
            for watch in (self._readable, self._writable):
                if watch:
                    anyio.notify_closing(watch)
                    watch.close()
            self._socket.close()
            self._received.clear()
        await checkpoint()

    def __aiter__(self) -> AsyncSocket:
        return self

    async def __anext__(self) -> Datagram:
        try:
            return await self.recv()
        except anyio.ClosedResourceError:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> AsyncSocket:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
