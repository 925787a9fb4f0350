"""What the kernel's socket tables said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from udpkit.facts.endpoint import Endpoint
from udpkit.facts.reference import Reference


@dataclass(frozen=True, slots=True)
class SocketEntry:
    """One UDP socket. `peer` is None while it is unconnected.

    `inode` identifies the socket across tables; `process` is the name of a program that holds it; both are
    None where the table does not tell. `drops` counts datagrams that did not fit its receive buffer, `queued`
    is what waits in it, in bytes with the kernel's overhead. `device` is the interface that it is bound to.

    `options` has what getsockopt(2) tells, by the option's name (`IP_PKTINFO`: 1); what is not in it is not
    known. `names_port`: the program's command line has the port in it, so that it was chosen; `names_peer`:
    it has the peer's port in it, as a client's has.
    """

    seen: Reference
    local: Endpoint
    peer: Endpoint | None
    inode: int | None = None
    process: str | None = None
    drops: int | None = None
    queued: int | None = None
    pid: int | None = None
    container: str = ""
    device: str = ""
    options: Mapping[str, int] = field(default_factory=dict, hash=False)
    names_port: bool = False
    names_peer: bool = False


@dataclass(frozen=True, slots=True)
class SocketTable:
    """A host's UDP sockets at one moment. `time_ns` is since the epoch, None where it was not noted.

    `host` is whose they are, where that is known: tables of different hosts must not be compared.
    """

    entries: Sequence[SocketEntry]
    time_ns: int | None = None
    host: str = ""
