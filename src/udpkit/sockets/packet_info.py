"""Drop-ins for programs on `socket` or `socketserver`: recvfrom() gives addresses that know the way back."""

from __future__ import annotations

import errno
import operator
import socket
from typing import Any

from udpkit._native import Channel, Path
from udpkit.facts import Address
from udpkit.sockets.errors import too_late
from udpkit.sockets.opening import LARGEST, tell


class PeerAddress(tuple[Any, ...]):
    """A peer's `(host, port)`, in IPv6 `(host, port, flowinfo, scope_id)`, as socket.recvfrom() gives it.

    Beyond that it remembers which of this host's addresses was asked: sendto() of a drop-in answers from
    there. It equals the plain tuple, and a plain tuple works in its place: the route then chooses the
    source.
    """

    _path: Path

    def __new__(cls, fields: tuple[Any, ...], path: Path) -> PeerAddress:
        """Made by drop-ins."""
        self = super().__new__(cls, fields)
        self._path = path
        return self

    @property
    def local(self) -> Address | None:
        """The address that was asked; None if the kernel did not say."""
        return self._path.local

    def __copy__(self) -> PeerAddress:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> PeerAddress:
        return self

    def __reduce__(self) -> tuple[type[tuple[Any, ...]], tuple[tuple[Any, ...]]]:
        """Another process gets the plain tuple."""
        return tuple, (tuple(self),)


class PacketInfoSocket(socket.socket):
    """A `socket.socket` for UDP whose sendto() answers a peer from the address that the peer asked.

    One line makes a program right: `socket.socket(socket.AF_INET, socket.SOCK_DGRAM)` becomes
    `udpkit.PacketInfoSocket(socket.AF_INET, socket.SOCK_DGRAM)`, as long as the address that recvfrom() or
    recvfrom_into() gave goes back into sendto(). Everything else is as in `socket.socket`; errors, too: they
    are not reported to a socket that did not ask for them. A program that reads the error queue itself, or
    uses recvmsg(), has no use for it.
    """

    def __init__(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_DGRAM,  # noqa: A002 - its name in socket.socket
        proto: int = 0,
        fileno: int | None = None,
    ) -> None:
        """As socket.socket(), but for UDP over IPv4 or IPv6. Raises ValueError for anything else."""
        if fileno is None:
            super().__init__(family, type, proto)
        else:
            super().__init__(fileno=fileno)
        try:
            if self.type != socket.SOCK_DGRAM or self.family not in (socket.AF_INET, socket.AF_INET6):
                raise ValueError(f"not a UDP socket: {self!r}")
            tell(self)
            ipv6 = self.family == socket.AF_INET6
            self._channel = Channel(
                ipv6=ipv6, port=0, connected_to=None, raises=True, batch=1, largest=LARGEST, gso=False
            )
        except BaseException:
            if fileno is None:
                self.close()
            else:
                self.detach()
            raise

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, PeerAddress | None]:
        """As socket.recvfrom(); the address is a PeerAddress, and None after shutdown()."""
        size = operator.index(bufsize)
        if size < 0:
            raise ValueError("negative buffersize in recvfrom")
        timeout = self._timeout(flags)
        try:
            received = self._channel.recv_from(self, 1, timeout, True, flags)
        except OSError as error:
            if error.errno != errno.ESHUTDOWN:
                raise
            return b"", None
        if not received:
            raise too_late(timeout)
        [(data, address)] = received
        return data[:size], address

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, PeerAddress | None]:
        """As socket.recvfrom_into(); the address is a PeerAddress."""
        view = memoryview(buffer).cast("B")
        if view.readonly:
            raise TypeError("recvfrom_into() needs a read-write bytes-like object")
        if not 0 <= nbytes <= len(view):
            raise ValueError("nbytes is negative, or greater than the length of the buffer")
        data, address = self.recvfrom(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data), address

    def sendto(self, data: Any, *flags_and_address: Any) -> int:
        """As socket.sendto(): from the address that was asked, if the address is one of recvfrom()."""
        [*flags, address] = flags_and_address or [None]
        if not isinstance(address, PeerAddress) or len(flags) > 1:
            return super().sendto(data, *flags_and_address)
        timeout = self._timeout(*flags)
        if not self._channel.send(self, data, address, timeout, *flags):
            raise too_late(timeout)
        return memoryview(data).nbytes

    def _timeout(self, flags: int = 0) -> float | None:
        return 0 if flags & socket.MSG_DONTWAIT else self.gettimeout()


class PacketInfoMixIn:
    """Makes a `socketserver.UDPServer` answer from the address that was asked.

    `class Server(udpkit.PacketInfoMixIn, socketserver.ThreadingUDPServer): ...`; handlers stay as they are.
    """

    socket: socket.socket
    """The server's; a PacketInfoSocket once it is bound."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Raises TypeError if the server comes first: its own server_bind() would be called."""
        super().__init_subclass__(**options)
        before = cls.__mro__[: cls.__mro__.index(PacketInfoMixIn)]
        if any("server_bind" in vars(base) for base in before if base.__module__ == "socketserver"):
            raise TypeError(f"class {cls.__name__}: PacketInfoMixIn has to stand before the server class")

    def server_bind(self) -> None:
        """Take over the socket that the server has made, and bind it."""
        plain = self.socket
        self.socket = PacketInfoSocket(fileno=plain.fileno())
        plain.detach()
        super().server_bind()  # type: ignore[misc]
