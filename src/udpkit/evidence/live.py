"""Live evidence: what the links of a network namespace carry now, and what its kernel drops.

Packets are read, decoded and added up in a thread of the native module; here is only what is remarkable.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from udpkit import _native
from udpkit.evidence.live_owners import LiveOwners
from udpkit.evidence.namespaces import Namespace, inside
from udpkit.evidence.routes import NoIp, local_addresses
from udpkit.facts import Case, Endpoint, HostState, LocalAddress, Source

SNAPSHOT = 320
"""Bytes kept of a packet that is not written: headers, options, and an ICMP error's quote of them."""
WHOLE = 262_144
"""More than any packet has (tcpdump's own default)."""
RING = 16 << 20
"""Bytes of the ring; the kernel keeps them in memory."""
MOST = 2000
"""Remarkable conversations that are judged at a time, those with errors first."""

TRACEPOINTS = "skb:kfree_skb, icmp:icmp_send"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen up to now, and how the reading goes."""

    case: Case
    tally: _native.LiveTally


class LiveEvidence:
    """An open packet ring, the kernel's drops where they can be had, and who owns the sockets."""

    def __init__(
        self,
        live: _native.Live,
        names: Mapping[int, str],
        owners: LiveOwners,
        addresses: Sequence[LocalAddress],
    ) -> None:
        self._live = live
        self._names = names
        self._owners = owners
        self._host = HostState("", addresses)
        self.without_drops = live.without_drops

    def start(self, write: Path | None = None, size: int = 0) -> None:
        """Begin to read, with the privileges that are left. Raises OSError if `write` cannot be written."""
        self._live.start(write, size)

    def stop(self) -> None:
        """Read what has come, and end; what was seen can still be had."""
        self._live.stop()

    def seen(self) -> Seen:
        """The case so far. Its sources: what the kernel itself tells, its socket tables, the interfaces."""
        self._owners.learn()
        tally, conversations, unjudged, drops = self._live.look(MOST)
        now = time.time_ns()
        damage = [f"{tally.lost} packets were lost: the ring was full"] if tally.lost else []
        told = tally.drops + tally.errors_sent
        sources = [
            Source(
                path=TRACEPOINTS,
                kind="drops",
                packets=told,
                datagrams=tally.drops,
                icmp_errors=tally.errors_sent,
                last_ns=now,
            )
        ]
        sources.append(Source("/proc/net/udp", "sockets", last_ns=now))
        sources += [
            Source(
                path=self._names.get(index) or f"interface {index}",
                kind="live",
                packets=packets,
                datagrams=datagrams,
                icmp_errors=errors,
                skipped=packets - datagrams - errors,
                damage=damage,
                last_ns=now,
            )
            for index, packets, datagrams, errors in tally.interfaces
        ]
        case = Case(
            sources,
            tables=self._owners.tables(),
            conversations=conversations,
            drops=[replace(one, process=self.owner(one.destination, one.source)) for one in drops],
            hosts=[self._host],
            unjudged=unjudged,
        )
        return Seen(case, tally)

    def glance(self) -> _native.LiveTally:
        """How the reading goes, which costs far less than the case; new sockets are noted."""
        self._owners.learn()
        return self._live.tally()

    def latest(self, most: int) -> list[tuple[Endpoint, Endpoint, int, int, int | None]]:
        """Client, server, requests, replies and last time of conversations, the latest first."""
        return self._live.latest(most)

    def learn_again(self) -> None:
        """Look once more for owners that were not found."""
        self._owners.learn_again()

    def owner(self, local: Endpoint, peer: Endpoint | None = None) -> str | None:
        """The program whose socket has, or had, this local end; with its container, if it is in one."""
        return self._owners.of(local, peer)

    def want(self, ends: Sequence[tuple[Endpoint, Endpoint | None]]) -> None:
        """Write the packets between two endpoints each, those that are still in memory too."""
        self._live.want(
            [((one.address, one.port), (other.address, other.port) if other else None) for one, other in ends]
        )


def open_live(namespace: Namespace, interfaces: Sequence[str], *, whole: bool) -> LiveEvidence:
    """Open the ring inside a network namespace; nothing is read before `start`.

    `interfaces` by their names; without any, all. `whole`: keep packets whole, to write them. Raises OSError:
    PermissionError without CAP_NET_RAW there.
    """

    def look() -> LiveEvidence:
        indices = [socket.if_nametoindex(name) for name in interfaces]
        names = dict(socket.if_nameindex())
        inode = os.stat("/proc/thread-self/ns/net").st_ino  # noqa: PTH116
        addresses: list[LocalAddress] = []
        with suppress(NoIp):
            addresses = local_addresses()
        snapshot = WHOLE if whole else SNAPSHOT
        live = _native.Live(indices, snapshot=snapshot, memory=RING, namespace=inode & 0xFFFF_FFFF)
        return LiveEvidence(live, names, LiveOwners(), addresses)

    return inside(namespace, look)
