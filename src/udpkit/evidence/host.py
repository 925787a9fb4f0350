"""A live host: its sockets, routes, counters and translations, looked at from inside a namespace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from udpkit.evidence.conntrack import read_entries, stale_entries
from udpkit.evidence.counters import udp_counters
from udpkit.evidence.host_sockets import host_sockets
from udpkit.evidence.namespaces import Namespace, inside
from udpkit.evidence.nat.listing import read_rules
from udpkit.evidence.owners import Holder
from udpkit.evidence.routes import NoIp, client_ports, local_addresses, source_choices
from udpkit.facts import HostState, SocketTable, StaleEntry

MOST_STALE = 1000
"""Conntrack entries that are told one by one."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a namespace showed. `missing` has a sentence for each thing that could not be seen."""

    namespace: Namespace
    table: SocketTable
    state: HostState
    missing: list[str] = field(default_factory=list)


def look_at(namespace: Namespace, holders: Mapping[int, Holder], *, source: int = 0) -> Look:
    """Look at a namespace. Raises OSError if it cannot be entered."""
    return inside(namespace, lambda: _look(namespace, holders, source))


def _look(namespace: Namespace, holders: Mapping[int, Holder], source: int) -> Look:
    name, privileged = namespace.name, os.geteuid() == 0
    missing: list[str] = []
    table = host_sockets(holders, source=source, host=name)
    state = HostState(name, counters=udp_counters(), client_ports=client_ports())
    if unknown := sum(not entry.options for entry in table.entries):
        theirs = "they are the kernel's own, or of processes that may not be looked at"
        missing.append(
            f"the options of {unknown} of {len(table.entries)} sockets are unknown, and so whom those will "
            f"answer from a wrong address: {theirs if privileged else 'root would add both'}"
        )
    try:
        addresses = local_addresses()
        choices, uplinks = source_choices(addresses)
    except NoIp as error:
        missing.append(f"no routes were looked up: {error}")
        return Look(namespace, table, state, missing)
    rules, entries = read_rules(), read_entries()
    stale: list[StaleEntry] = []
    if rules is None or entries is None:
        what = "the NAT rules" if rules is None else "conntrack's entries"
        why = "" if privileged else ": root would add them"
        missing.append(f"{what} could not be read, so stale entries are unknown{why}")
    elif entries:
        own = {one.address for one in addresses}
        ports = {entry.local.port for entry in table.entries if entry.peer is None}
        with suppress(NoIp):
            stale = stale_entries(entries, rules, own, ports)
        if len(stale) > MOST_STALE:
            missing.append(f"of {len(stale)} stale conntrack entries only {MOST_STALE} are told")
            del stale[MOST_STALE:]
    state = HostState(
        name,
        addresses,
        choices,
        state.counters,
        stale,
        uplinks,
        state.client_ports,
        rules.ports() if rules is not None else (),
    )
    return Look(namespace, table, state, missing)
