"""What socket tables say about a port that refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udpkit.diagnosis.errors import first_ns, last_ns
from udpkit.diagnosis.services import is_own
from udpkit.diagnosis.shapes import shapes
from udpkit.facts import Address, Case, Conversation, Errors, Reference, SocketEntry, SocketTable
from udpkit.kernel.lookup import lookup, mismatch, plain, unmapped


def addresses_of(case: Case, host: str, table: SocketTable | None = None) -> set[Address]:
    """The addresses that a host is known to have; loopback is everybody's."""
    addresses = {one.address for state in case.hosts if state.name == host for one in state.addresses}
    if table:
        addresses |= {unmapped(entry.local.address) for entry in table.entries}
    return {one for one in addresses if not is_own(one) and not one.is_unspecified}


def tables_of_server(case: Case, conversation: Conversation) -> Iterator[tuple[SocketTable, bool]]:
    """The socket tables that may be of the server's host, and whether they certainly are.

    They are where they have its address. Wildcards and loopback are every host's: a table of these may be the
    server's only where the case is about no other server, and even then that is not known.
    """
    client, server = conversation.client.address, conversation.server.address
    alone = shapes(case).in_error <= {server}
    for table in case.tables:
        addresses = addresses_of(case, table.host, table)
        looked_at = all_are_known(case, table.host)
        on_loopback = is_own(server) and is_own(client)
        if server in addresses or (on_loopback and looked_at):
            yield table, True
        elif alone and client not in addresses and not looked_at:
            yield table, False


def all_are_known(case: Case, host: str) -> bool:
    """All addresses of the host, and not only those in its socket tables."""
    return any(state.name == host and state.addresses for state in case.hosts)


def on_its_port(table: SocketTable, conversation: Conversation) -> list[SocketEntry]:
    return [entry for entry in table.entries if entry.local.port == conversation.server.port]


def connected_there(case: Case, conversation: Conversation) -> bool:
    """A table shows that port connected: its listener may be locked to one peer, which is another fault."""
    return any(
        entry.peer is not None and plain(entry.local) != conversation.client
        for table, _ in tables_of_server(case, conversation)
        for entry in on_its_port(table, conversation)
    )


def takers(
    case: Case, conversation: Conversation, *, sure: bool = False
) -> list[tuple[SocketTable, SocketEntry]]:
    """Sockets that would take the client's datagrams, by the tables of the server's host."""
    found = (
        (table, lookup(table.entries, conversation.client, conversation.server))
        for table, certain in tables_of_server(case, conversation)
        if certain or not sure
    )
    return [(table, entry) for table, entry in found if entry]


def waits_elsewhere(case: Case, conversation: Conversation) -> tuple[SocketEntry, bool] | None:
    """A socket that waits on the port, but not for this; and whether it certainly is the same host's."""
    if takers(case, conversation):
        return None
    client, server = conversation.client, conversation.server
    waiting = [
        (entry, sure)
        for table, sure in tables_of_server(case, conversation)
        for entry in on_its_port(table, conversation)
        if entry.peer is None and mismatch(entry, client, server)
    ]
    return max(waiting, key=lambda one: one[1], default=None)


def there_all_along(case: Case, one: Conversation, refusals: Sequence[Errors]) -> list[Reference]:
    """Where the tables show one socket that takes the request, before and after the refusals."""
    first, last = first_ns(refusals), last_ns(refusals)
    if first is None or last is None or one.replies:
        return []
    found = [
        (table.time_ns, entry)
        for table, entry in takers(case, one, sure=True)
        if table.time_ns is not None and entry.inode
    ]
    before = {entry.inode: entry.seen for time_ns, entry in found if time_ns < first}
    after = {entry.inode: entry.seen for time_ns, entry in found if time_ns > last}
    inode = next((inode for inode in before if inode in after), None)
    return [before[inode], after[inode]] if inode is not None else []
