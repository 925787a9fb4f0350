"""Listeners that were connected to their first peer, as their system calls show."""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.traces import askers, bound_by, connected, is_wildcard
from udpkit.diagnosis.why import place
from udpkit.facts import Calls, Case, Endpoint, TracedSocket
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.lookup import unmapped

CODE = "listener-locked-to-first-peer"


def locked(case: Case) -> Iterator[Finding]:
    """One finding for each socket that a stranger wrote to, and that was then connected to that stranger."""
    for socket in case.traces:
        lock = lock_of(socket)
        if lock and not _others_wait(case, socket, lock[0]):
            yield _finding(case, socket, *lock)


def lock_of(socket: TracedSocket) -> tuple[Endpoint, Calls, Calls] | None:
    """The peer, the call that told of it, and connect()."""
    connects = connected(socket)
    # One that is connected to one peer after the other, or taken back, serves them all.
    if len(connects) != 1 or not (is_wildcard(socket) or (socket.bound is None and not socket.whole)):
        return None
    [connect] = connects
    for peer, asked in askers(socket):
        if peer == connect.peer and asked.first.order < connect.first.order:
            return peer, asked, connect
    return None


def _others_wait(case: Case, socket: TracedSocket, peer: Endpoint) -> bool:
    """Another socket was bound to the same port: the connected one serves its client only."""
    return socket.bound is not None and any(
        other is not socket
        and other.bound is not None
        and other.bound.port == socket.bound.port != 0
        and _takes(other, peer.address.version)
        for other in case.traces
    )


def _takes(other: TracedSocket, version: int) -> bool:
    return other.family in (version, None) or (version == 4 and not other.options.get("IPV6_V6ONLY"))


def _finding(case: Case, socket: TracedSocket, peer: Endpoint, asked: Calls, connect: Calls) -> Finding:
    functions = FUNCTIONS[peer.address.version]
    server = Endpoint(unmapped(socket.bound.address), socket.bound.port) if socket.bound else None
    refused = next(
        (
            one
            for one in socket.calls
            if one.errno == "ECONNREFUSED" and one.first.order > connect.first.order
        ),
        None,
    )
    bind = bound_by(socket)
    peeked = " with MSG_PEEK" if asked.kind == "peek" else ""
    why = [
        f"{functions.lookup} on the server: the socket was not connected, so the first datagram from {peer} "
        f"got through: {asked.name}(){peeked} ({place(case, asked.first.seen)}).",
        f"{functions.connect} on the server: connect() ({place(case, connect.first.seen)}) fixed {peer} as "
        "the socket's peer, and as its local address the one that the route there prefers, not the one that "
        "was asked.",
        f"{functions.lookup} on the server: from then on the socket takes nothing but what comes from {peer} "
        "to that address; all else finds no socket.",
    ]
    if refused:
        why.append(
            f"{functions.hear} on the server: {refused.name}() failed with ECONNREFUSED "
            f"({place(case, refused.first.seen)}): the peer's host refused what the socket sent."
        )
    where = f" on {server}" if server else ""
    of = f" of {socket.process}" if socket.process else ""
    return Finding(
        code=CODE,
        severity="error" if refused else "warning",
        summary=f"The listener{where}{of} was connected to its first peer, {peer}: it hears nobody else, and "
        "even that peer only where it sends to the address that its route prefers.",
        client=peer,
        server=server,
        actual=None,
        process=socket.process or None,
        count=1,
        first=connect.first.time_ns,
        last=connect.last.time_ns,
        why=why,
        evidence=[
            *([bind.first.seen] if bind else []),
            asked.first.seen,
            connect.first.seen,
            *([refused.first.seen] if refused else []),
        ],
    )
