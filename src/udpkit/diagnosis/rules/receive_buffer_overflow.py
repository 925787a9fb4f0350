"""A socket's receive buffer was full, and datagrams for it were dropped.

## What it sees

In a socket table that counts drops (`udpkit check`, `ss -m`, /proc/net/udp): a socket that has dropped
datagrams since it was opened. And the kernel's own reason for a drop, SOCKET_RCVBUFF, with the datagram's
addresses (`udpkit watch`, with root): an error, for it happens now.

Silent: the host's counters alone (`UdpRcvbufErrors`): the socket may have been closed long ago.

## Why it happens

The kernel queues what a program has not read yet, up to SO_RCVBUF, and counts the memory of the packet, not
only its payload. What comes then is dropped, without a word to its sender: a program that reads too slowly,
or a burst that is larger than the buffer.

## Example

    sk       local_address  …  drops
    0.0.0.0:5060 of sip[7]     1841
"""

from __future__ import annotations

from collections.abc import Iterator

from udpkit.diagnosis.dropped import finding, of_reason, place
from udpkit.diagnosis.finding import Finding
from udpkit.facts import Case, SocketEntry, SocketTable
from udpkit.kernel.lookup import plain

CODE = "receive-buffer-overflow"
REASON = "SOCKET_RCVBUFF"
"""include/net/dropreason-core.h"""


def find(case: Case) -> Iterator[Finding]:
    yield from _of_tables(case)
    yield from _of_drops(case)


def _of_drops(case: Case) -> Iterator[Finding]:
    for one in of_reason(case, REASON):
        number = "a datagram" if one.count == 1 else f"{one.count} datagrams"
        yield finding(
            CODE,
            one,
            f"The receive buffer of {one.destination} was full: {number} from {one.source} dropped.",
            [
                "__udp_enqueue_schedule_skb() on this host: the socket's receive buffer has no room for one "
                "more; the program does not read as fast as datagrams come.",
                f"{place(one)} drops it ({REASON}) and counts it (UdpRcvbufErrors); the sender is not told.",
            ],
        )


def _of_tables(case: Case) -> Iterator[Finding]:
    """Of several tables the last that shows a socket counts."""
    last: dict[tuple[object, ...], tuple[SocketTable, SocketEntry]] = {}
    for table in case.tables:
        for entry in table.entries:
            if entry.drops:
                last[table.host, entry.inode or entry.local, entry.peer] = table, entry
    for table, entry in last.values():
        yield _finding(table, entry)


def _count(drops: int) -> str:
    return f"{drops} datagram" if drops == 1 else f"{drops} datagrams"


def _finding(table: SocketTable, entry: SocketEntry) -> Finding:
    drops = entry.drops or 0
    local = plain(entry.local)
    buffer = entry.options.get("SO_RCVBUF")
    size = f" of {buffer} bytes" if buffer else ""
    who = f"{entry.process}[{entry.pid or '?'}]" if entry.process else "A program"
    place = entry.container or table.host
    where = f" in {place}" if place else ""
    peer = f", connected to {plain(entry.peer)}," if entry.peer else ""
    waiting = f" Now {entry.queued} bytes wait in it." if entry.queued else ""
    return Finding(
        code=CODE,
        severity="warning",
        summary=f"{who}{where} has lost {_count(drops)} on {local}{peer} since it opened "
        f"that socket: its receive buffer{size} was full.{waiting}",
        client=plain(entry.peer) if entry.peer else None,
        server=local,
        actual=None,
        process=entry.process,
        count=drops,
        first=None,
        last=None,
        why=[
            "__udp_enqueue_schedule_skb() on the host: the memory of what waits in the socket was more than "
            "SO_RCVBUF allows, so the datagram was dropped and counted; its sender hears nothing."
        ],
        evidence=[entry.seen],
    )
