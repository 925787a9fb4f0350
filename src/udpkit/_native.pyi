"""The Rust core of udpkit: captures, batches of datagrams, and namespaces of the calling thread."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from socket import socket as _Socket  # noqa: N812 - the module's parameters are called socket
from typing import Any, Final, Literal, final

from udpkit.facts import Endpoint
from udpkit.sockets.packet_info import PeerAddress

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "Channel",
    "Datagram",
    "Path",
    "PcapDatagram",
    "PcapFile",
    "PcapIcmpError",
    "QueuedError",
    "Quoted",
    "read_pcap",
    "setns",
    "unshare",
]

CLONE_NEWNET: Final[int]
"""A network namespace: network_namespaces(7)."""
CLONE_NEWNS: Final[int]
"""A mount namespace: mount_namespaces(7)."""
CLONE_NEWPID: Final[int]
"""A PID namespace, for the children to come: pid_namespaces(7)."""
CLONE_NEWUSER: Final[int]
"""A user namespace: user_namespaces(7)."""

def read_pcap(data: bytes, /) -> PcapFile:
    """Read a pcap file: both byte orders, micro- and nanoseconds (draft-ietf-opsawg-pcap).

    Other Python threads run meanwhile. A damaged file is read up to the damage, and ``PcapFile.damage`` says
    so.

    Raises ``ValueError`` with one line if ``data`` is not a pcap file at all.
    """

@final
class PcapFile:
    """What a pcap file says about UDP. ``packets == len(datagrams) + len(icmp_errors) + skipped``."""

    @property
    def packets(self) -> int:
        """Records read."""
    @property
    def datagrams(self) -> list[PcapDatagram]:
        """UDP datagrams, in the file's order."""
    @property
    def icmp_errors(self) -> list[PcapIcmpError]:
        """ICMP errors about UDP datagrams, in the file's order."""
    @property
    def skipped(self) -> int:
        """Records that are neither: other protocols and link types, later fragments, headers that are cut."""
    @property
    def damage(self) -> str | None:
        """Where and why reading stopped before the end of the file, if it did."""

@final
class PcapDatagram:
    """A captured UDP datagram, or its first fragment (RFC 768)."""

    @property
    def packet(self) -> int:
        """Number of the record in the file, from 1."""
    @property
    def time_ns(self) -> int:
        """Nanoseconds since the epoch."""
    @property
    def source(self) -> IPv4Address | IPv6Address:
        """Who sent it."""
    @property
    def source_port(self) -> int:
        """From which port."""
    @property
    def destination(self) -> IPv4Address | IPv6Address:
        """To whom."""
    @property
    def destination_port(self) -> int:
        """To which port."""
    @property
    def length(self) -> int:
        """Bytes of payload, as the UDP header has it."""
    @property
    def payload(self) -> bytes:
        """What was captured of the payload: at most ``length`` bytes, fewer when fragmented or cut."""

@final
class PcapIcmpError:
    """A captured ICMP error about a UDP datagram (RFC 792, RFC 4443)."""

    @property
    def packet(self) -> int:
        """Number of the record in the file, from 1."""
    @property
    def time_ns(self) -> int:
        """Nanoseconds since the epoch."""
    @property
    def sender(self) -> IPv4Address | IPv6Address:
        """Who sent the error: a router on the way, or the host itself."""
    @property
    def receiver(self) -> IPv4Address | IPv6Address:
        """To whom."""
    @property
    def icmp_type(self) -> int:
        """ICMP type if ``sender`` is an IPv4 address, ICMPv6 type if it is an IPv6 address."""
    @property
    def code(self) -> int:
        """The code within the type."""
    @property
    def mtu(self) -> int | None:
        """Next-hop MTU in bytes, if the datagram was too big and the router named one (RFC 1191, 4443)."""
    @property
    def quoted(self) -> Quoted | None:
        """The datagram in error; ``None`` when too little of it was quoted or captured to know its ports."""

