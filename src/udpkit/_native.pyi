"""The Rust core of udpkit: captures, and namespaces of the calling thread."""

from ipaddress import IPv4Address, IPv6Address
from typing import Final, final

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "Datagram",
    "IcmpError",
    "PcapFile",
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
    def datagrams(self) -> list[Datagram]:
        """UDP datagrams, in the file's order."""
    @property
    def icmp_errors(self) -> list[IcmpError]:
        """ICMP errors about UDP datagrams, in the file's order."""
    @property
    def skipped(self) -> int:
        """Records that are neither: other protocols and link types, later fragments, headers that are cut."""
    @property
    def damage(self) -> str | None:
        """Where and why reading stopped before the end of the file, if it did."""

@final
class Datagram:
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
class IcmpError:
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
