"""Whose sockets they are, kept for when the sockets are gone."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from udpkit.evidence.namespaces import container
from udpkit.evidence.owners import socket_holders
from udpkit.evidence.proc_net import proc_net_udp
from udpkit.facts import Address, Endpoint, SocketEntry, SocketTable
from udpkit.kernel.lookup import plain

SOURCE = 1
"""What the tables are among the sources of a live case."""
MOST = 20_000
"""Sockets that are remembered; the oldest are forgotten for others."""
PAUSES = 10
"""Between two looks passes so many times the processor time of the last: where others are busy, too, it takes
longer, but costs no more."""
LARGEST = 32 << 20
"""Bytes of a socket table that are read: 200,000 sockets."""
JUDGED = 5000
"""Sockets of a table that the rules look at; a host with more is judged by its packets alone."""
LOCKS = 20
"""Listeners that became connected, of which the tables before and after are kept."""

Ends = tuple[Endpoint, Endpoint | None]
ANY_4, ANY_6 = IPv4Address(0), IPv6Address(0)


class LiveOwners:
    """The UDP sockets of the network namespace in which it was made, with who held them.

    The tables are read again and again, since a socket may be gone by the time that anything is wrong with
    it; a look through the processes costs more, and is for sockets that are new.
    """

    def __init__(self) -> None:
        self._tables: list[int] = []
        for name in ("udp", "udp6"):
            with suppress(OSError):  # a kernel without IPv6
                path = f"/proc/thread-self/net/{name}"
                self._tables.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        self._seen: list[SocketTable] = []
        self._known: dict[Ends, str] = {}
        self._holders: dict[int, str | None] = {}
        self._next = 0.0

    def learn(self) -> None:
        """See which sockets there are, and who holds those that are new."""
        if time.monotonic() < self._next:
            return
        spent = time.thread_time()
        table = self._table()
        sockets = _by_ends(table)
        if not self._holders.keys() >= set(sockets.values()):
            holders = socket_holders()
            # Also those that nobody holds, such as the kernel's own: they are not looked for again.
            self._holders = {
                inode: _name(holder.pid, holder.name) if (holder := holders.get(inode)) else None
                for inode in sockets.values()
            }
        for one, inode in sockets.items():
            if process := self._holders.get(inode):
                self._known.pop(one, None)
                self._known[one] = process
        self._remember(table)
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        self._next = time.monotonic() + PAUSES * (time.thread_time() - spent)

    def learn_again(self) -> None:
        """Look once more for who holds the sockets that nobody seemed to hold: programs start."""
        self._holders = {inode: name for inode, name in self._holders.items() if name}
        self._next = 0.0
        self.learn()

    def of(self, local: Endpoint, peer: Endpoint | None = None) -> str | None:
        """As the kernel looks a socket up: connected to the peer, bound to the address, bound to any."""
        anywhere: list[Address] = [ANY_4, ANY_6] if local.address.version == 4 else [ANY_6]
        tries: list[Ends] = [(local, peer), (local, None)]
        tries += [(Endpoint(address, local.port), None) for address in anywhere]
        return next((self._known[one] for one in tries if one in self._known), None)

    def tables(self) -> list[SocketTable]:
        """The sockets as they are now, after those from before and after a listener became connected."""
        return [
            replace(table, entries=[self._named(entry) for entry in table.entries]) for table in self._seen
        ]

    def _named(self, entry: SocketEntry) -> SocketEntry:
        # What was dropped before nobody asked for; what is dropped now the kernel tells with its reason.
        return replace(entry, process=self._holders.get(entry.inode or 0), drops=None)

    def _remember(self, table: SocketTable) -> None:
        if len(table.entries) > JUDGED:
            self._seen.clear()
            return
        if self._seen and not _locked(*self._seen[-2:]) and not _locked(self._seen[-1], table):
            self._seen.pop()
        self._seen.append(table)
        del self._seen[: -2 * LOCKS]

    def _table(self) -> SocketTable:
        text = "".join(_whole(table) for table in self._tables)
        return proc_net_udp(text, {}, source=SOURCE, time_ns=time.time_ns())


def _by_ends(table: SocketTable) -> dict[Ends, int]:
    """Inodes by ends, those of dual-stack sockets as they are on the wire."""
    return {
        (plain(entry.local), plain(entry.peer) if entry.peer else None): entry.inode
        for entry in table.entries
        if entry.inode
    }


def _locked(before: SocketTable, after: SocketTable | None = None) -> bool:
    """Whether a socket that waited for strangers in one table is connected in the other."""
    waiting = {entry.inode for entry in before.entries if not entry.peer}
    return after is not None and any(entry.peer and entry.inode in waiting for entry in after.entries)


def _whole(table: int) -> str:
    os.lseek(table, 0, os.SEEK_SET)
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < LARGEST and (piece := os.read(table, 1 << 20)):
        pieces.append(piece)
    return b"".join(pieces).decode("ascii", "replace")


def _name(pid: int, name: str) -> str:
    return f"{name} (container {where})" if (where := container(pid)) else name