@final
class Quoted:
    """The UDP datagram that an ICMP error quotes."""

    @property
    def source(self) -> IPv4Address | IPv6Address:
        """Who sent the datagram."""
    @property
    def source_port(self) -> int:
        """From which port."""
    @property
    def destination(self) -> IPv4Address | IPv6Address:
        """To whom."""
    @property
    def destination_port(self) -> int:
        """To which port."""
    @property
    def length(self) -> int | None:
        """Bytes of its payload; ``None`` when the quote does not reach that far or holds no valid length."""

@final
class Datagram:
    """A datagram as it was received. What the kernel was not asked for, or does not say, is None."""

    @property
    def data(self) -> bytes:
        """The payload."""
    @property
    def peer(self) -> Endpoint:
        """Who sent it. A link-local address has the interface's index as its scope."""
    @property
    def local(self) -> Endpoint:
        """The endpoint that an answer should come from: the one that was asked or, for a broadcast or IPv4
        multicast datagram, this host's own address on that network (``ipi_spec_dst``, ip(7)).

        For an IPv6 multicast datagram its address is ``::``: the route chooses (RFC 3542, 6.2).
        """
    @property
    def destination(self) -> Endpoint:
        """The destination in its header: ``local``, or a broadcast or multicast address."""
    @property
    def interface(self) -> int:
        """Index of the interface that received it: socket.if_indextoname()."""
    @property
    def tos(self) -> int | None:
        """Type of service or traffic class, 0 to 255 (RFC 2474)."""
    @property
    def ecn(self) -> int | None:
        """Its lowest two bits, explicit congestion notification: 0 not used, 1 and 2 capable, 3 congestion
        was met (RFC 3168)."""
    @property
    def ttl(self) -> int | None:
        """Time to live or hop limit on arrival."""
    @property
    def time_ns(self) -> int | None:
        """When the kernel received it, nanoseconds since the epoch; with ``timestamps=True``."""
    @property
    def truncated(self) -> bool:
        """Whether it was longer than there was room for: ``data`` is its beginning."""

@final
class Path:
    """What an answer needs to know of a request."""

    @property
    def local(self) -> IPv4Address | IPv6Address | None:
        """The address that was asked; None if the kernel did not say."""

@final
class QueuedError:
    """An error as the kernel reported it: ``struct sock_extended_err`` (ip(7)), or what a call returned."""

    @property
    def errno(self) -> int:
        """``ee_errno``."""
    @property
    def origin(self) -> Literal["local", "icmp", "icmp6"]:
        """``ee_origin``."""
    @property
    def icmp_type(self) -> int:
        """``ee_type``; 0 if local."""
    @property
    def code(self) -> int:
        """``ee_code``; 0 if local."""
    @property
    def peer(self) -> Endpoint | None:
        """To whom the datagram was to go."""
    @property
    def local(self) -> IPv4Address | IPv6Address | None:
        """From which address."""
    @property
    def offender(self) -> IPv4Address | IPv6Address | None:
        """``SO_EE_OFFENDER``: who sent the ICMP message."""
    @property
    def mtu(self) -> int | None:
        """Bytes, if the datagram was too big."""
    @property
    def stale(self) -> bool:
        """The datagram was sent, but not from ``local``, which the host has lost."""
    @property
    def quoted(self) -> bytes:
        """The first bytes of the datagram's payload."""

