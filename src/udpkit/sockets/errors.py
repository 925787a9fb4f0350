"""What a socket is told of the datagrams it sent: reports, and the exceptions that carry one."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Literal

from udpkit import _native
from udpkit.facts import Address, Endpoint
from udpkit.kernel import icmp

LOCAL_KINDS = {
    errno.EMSGSIZE: "too big",
    errno.ENETUNREACH: "no route",
    errno.EHOSTUNREACH: "no route",
    errno.EPERM: "blocked by a local rule",
    errno.ENOBUFS: "queue full",
    errno.EADDRNOTAVAIL: "not this host's address",
    errno.ENETDOWN: "interface down",
    errno.EACCES: "broadcast or route prohibited",
    errno.EAFNOSUPPORT: "IPv6 from an IPv4 socket",
}
"""What this host's own kernel means by an errno, where it is about a datagram (sendmsg(2), udp(7))."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """What happened to one datagram: an ICMP error about it, or why this host did not send it.

    From the error queue (IP_RECVERR in ip(7), IPV6_RECVERR in ipv6(7)), SO_ERROR (socket(7)) and sendmsg(2).
    """

    kind: str
    """`port unreachable`, `host unreachable`, `time exceeded`, …: as RFC 792 and RFC 4443 call it. Of a local
    error: `too big`, `no route`, `blocked by a local rule`, …; `source address gone` (it left anyway)."""
    errno: int
    """What system calls say of it: `errno.ECONNREFUSED`, …"""
    origin: Literal["local", "icmp", "icmp6"]
    """Who says so: this host's kernel, an ICMP message, an ICMPv6 message."""
    type: int | None
    """ICMP type; None if local."""
    code: int | None
    """ICMP code within the type; None if local."""
    peer: Endpoint | None
    """To whom the datagram was to go; None if the kernel did not say."""
    local: Address | None
    """This host's address that it left from; None if the route was to choose, or the kernel did not say."""
    offender: Address | None
    """Who sent the ICMP message: a router on the way, or the peer's host. None if local."""
    mtu: int | None
    """Bytes that a packet may have on this path, IP header included, if the datagram was too big for it."""
    quoted: bytes
    """The first bytes of the datagram's payload: as many as the ICMP message quotes, 64 if local."""

    def __str__(self) -> str:
        to = f" to {self.peer}" if self.peer else ""
        by = f", said by {self.offender}" if self.offender else ""
        mtu = f", path MTU {self.mtu}" if self.mtu else ""
        return f"{self.kind}{to}{by}{mtu}"


class NetworkError(OSError):
    """A datagram could not be sent, or one sent earlier met an error. Carries the report."""

    report: ErrorReport
    """What happened, to which datagram."""


class Refused(NetworkError, ConnectionRefusedError):
    """Nobody listens there: ICMP port unreachable."""


class Prohibited(NetworkError, PermissionError):
    """A rule of this host's forbids it (EPERM, EACCES), or an ICMPv6 message said so (EACCES)."""


class TruncatedControl(OSError):
    """The kernel cut the control messages (MSG_CTRUNC): to which address the datagram came is unknown."""


EXCEPTIONS: dict[int, type[NetworkError]] = {
    errno.ECONNREFUSED: Refused,
    errno.EPERM: Prohibited,
    errno.EACCES: Prohibited,
}


def error_report(queued: _native.QueuedError) -> ErrorReport:
    """The public value of what the native module read."""
    local = queued.origin == "local"
    if queued.stale:
        kind = "source address gone"
    elif local:
        kind = LOCAL_KINDS.get(queued.errno) or os.strerror(queued.errno).lower()
    else:
        kind = icmp.name(4 if queued.origin == "icmp" else 6, queued.icmp_type, queued.code)
    return ErrorReport(
        kind=kind,
        errno=queued.errno,
        origin=queued.origin,
        type=None if local else queued.icmp_type,
        code=None if local else queued.code,
        peer=queued.peer,
        local=queued.local,
        offender=queued.offender,
        mtu=queued.mtu,
        quoted=queued.quoted,
    )


def network_error(queued: _native.QueuedError) -> NetworkError:
    """The exception that carries a report of the native module."""
    report = error_report(queued)
    raised = EXCEPTIONS.get(report.errno, NetworkError)(report.errno, str(report))
    raised.report = report
    return raised


def too_late(timeout: float | None) -> OSError:
    """What a socket raises when its time is over (socket.settimeout())."""
    if timeout == 0:
        return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return TimeoutError("timed out")
