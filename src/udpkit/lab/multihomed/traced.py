"""How a server sent its answers, from strace's log of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from udpkit.diagnosis.traces import connected, sent
from udpkit.evidence import Evidence, UnreadableError, read_strace
from udpkit.facts import Calls, TracedSocket
from udpkit.kernel.lookup import unmapped
from udpkit.lab.multihomed.matrix import How

# read(2) and write(2) are what programs use on a connected socket.
STRACE = (
    "exec strace -f -qq -v -s 0 -e signal=none "
    "-e trace=%network,read,write,readv,writev,close,dup,?dup2,dup3,fcntl,clone,?clone3,?fork,?vfork "
    '-o /dev/fd/3 -- "$@" 3>&1 1>&2'
)
"""A shell line: the log goes to standard output, what the program says to standard error."""
ROUTE = "the route chose the source"
CONNECTED = "connect() had chosen the source"


def under_strace(command: list[str]) -> list[str]:
    return ["sh", "-c", STRACE, "sh", *command]


def ways(log: bytes) -> dict[int, How]:
    """How requests were answered, by their clients' ports."""
    found: dict[int, How] = {}
    with suppress(UnreadableError):  # not a line about a socket
        _, sockets = read_strace(Evidence.of("strace", log), source=0)
        for one in sockets:
            for port, how in _answers(one):
                found.setdefault(port, how)
    return found


def _answers(one: TracedSocket) -> Iterator[tuple[int, How]]:
    """Those that were sent, then those that could not be."""
    tied = {call.peer.port for call in connected(one) if call.peer}
    failed = [call for call in one.calls if call.kind == "send" and call.errno not in (None, "EAGAIN")]
    for call in [*sent(one), *failed]:
        if call.peer:
            yield call.peer.port, How(call.name, _source(one, call, call.peer.port in tied))
        elif len(tied) == 1:
            yield next(iter(tied)), How(call.name, _source(one, call, True))


def _source(one: TracedSocket, call: Calls, tied: bool) -> str:
    if call.errno:
        return f"which failed with {call.errno}"
    if call.pktinfo or call.local:
        six = one.family == 6 and not (call.local and unmapped(call.local).version == 4)
        return f"{'IPV6_PKTINFO' if six else 'IP_PKTINFO'} chose the source"
    bound = one.bound
    if bound and not unmapped(bound.address).is_unspecified:
        return "the socket is bound to one address"
    return CONNECTED if tied else ROUTE
