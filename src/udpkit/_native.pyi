"""The Rust core of udpkit: captures, batches of datagrams, and namespaces of the calling thread."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from os import PathLike
from socket import socket as _Socket  # noqa: N812 - the module's parameters are called socket
from typing import Any, Final, Literal, final

from udpkit.facts import Conversation, Drops, Endpoint, Source, TracedSocket
from udpkit.sockets.packet_info import PeerAddress

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CgroupFix",
    "Channel",
    "Datagram",
    "Input",
    "Live",
    "LiveTally",
    "LoadedFix",
    "Path",
    "PcapDatagram",
    "PcapFile",
    "PcapIcmpError",
    "QueuedError",
    "Quoted",
    "Tally",
    "give_up",
    "loaded_fixes",
    "read",
    "read_pcap",
    "read_strace",
    "setns",
    "udp_port",
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

@final
class Input:
    """A source of bytes that can be read once. What is compressed (gzip, zstd, xz) is decompressed."""

    def __new__(cls, source: str | bytes | PathLike[str] | int, /) -> Input:
        """Open a file by its path, a copy of a descriptor, or the bytes themselves; reads the beginning.

        Raises OSError, ValueError for a capture whose file header is cut or of an unknown version, and what a
        signal's handler raises.
        """
    @property
    def kind(self) -> Literal["pcap", "pcapng", "tcpdump", "strace"] | None:
        """What it is, by its content; None for what ``read`` does not know."""
    @property
    def head(self) -> bytes:
        """The beginning, at most 64 KiB, which stays to be read; empty once it was."""
    def text(self, limit: int, /) -> str:
        """The next bytes as UTF-8, at most ``limit``; what is none becomes U+FFFD. Empty at the end.

        Raises OSError if nothing can be read, and what a signal's handler raises.
        """

@final
class Tally:
    """How much of a source was understood: see ``udpkit.facts.Source``."""

    @property
    def kind(self) -> Literal["pcap", "pcapng", "strace"]:
        """As ``Input.kind``."""
    @property
    def packets(self) -> int:
        """Packets, or lines that were taken for one."""
    @property
    def datagrams(self) -> int:
        """UDP datagrams among them."""
    @property
    def icmp_errors(self) -> int:
        """ICMP errors about UDP datagrams among them."""
    @property
    def unread(self) -> Mapping[str, int]:
        """What could not be decoded: why, and how often."""
    @property
    def damage(self) -> list[str]:
        """A sentence for each damaged place; there is a limit."""
    @property
    def last_ns(self) -> int | None:
        """The last time in it, nanoseconds since the epoch."""

def read(
    inputs: Sequence[Input],
    /,
    progress: Callable[[int], object] | None = None,
    *,
    sources: Sequence[int] | None = None,
    keep: Sequence[tuple[IPv4Address | IPv6Address, int]] | None = None,
) -> tuple[list[Tally], list[Conversation], int]:
    """Read captures together: their tallies, the remarkable conversations, how many more there are of these.

    Messages are merged by time. ``sources`` are the inputs' indices in the case, by default 0, 1 and so on.
    All conversations of the clients in ``keep`` count as remarkable.
    ``progress`` is called with the bytes read so far, at most four times a second. Other Python threads run
    meanwhile.

    Raises ValueError for an input that is none of the kinds, or was read already, and what a signal's handler
    or ``progress`` raises.
    """

@final
class LiveTally:
    """How live evidence is doing."""

    @property
    def conversations(self) -> int:
        """Conversations in the table, with those that only may be answers."""
    @property
    def renewed(self) -> int:
        """How often the table was full and has started anew."""
    @property
    def packets(self) -> int:
        """Packets that passed the kernel's filter, the lost ones among them."""
    @property
    def lost(self) -> int:
        """Packets for which the ring had no room."""
    @property
    def drops(self) -> int:
        """Datagrams that the kernel dropped."""
    @property
    def drops_lost(self) -> int:
        """Drops and ICMP errors that could not be told or kept."""
    @property
    def errors_sent(self) -> int:
        """ICMP errors about UDP that the kernel sent (not ICMPv6)."""
    @property
    def written(self) -> int:
        """Packets that were written to the file."""
    @property
    def write_failure(self) -> str | None:
        """Why no more are."""
    @property
    def failure(self) -> str | None:
        """Why nothing is read any more."""
    @property
    def interfaces(self) -> list[tuple[int, int, int, int]]:
        """Index, packets, datagrams and ICMP errors of each interface that was heard of."""

