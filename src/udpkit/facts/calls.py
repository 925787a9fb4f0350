"""What a program asked of the kernel: its system calls on UDP sockets, as strace(1) shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from udpkit.facts.conversation import Moment
from udpkit.facts.endpoint import Address, Endpoint

CallKind = Literal["bind", "connect", "receive", "peek", "send", "error"]
"""`error` reads one: recvmsg() with MSG_ERRQUEUE, getsockopt() with SO_ERROR. Other calls fail with one."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls on one socket that are alike, and how often they were seen.

    `peer` is whom a datagram came from or went to, or whom connect() named; `local` the address in its
    control message: the one that was asked, or the source that was chosen, None if none. `errno` is the
    error's name (`ECONNREFUSED`) where the calls failed; `EAGAIN`, or `ETIMEDOUT` for poll() and
    select(), where they waited in vain. `name` is the system call's.
    """

    kind: CallKind
    name: str
    count: int
    first: Moment
    last: Moment
    peer: Endpoint | None = None
    local: Address | None = None
    errno: str | None = None
    pktinfo: bool | None = False
    """A control message held a local address (IP_PKTINFO, IPV6_PKTINFO), even if the log does not show which;
    None where it does not show the control messages."""
    icmp: tuple[int, int] | None = None
    """Type and code of the ICMP message that a queued error came with, and who sent it (`offender`)."""
    offender: Address | None = None
    candidates: int = 0
    """Of errors: how many datagrams the socket sent before the first of them, since the error before it."""


@dataclass(frozen=True, slots=True)
class TracedSocket:
    """One UDP socket from socket(2), or from the first call that shows it, to close(2).

    `options` holds what setsockopt() set last, by the option's name (`IP_PKTINFO`: 1). `bound` is what bind()
    named. `calls` are in the order of the first of each kind; the number of different ones is bounded, and
    `unlisted` counts those for which there was no room.
    """

    process: str
    """`pid 477`, `pid 477 (dnsmasq)` or `dnsmasq`, or empty where the log does not tell."""
    descriptor: int
    family: Literal[4, 6] | None
    first: Moment
    bound: Endpoint | None = None
    options: Mapping[str, int] = field(default_factory=dict)
    calls: Sequence[Calls] = ()
    whole: bool = True
    """`first` is socket(2), so that nothing went before. Else `bound` may be a port that the kernel chose."""
    unlisted: int = 0
