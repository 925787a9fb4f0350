"""What a rule says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from udpkit.facts import Address, Endpoint, Network, Reference

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Offer:
    """A fix, worded for one finding. `verified` says whether it helped when it was tried; None: not tried."""

    id: str
    command: str
    tradeoff: str
    verified: bool | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, once for each client and server that it hits.

    `client` is a network where all its hosts are hit, and None where nobody knows whom it hits; `server` is
    None where no single one is at fault. `actual` is what came instead of `server`, where that applies.
    `listener` is the wildcard on which the server waits, where that is known and is not `server`.
    `first` and `last` are nanoseconds since the epoch, None where the evidence has no times. `why` has a step
    for each thing that a kernel did. `translated`: `server` is an address that NAT sent on to `actual`.
    `second`: the listener is connected to another client than this one. `payload`: how many bytes of it the
    path takes, where an ICMP error told.
    """

    code: str
    severity: Severity
    summary: str
    client: Endpoint | Network | None
    server: Endpoint | None
    actual: Endpoint | None
    process: str | None
    count: int
    first: int | None
    last: int | None
    why: Sequence[str]
    evidence: Sequence[Reference]
    fixes: Sequence[Offer] = ()
    listener: Endpoint | None = None
    translated: bool = False
    second: bool = False
    payload: int | None = None

    @property
    def is_fault(self) -> bool:
        """Notes explain what is as it should be."""
        return self.severity != "note"

    @property
    def clients(self) -> Address | Network | None:
        """Whom it hits, whatever the port: findings that differ in it alone are told as one."""
        return self.client.address if isinstance(self.client, Endpoint) else self.client
