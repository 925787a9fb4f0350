"""What a host would do: its addresses, the sources that its routes choose, counters, translations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from udpkit.facts.endpoint import Address, Endpoint, Network


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address of the host, its subnet and its interface."""

    address: Address
    network: Network
    interface: str


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """The source that a real route look-up chose for a datagram to `network`, asked for `asked` in it.

    `connected`: the network is on the interface's link, and no router is between; else `gateway` is the
    address of that, where it has one.
    """

    network: Network
    asked: Address
    source: Address
    interface: str
    connected: bool = False
    gateway: Address | None = None


@dataclass(frozen=True, slots=True)
class StaleEntry:
    """A conntrack entry that sends a flow where its NAT rule would not send a new one, or to nobody.

    `client` and `server` are the ends of its original direction; `target` is where it is translated to.
    `reason` says why it is stale.
    """

    client: Endpoint
    server: Endpoint
    target: Endpoint
    reason: str


@dataclass(frozen=True, slots=True)
class HostState:
    """One network namespace. `name` is empty for the caller's own.

    `counters` are those of /proc/net/snmp, snmp6 and netstat by nstat's names (`UdpRcvbufErrors`). `uplinks`
    are the interfaces that have a router behind them. `client_ports`: the first and the last port that the
    kernel gives to sockets that did not choose one. `translated` are the UDP ports whose datagrams NAT rules
    may send elsewhere before any socket sees them; None: any port.
    """

    name: str
    addresses: Sequence[LocalAddress] = ()
    choices: Sequence[SourceChoice] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    stale: Sequence[StaleEntry] = ()
    uplinks: Collection[str] = ()
    client_ports: tuple[int, int] = (32768, 60999)
    translated: Sequence[range] | None = ()