@final
class Channel:
    """Datagrams in batches over a UDP socket, which each call is given.

    Other Python threads run during every system call, and may use the same channel. ``timeout`` is in
    seconds: None waits for ever, 0 not at all. Every call raises OSError with ``EBADF`` once the socket
    is closed, and KeyboardInterrupt or what else a signal handler raises.
    """

    def __new__(
        cls,
        *,
        ipv6: bool,
        port: int,
        connected_to: tuple[Any, ...] | None,
        raises: bool,
        batch: int,
        largest: int,
        gso: bool,
    ) -> Channel:
        """For a socket of this family, local port and peer; ``batch`` datagrams of ``largest`` bytes at once.

        With ``raises`` an earlier datagram's error is raised by ``send`` and patient calls; without, kept.

        Raises ValueError if there is no room for that.
        """
    def recv(self, socket: _Socket, timeout: float | None, /) -> Datagram | None:
        """One datagram, whatever is reported meanwhile; None if none came in time.

        Raises ``udpkit.TruncatedControl``, and ``udpkit.NetworkError`` if the channel ``raises``.
        """
    def recv_many(
        self, socket: _Socket, maximum: int, timeout: float | None, patient: bool, /
    ) -> list[Datagram]:
        """The datagrams that are there, or the first to come; at most a batch.

        Unless ``patient``, an error report ends the wait, too. Raises as ``recv``; ``NetworkError`` only if
        ``patient``.
        """
    def recv_from(
        self, socket: _Socket, maximum: int, timeout: float | None, patient: bool, flags: int = 0, /
    ) -> list[tuple[bytes, PeerAddress]]:
        """The same as payloads with the addresses that answers can be sent to. ``flags`` as recvmsg(2)."""
    def reply(
        self,
        socket: _Socket,
        request: Datagram,
        data: bytes | bytearray | memoryview,
        timeout: float | None,
        /,
    ) -> bool | None:
        """Answer from the address that was asked. Whether the kernel took it; None if the send buffer stayed
        full."""
    def reply_many(
        self,
        socket: _Socket,
        answers: Iterable[tuple[Datagram, bytes | bytearray | memoryview]],
        timeout: float | None,
        /,
    ) -> int:
        """Answer many. How many are done with: all, unless the send buffer stayed full."""
    def send(
        self,
        socket: _Socket,
        data: bytes | bytearray | memoryview,
        peer: Endpoint | tuple[str, int] | tuple[str, int, int, int] | PeerAddress | None,
        timeout: float | None,
        flags: int = 0,
        /,
    ) -> bool:
        """Send one; ``flags`` as sendmsg(2). False if the send buffer stayed full. Raises NetworkError."""
    def send_many(
        self,
        socket: _Socket,
        datagrams: Iterable[tuple[bytes | bytearray | memoryview, Any]],
        timeout: float | None,
        /,
    ) -> int:
        """Send many: pairs of data and a peer, as ``send`` takes it. How many are done with."""
    def address_of(self, peer: Any, /) -> PeerAddress:
        """A peer's address as ``recv_from`` would give it, but for the way back: the route chooses.

        Raises ValueError for what is not numeric.
        """
    def reports(self, socket: _Socket, /) -> list[QueuedError]:
        """Every error report since the last call, oldest first; does not wait."""
    @property
    def reported(self) -> int:
        """How many reports have been read from the kernel, whether they were taken or not."""
    @property
    def stale_sources(self) -> int:
        """Datagrams that left from the route's address, since the host had lost theirs."""
    @property
    def errors_lost(self) -> int:
        """Reports that were thrown away because nobody took them."""

def unshare(flags: int, /) -> None:
    """Move the calling thread into new namespaces: unshare(2).

    ``flags`` are ``CLONE_NEW*`` constants or-ed together; those of cgroup, IPC and UTS namespaces, which this
    module has no names for, are accepted too.

    Raises ``ValueError`` for other flags, and ``OSError`` with the kernel's errno: ``EPERM`` without the
    privilege, ``EINVAL`` for a user namespace in a process with several threads, ``ENOSPC`` at a limit in
    /proc/sys/user.
    """

def setns(fd: int, flags: int, /) -> None:
    """Move the calling thread into the namespace that ``fd`` refers to: setns(2).

    ``flags`` says what kind of namespace is expected, a ``CLONE_NEW*`` constant, or 0 for any kind. ``fd``
    may also be a pidfd: then ``flags`` are the namespaces of that process to move into, or-ed together.

    Raises ``ValueError`` for other flags, and ``OSError`` with the kernel's errno: ``EBADF`` when ``fd`` is
    not open, ``EINVAL`` when it is not what ``flags`` says, ``EPERM`` without the privilege.
    """