@final
class Live:
    """UDP of this host's links as it comes, put together by conversation in a thread of its own."""

    def __new__(cls, interfaces: Sequence[int], /, *, snapshot: int, memory: int, namespace: int) -> Live:
        """Open a packet ring in the calling thread's network namespace, whose inode is ``namespace``.

        ``interfaces`` are indices; without any it is all of them. Of a packet at most ``snapshot`` bytes are
        kept; the ring has ``memory`` bytes. Drops are watched where that is possible. Raises OSError.
        """
    @property
    def without_drops(self) -> str | None:
        """Why the kernel's reasons for drops are not known, if they are not."""
    def start(self, write: str | PathLike[str] | None, size: int, /) -> None:
        """Begin to read, with the privileges that the calling thread has now.

        With ``write``, packets of the conversations that are wanted go to a pcap file there, which takes with
        its predecessor (``.1``) at most ``size`` bytes. Raises OSError.
        """
    def stop(self) -> None:
        """Read what has come, and end."""
    def tally(self) -> LiveTally:
        """How it is doing."""
    def look(self, most: int, /) -> tuple[LiveTally, list[Conversation], int, list[Drops]]:
        """The tally, at most so many remarkable conversations, the number of the others, and the drops.

        Their sources are: 0 for the drops, then from 2 on the interfaces in the tally's order.
        """
    def latest(self, most: int, /) -> list[tuple[Endpoint, Endpoint, int, int, int | None]]:
        """Client, server, requests, replies and the last time (nanoseconds since the epoch) of conversations.

        Those with the latest datagrams come first.
        """
    def want(
        self,
        ends: Sequence[
            tuple[tuple[IPv4Address | IPv6Address, int], tuple[IPv4Address | IPv6Address, int] | None]
        ],
        /,
    ) -> None:
        """Write the packets between two endpoints each; without a second, of all who speak with the one."""

@final
class CgroupFix:
    """The eBPF programs that let others answer from the address that was asked, while this is open."""

    def __new__(cls, slot: int, instance: int, /, *, flows: int, namespaces: bool = True) -> CgroupFix:
        """Load them, with room for so many flows.

        ``slot``: 1 to 63, unlike every other fix's; ``instance``: 16 bits, unlike those of earlier ones too.

        ``namespaces``: tell network namespaces apart, where the kernel can (Linux 6.15).
        Raises PermissionError without privilege, OSError if the kernel lacks something, which it names.
        """
    @property
    def slot(self) -> int:
        """As it was given."""
    @property
    def instance(self) -> int:
        """As it was given."""
    @property
    def namespaces(self) -> bool:
        """Whether it does; then scopes are their cookies (SO_NETNS_COOKIE, socket(7)), else 0."""
    def attach(self, cgroup: int, inode: int, /) -> None:
        """Attach them to a cgroup, by the descriptor of its folder. Raises OSError."""
    def tell(
        self,
        come: Sequence[tuple[tuple[int, IPv4Address | IPv6Address, int], int]],
        gone: Sequence[tuple[int, IPv4Address | IPv6Address, int]],
        /,
    ) -> None:
        """Which local addresses have come, each with a mark or 0, and which have gone.

        An address is a scope, the address and the bits of its prefix. Raises OSError.
        """
    def mark(self, number: int, /) -> int:
        """The mark of a local address that was given this number."""
    def is_to_leave(self) -> bool:
        """Whether somebody has asked it to end."""
    def close(self) -> None:
        """Detach them."""

@final
class LoadedFix:
    """A fix of this or another process."""

    @property
    def slot(self) -> int: ...
    @property
    def instance(self) -> int: ...
    @property
    def cgroup(self) -> int:
        """The inode of its cgroup; 0 before it is attached."""
    @property
    def owner(self) -> int:
        """Its process, in that one's PID namespace."""
    @property
    def map(self) -> int:
        """The number of a map that only its process holds: `map_id` in proc_pid_fdinfo(5)."""
    @property
    def flows(self) -> int:
        """How many it remembers at most."""
    @property
    def since(self) -> float | None:
        """When it was loaded; seconds since the epoch."""
    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """Answers: source set, chosen by the program, peer unknown, address lost. Then learned flows."""
    def ask_to_leave(self) -> None:
        """Ask its owner to end it. Raises OSError."""

def loaded_fixes() -> list[LoadedFix]:
    """Every fix of this kernel. Raises PermissionError."""

def give_up(kept: int, /, user: int | None = None) -> None:
    """Keep of the calling thread's capabilities only those whose bits are in ``kept`` (capabilities(7)).

    ``user``: become this user first. Raises OSError.
    """

def read_pcap(data: bytes, /) -> PcapFile:
    """Read a pcap file: both byte orders, micro- and nanoseconds (draft-ietf-opsawg-pcap).

    Other Python threads run meanwhile. A damaged file is read up to the damage, and ``PcapFile.damage`` says
    so.

    Raises ``ValueError`` with one line if ``data`` is not a pcap file at all.
    """

def read_strace(
    log: Input, path: str, /, progress: Callable[[int], object] | None = None, *, source: int
) -> tuple[Source, list[TracedSocket]]:
    """Read a log of strace(1) to its end. ``source`` is its index in the case; ``progress`` as in ``read``.

    Other Python threads run meanwhile. Raises ValueError for an input that was read already, and what a
    signal's handler or ``progress`` raises.
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

def udp_port(name: str, /) -> int | None:
    """The UDP port of a service by its name: as in /etc/services, else as IANA has it."""

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
