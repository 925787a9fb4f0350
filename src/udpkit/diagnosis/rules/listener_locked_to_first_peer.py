"""A listening socket was connected to its first peer, and is deaf to everyone else.

## What it sees

In two socket tables: a socket that waited on a wildcard address and is later connected, with a local
address that the first datagram did not ask for, or with other clients' datagrams refused since then.
Where nothing was captured of what its first peer sent, that is only a warning, since the tables do not tell
which address clients ask.

In a capture, where the tables know nothing of that port: the first datagram of a client is accepted, the
reply comes from another address and is refused, and then the address that was asked refuses the client too.
That is only a warning: the program may have ended for another reason. Or: of two clients of a port that is
no known service's, the one was answered before and after the other was refused, and was never refused itself.
A warning, too: a program that restarts, or a firewall, may do the same.

In a log of strace: a socket on a wildcard address got a datagram, mostly with MSG_PEEK, and was then
connected to its sender: a warning, and an error if the socket was told afterwards that it was refused.

On a live host (`udpkit check`), which is seen once: a socket that is connected to what looks like a client's
port, while no other socket waits on its own port. A warning if the command line of its program names that
port, otherwise a note: it may always have been connected.

Silent: a listener that, as a capture shows, is connected to its only client through the address which that
client uses; a server that opened another socket to wait on (`socat UDP-LISTEN:53,fork`); a listener that
ended, unless the refusal of its own reply ended it; on a live host a program whose command line names the
peer's port, and a port that the kernel gives to clients, unless the command line names it.

## Why it happens

A program peeks at the first datagram and calls connect() towards its sender, as `nc -ul` does. On a
wildcard-bound socket connect() also stores a local address: the one that the route to the peer prefers. From
then on the kernel delivers only what comes from that peer to that address, and all replies leave from there.
If one of them is refused, the connected socket hears of it, and `nc` ends.

## Example

    before   0.0.0.0:56789      unconnected
    after    172.17.0.1:56789   connected to 172.17.0.3:38908
    172.17.0.3:38908 > 172.16.13.13:56789 UDP, 3 bytes
    172.16.13.13 > 172.17.0.3 ICMP port unreachable
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from udpkit.diagnosis.beside import Beside, locked_out
from udpkit.diagnosis.errors import total
from udpkit.diagnosis.finding import Finding
from udpkit.diagnosis.listeners import on_its_port, tables_of_server
from udpkit.diagnosis.locked_now import locked_now
from udpkit.diagnosis.refusals import refusals_of, refused_requests
from udpkit.diagnosis.services import FIRST_CLIENT_PORT
from udpkit.diagnosis.traced_locks import CODE, locked
from udpkit.diagnosis.why import first_and_last, place
from udpkit.facts import Address, Case, Conversation, Endpoint, Errors, SocketEntry, SocketTable
from udpkit.kernel.functions import FUNCTIONS
from udpkit.kernel.lookup import lookup, mismatch, plain, unmapped


@dataclass(frozen=True, slots=True)
class Lock:
    """A listener before and after connect(): `local` and `peer` are the ends that it has since.

    `waited_ns`: when it was last seen waiting. `table` shows it locked, `gone` is the first without it.
    """

    before: SocketEntry
    waited_ns: int | None
    after: SocketEntry
    local: Endpoint
    peer: Endpoint
    table: SocketTable
    gone: SocketTable | None

    def takes(self, source: Endpoint, destination: Endpoint) -> bool:
        """Does any socket of the host take such a datagram while the lock is there?"""
        return lookup(self.table.entries, source, destination) is not None

    def was_gone(self, time_ns: int | None) -> bool:
        """It may have left by then: where a time is missing, nobody knows."""
        return self.gone is not None and not is_before(time_ns, self.gone.time_ns)


def is_before(time_ns: int | None, other_ns: int | None) -> bool:
    return time_ns is not None and other_ns is not None and time_ns <= other_ns


def find(case: Case) -> Iterator[Finding]:
    yield from _of_traces(case)
    yield from locked_now(case)
    locks = list(_locks(case))
    told = {lock.peer for lock in locks}
    for lock in locks:
        was_heard = False
        addresses = _addresses_asked(lock, case.conversations)
        for victim in case.conversations:
            was_heard |= victim.client == lock.peer and victim.server.port == lock.local.port
            if victim.server.address not in addresses:
                continue  # that may be another host
            refusals = _refusals(lock, victim, case.conversations)
            if not lock.takes(victim.client, victim.server) and (refusals or _will_be_refused(lock, victim)):
                was_heard = True
                told.add(victim.client)
                yield _locked(case, lock, victim, refusals)
        if not was_heard and not _others_wait(lock):
            yield _locked_only_in_tables(lock)
    in_tables = {entry.local.port for table in case.tables for entry in table.entries}
    # A listener that was locked to one client may have been to another, at another time.
    never_locked = in_tables - {lock.local.port for lock in locks}
    yield from (
        _seen_from_outside(case, one)
        for one in case.conversations
        if one.client not in told
        and not (one.server.port in never_locked and _is_in_its_tables(case, one))
        and _accepted_then_refused(one)
    )
    yield from (_refused_beside(case, *one) for one in locked_out(case) if one[0].client not in told)


def _is_in_its_tables(case: Case, one: Conversation) -> bool:
    return any(on_its_port(table, one) for table, _ in tables_of_server(case, one))


def _of_traces(case: Case) -> Iterator[Finding]:
    """What a socket table shows as well is told from there."""
    in_tables = {lock.peer for lock in _locks(case)}
    yield from (one for one in locked(case) if one.client not in in_tables)


def _addresses_asked(lock: Lock, conversations: Sequence[Conversation]) -> set[Address]:
    """The addresses of the locked listener's host, as far as its first peer's datagrams tell."""
    asked = {
        one.server.address
        for one in conversations
        if one.client == lock.peer and one.server.port == lock.local.port
    }
    return asked | {lock.local.address}


def _others_wait(lock: Lock) -> bool:
    return any(entry.peer is None and entry.local.port == lock.local.port for entry in lock.table.entries)


def _locks(case: Case) -> Iterator[Lock]:
    waiting: dict[tuple[str, int], tuple[SocketEntry, int | None]] = {}
    locked: set[tuple[str, int]] = set()
    for number, table in enumerate(case.tables):
        for entry in table.entries:
            # Where the table has no inodes, the port has to do.
            key = table.host, entry.inode or -entry.local.port
            if entry.peer is None and unmapped(entry.local.address).is_unspecified:
                waiting[key] = entry, table.time_ns
            elif entry.peer and key in waiting and key not in locked:
                locked.add(key)
                if entry.peer.port >= FIRST_CLIENT_PORT:  # else it is a client of a service
                    later = [other for other in case.tables[number + 1 :] if other.host == table.host]
                    gone = _gone(later, entry)
                    yield Lock(*waiting[key], entry, plain(entry.local), plain(entry.peer), table, gone)


def _gone(later: Sequence[SocketTable], locked: SocketEntry) -> SocketTable | None:
    def has_it(table: SocketTable) -> bool:
        return any((entry.inode, entry.local) == (locked.inode, locked.local) for entry in table.entries)

    return next((table for table in later if not has_it(table)), None)


def _refusals(lock: Lock, victim: Conversation, conversations: Sequence[Conversation]) -> list[Errors]:
    """The victim's refused requests for which the lock is to blame."""
    if victim.server.port != lock.local.port:
        return []
    refused_itself = any(one.client == lock.peer and refusals_of(one, lock.local) for one in conversations)
    return [
        one
        for one in refused_requests(victim)
        if not is_before(one.last.time_ns, lock.waited_ns)
        and (refused_itself or not lock.was_gone(one.first.time_ns))
    ]


