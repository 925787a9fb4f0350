"""What the kernel's socket tables said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from udpkit.facts.endpoint import Endpoint
from udpkit.facts.reference import Reference


@dataclass(frozen=True, slots=True)
class SocketEntry:
    """One UDP socket. `peer` is None while it is unconnected.

    `inode` identifies the socket across tables; `process` is the name of a program that holds it; both are
    None where the table does not tell. `drops` counts datagrams that did not fit its receive buffer.
    """

    seen: Reference
    local: Endpoint
    peer: Endpoint | None
    inode: int | None = None
    process: str | None = None
    drops: int | None = None


@dataclass(frozen=True, slots=True)
class SocketTable:
    """A host's UDP sockets at one moment. `time_ns` is since the epoch, None where it was not noted.

    `host` is whose they are, where that is known: tables of different hosts must not be compared.
    """

    entries: Sequence[SocketEntry]
    time_ns: int | None = None
    host: str = ""
