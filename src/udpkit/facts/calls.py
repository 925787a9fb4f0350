"""What a program asked of the kernel: its system calls on UDP sockets, as strace(1) shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from udpkit.facts.conversation import Moment
from udpkit.facts.endpoint import Address, Endpoint

CallKind = Literal["bind", "connect", "receive", "peek", "send", "error"]


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls on one socket that are alike, and how often they were seen.

    `peer` is whom a datagram came from or went to, or whom connect() named; `local` the address in its
    control message: the one that was asked, or the source that was chosen, None if none. `errno` is the
    error's name (`ECONNREFUSED`) where the calls failed. `name` is the system call's.
    """

    kind: CallKind
    name: str
    count: int
    first: Moment
    last: Moment
    peer: Endpoint | None = None
    local: Address | None = None
    errno: str | None = None


@dataclass(frozen=True, slots=True)
class TracedSocket:
    """One UDP socket from socket(2), or from the first call that shows it, to close(2).

    `options` holds what setsockopt() set last, by the option's name (`IP_PKTINFO`: 1). `bound` is what bind()
    named. `calls` are in the order of the first of each kind; the number of different ones is bounded.
    """

    process: str
    """`pid 477`, or empty where the log does not tell."""
    descriptor: int
    family: Literal[4, 6] | None
    first: Moment
    bound: Endpoint | None = None
    options: Mapping[str, int] = field(default_factory=dict)
    calls: Sequence[Calls] = ()