def _will_be_refused(lock: Lock, victim: Conversation) -> bool:
    """Did the first peer ask another address than the one that the lock has, and get no answer from there?"""
    server, local = victim.server, lock.local
    return (
        victim.client == lock.peer
        and server.port == local.port
        and server.address != local.address
        and not victim.replies
    )


def _locked(case: Case, lock: Lock, victim: Conversation, refusals: list[Errors]) -> Finding:
    client, server, local = victim.client, victim.server, lock.local
    return Finding(
        code=CODE,
        severity="error",
        summary=f"The listener on port {server.port} was connected to {lock.peer} and now lives on {local}: "
        f"{client} cannot reach it on {server} any more.",
        client=client,
        server=server,
        actual=local,
        process=lock.after.process or lock.before.process,
        count=total(refusals),
        first=victim.requests.first.time_ns if victim.requests else None,
        last=victim.requests.last.time_ns if victim.requests else None,
        why=_why(case, lock, victim, refusals),
        evidence=[lock.before.seen, lock.after.seen, *first_and_last(refusals)],
        listener=lock.before.local,
        second=client != lock.peer,
    )


def _why(case: Case, lock: Lock, victim: Conversation, refusals: list[Errors]) -> list[str]:
    client, server = victim.client, victim.server
    functions = FUNCTIONS[client.address.version]
    steps = [
        f"{functions.lookup} on the server, first datagram: the socket waited on {lock.before.local}, which "
        "fits every local address, so it got through.",
        f"{functions.connect} on the server: connect() to {lock.peer} fixed the peer in the socket, and as "
        f"its local address the one that {functions.route} prefers on the way there: "
        f"{lock.local.address}.",
    ]
    reason = mismatch(lock.after, client, server)
    if not refusals:
        return [*steps, f"{functions.lookup} on the server: a datagram to {server} will not fit: {reason}."]
    refused = refusals[0].last if is_before(refusals[0].first.time_ns, lock.waited_ns) else refusals[0].first
    if lock.was_gone(refused.time_ns):
        steps += [
            f"{functions.hear} on the server: the refusal of its reply became ECONNREFUSED on the connected "
            f"socket, and the program closed it: it had left the table before {place(case, refused.seen)}.",
            f"{functions.lookup} on the server, next datagram to {server}: there is no socket any more. The "
            f"locked one would not have taken it either: {reason}.",
        ]
    else:
        steps.append(
            f"{functions.lookup} on the server, next datagram from {client} to {server}: the socket does "
            f"not take it: {reason}."
        )
    return [
        *steps,
        f"{functions.refuse} on the server: nobody to deliver to, so it answers port unreachable "
        f"({place(case, refused.seen)}).",
        f"{functions.hear} on the client: its socket is connected to {server}, so its next call fails with "
        "ECONNREFUSED, once.",
    ]


