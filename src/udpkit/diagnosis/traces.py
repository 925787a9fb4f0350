"""What the calls on a traced socket add up to: who asked whom."""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.services import EPHEMERAL, FIRST_CLIENT_PORT, FIRST_UNPRIVILEGED
from udpkit.facts import Calls, Endpoint, TracedSocket
from udpkit.kernel.lookup import unmapped


def taken(socket: TracedSocket) -> list[Calls]:
    """Calls that got a datagram, or looked at one."""
    return [one for one in socket.calls if one.kind in ("receive", "peek") and one.errno is None]


def sent(socket: TracedSocket) -> list[Calls]:
    return [one for one in socket.calls if one.kind == "send" and one.errno is None]


def connected(socket: TracedSocket) -> list[Calls]:
    return [one for one in socket.calls if one.kind == "connect" and one.errno is None]


def bound_by(socket: TracedSocket) -> Calls | None:
    """The bind() that worked."""
    return next((one for one in socket.calls if one.kind == "bind" and one.errno is None), None)


def is_wildcard(socket: TracedSocket) -> bool:
    return socket.bound is not None and unmapped(socket.bound.address).is_unspecified


def askers(socket: TracedSocket) -> Iterator[tuple[Endpoint, Calls]]:
    """Who wrote to the socket before it wrote to them, and the first call that told so.

    Where both use the same port, either may speak first (NTP, SIP); and no client has a port below 512.
    """
    written = {one.peer: one.first.order for one in reversed(sent(socket)) if one.peer}
    first = {one.peer: one for one in reversed(taken(socket)) if one.peer}
    for peer, call in sorted(first.items(), key=lambda item: item[1].first.order):
        if peer.port < FIRST_CLIENT_PORT or (socket.bound and socket.bound.port == peer.port):
            continue
        if written.get(peer, call.first.order) >= call.first.order:
            yield peer, call


def may_be_client(socket: TracedSocket, peer: Endpoint) -> bool:
    """Where the log begins too late to tell who spoke first: the ports do not say that the peer did."""
    if socket.whole:
        return False
    serves = socket.bound is not None and 0 < socket.bound.port < FIRST_UNPRIVILEGED
    return not serves and peer.port not in EPHEMERAL
