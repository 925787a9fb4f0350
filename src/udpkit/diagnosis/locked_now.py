"""Listeners of a live host that have become connected, as one look at it shows them."""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.traced_locks import CODE
from udpkit.facts import Case, Endpoint, HostState, SocketEntry
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.lookup import plain


def locked_now(case: Case) -> Iterator[Finding]:
    """The sockets that wait for one client only, while nobody waits for the others."""
    for host in case.hosts:
        if not host.choices:
            continue  # not looked at before traffic: what its packets tell is more
        entries = next((table.entries for table in reversed(case.tables) if table.host == host.name), [])
        waiting = {entry.local.port for entry in entries if entry.peer is None}
        for entry in entries:
            if entry.peer and entry.local.port not in waiting and _has_a_client(host, entry):
                yield _finding(host, entry, plain(entry.local), plain(entry.peer))


def _has_a_client(host: HostState, entry: SocketEntry) -> bool:
    """The peer's port is one that a kernel gave it, and the socket's own port is none.

    The first of them here is taken for the peer's, too: other systems begin higher (RFC 6335: 49152).
    """
    low, high = host.client_ports
    return (
        entry.peer is not None
        and entry.peer.port >= low
        and entry.peer.port != entry.local.port
        and not entry.names_peer
        and (entry.names_port or not low <= entry.local.port <= high)
    )


def _finding(host: HostState, entry: SocketEntry, local: Endpoint, peer: Endpoint) -> Finding:
    functions = FUNCTIONS[local.address.version]
    place = entry.container or host.name
    program = f"{entry.process}[{entry.pid}]" if entry.process else "a program"
    program += f" in {place}" if place else ""
    unsure = "" if entry.names_port else ", if it is a server's: it may always have been connected"
    return Finding(
        code=CODE,
        severity="warning" if entry.names_port else "note",
        summary=f"The socket of {program} on port {local.port} is connected to {peer}: it hears nobody else, "
        f"and even that peer only where it sends to {local.address}{unsure}.",
        client=peer,
        server=Endpoint(type(local.address)(0), local.port),
        actual=local,
        process=entry.process,
        count=1,
        first=None,
        last=None,
        why=[
            f"{functions.connect} on the server: connect() fixed {peer} in the socket and, if that had none, "
            f"as its local address the source of the route there: {local.address}.",
            f"{functions.lookup} on the server: since then the socket takes only what comes from {peer} to "
            f"{local}, and no other waits on port {local.port}.",
        ],
        evidence=[entry.seen],
    )