def _locked_only_in_tables(lock: Lock) -> Finding:
    local = lock.local
    functions = FUNCTIONS[local.address.version]
    return Finding(
        code=CODE,
        severity="warning",
        summary=f"The listener on port {local.port} was connected to {lock.peer}: it hears nobody else, and "
        f"even that peer only where it sends to {local.address}.",
        client=lock.peer,
        server=Endpoint(unmapped(lock.before.local.address), local.port),
        actual=local,
        process=lock.after.process or lock.before.process,
        count=1,
        first=None,
        last=None,
        why=[
            f"{functions.connect} on the server: connect() to {lock.peer} fixed the peer in the socket, and "
            f"as its local address the source of the route there: {local.address}.",
            f"{functions.lookup} on the server: from then on it takes only what comes from {lock.peer} to "
            f"{local}.",
        ],
        evidence=[lock.before.seen, lock.after.seen],
        listener=lock.before.local,
    )


def _accepted_then_refused(conversation: Conversation) -> bool:
    """The first request was accepted, a reply from another address was refused, a later request too."""
    refused, requests = refused_requests(conversation), conversation.requests
    strays = [stray for stray in conversation.strays if stray.port == conversation.server.port]
    return (
        len(strays) == 1
        and requests is not None
        and not conversation.replies
        and bool(refused)
        and bool(refusals_of(conversation, strays[0]))
        and requests.first.order <= conversation.strays[strays[0]].first.order <= refused[0].first.order
    )


def _seen_from_outside(case: Case, victim: Conversation) -> Finding:
    client, server = victim.client, victim.server
    actual = next(stray for stray in victim.strays if stray.port == server.port)
    requests = first_and_last([victim.requests])
    functions = FUNCTIONS[client.address.version]
    refused = refused_requests(victim)
    return Finding(
        code=CODE,
        severity="warning",
        summary=f"{server} took the first datagram of {client} and refused a later one: its listener was "
        f"connected to the client from {actual}, or has ended.",
        client=client,
        server=server,
        actual=actual,
        process=None,
        count=total(refused),
        first=victim.requests.first.time_ns if victim.requests else None,
        last=victim.requests.last.time_ns if victim.requests else None,
        why=[
            f"{functions.lookup} on the server: the first datagram found a socket "
            f"({place(case, requests[0])}).",
            f"{functions.connect} on the server: a program that connects its listener to {client} fixes the "
            f"route's source, {actual.address}, as its local address; an unconnected one would not have "
            f"been told that its reply was refused, unless it asked for errors ({functions.asks}).",
            f"{functions.refuse} on the server: no socket for {server} any more, so it answers port "
            f"unreachable ({place(case, refused[0].first.seen)}).",
        ],
        evidence=[requests[0], victim.strays[actual].first.seen, *first_and_last(refused)],
    )


def _refused_beside(case: Case, victim: Conversation, first: Beside) -> Finding:
    client, server = victim.client, victim.server
    functions = FUNCTIONS[client.address.version]
    refused = refused_requests(victim)
    flow = first_and_last([first.flow])
    return Finding(
        code=CODE,
        severity="warning",
        summary=f"{server} refused {client}, though it answered {first.peer} before and after: its listener "
        f"was connected to {first.peer}, or it restarted just then, or a firewall's REJECT is about "
        f"{client.address}.",
        client=client,
        server=server,
        actual=None,
        process=None,
        count=total(refused),
        first=victim.requests.first.time_ns if victim.requests else None,
        last=victim.requests.last.time_ns if victim.requests else None,
        why=[
            f"{functions.lookup} on the server: the port has a socket, which answered {first.peer} "
            f"({', '.join(place(case, seen) for seen in flow)}).",
            f"{functions.connect} on the server: a program that connects its listener to its first peer "
            "fixes that in the socket.",
            f"{functions.lookup} on the server: such a socket takes nothing from {client}, and no other one "
            "waits.",
            f"{functions.refuse} on the server: nobody to deliver to, so it answers port unreachable "
            f"({place(case, refused[0].first.seen)}).",
        ],
        evidence=[*flow[:1], *first_and_last([victim.requests])[:1], *first_and_last(refused), *flow[1:]],
        second=True,
    )
