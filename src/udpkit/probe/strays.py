"""Whose answer is it that comes from elsewhere?"""

from __future__ import annotations

from udpkit.probe.payload import Payload
from udpkit.probe.result import State
from udpkit.probe.sweep import Port
from udpkit.probe.wire import Host, Wire
from udpkit.sockets import Datagram


def only_suspect(
    wire: Wire, host: Host | None, payload: Payload | None, datagram: Datagram
) -> tuple[Host, Port] | None:
    """The one port that can have answered from elsewhere, if there is one only.

    The one whose request it answers and no other's, the sender's own first. If the sender was not asked (no
    `payload`): the one of its number, if the sender is no `host`; else the only one on this socket.
    """
    hosts = wire.hosts.values()
    waiting = {(one, port.number): port for one in hosts for port in one.sweep.silent if port.sent}
    answered = [
        (one, number) for one in hosts for number, asked in one.payloads.items() if asked.name(datagram.data)
    ]
    chosen = [one for one in answered if one[0] is host] or answered
    if len(chosen) != 1 and payload is None:
        chosen = [one for one in waiting if one[1] == datagram.peer.port and host is None]
        if not chosen and len(hosts) == 1 and all(one.sweep.total == 1 for one in hosts):
            chosen = list(waiting)
    if len(chosen) != 1 or chosen[0] not in waiting:
        return None
    return chosen[0][0], waiting[chosen[0]]


def is_anothers(wire: Wire, host: Host, datagram: Datagram) -> bool:
    """Whether it answers what the same port of another host was asked."""
    return any(
        asked.name(datagram.data)
        for other in wire.hosts.values()
        if other is not host and (asked := other.payloads.get(datagram.peer.port))
    )


def is_ambiguous(wire: Wire, payload: Payload, datagram: Datagram) -> bool:
    """Whether what came once more from a port may be the answer of another one, too."""
    number = datagram.peer.port
    return not wire.strays and (
        not payload.name(datagram.data)
        or any(number in other.payloads and number not in other.results for other in wire.hosts.values())
    )


def silent_of(wire: Wire) -> list[tuple[Host, int]]:
    """The ports without an answer."""
    return [
        (host, number)
        for host in wire.hosts.values()
        for number, result in host.results.items()
        if result.state is State.SILENT
    ]
