"""Rules and routing tables of the calling thread's namespace, as ip(8) has them."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_network

from udpkit.facts import Address

PROTOCOL = 117
"""Of our rules and routes: `u`, which nobody has in rt_protos."""
PREFERENCE = 32765
"""Of our rules: the last before the main table, so that rules of others decide where a datagram goes."""
PATIENCE = 20
"""Seconds that ip(8) has."""
ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
FAMILIES = {4: "-4", 6: "-6"}

TABLES = 0x75000000
"""The first byte of the numbers of our tables; two for the fix, and one for the address, follow."""
RULE = re.compile(r"\d+:\s")
OURS = re.compile(rf"\bfwmark 0x(7564[0-9a-f]{{4}}) lookup (\d+) proto {PROTOCOL}\b")
KINDS = {"local", "broadcast", "multicast", "anycast", "unreachable", "blackhole", "prohibit", "throw", "nat"}
REFUSALS = {"unreachable", "blackhole", "prohibit", "throw"}
NOT_COPIED = {"table", "proto", "src", "expires", "error"}
"""Words with one argument that a copy of a route has not, or has its own of."""
STATES = {"linkdown", "dead", "offload", "rt_offload", "trap", "rt_trap"}

Network = tuple[Address, int]
"""Local addresses: the first, and the bits of the prefix."""


class NoIp(OSError):
    """ip(8) does not do what it should."""


@dataclass(slots=True)
class Tables:
    """What a namespace has, of one family. Routes are ip(8)'s words without `src`, `table` and `proto`."""

    local: Counter[Network] = field(default_factory=Counter)
    """On how many interfaces each is."""
    main: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    """By interface the route to its link-local neighbors."""
    own: dict[Address, set[str]] = field(default_factory=dict)
    """The interfaces of link-local addresses."""
    ours: dict[int, set[str]] = field(default_factory=dict)
    """Routes of any fix, by table."""
    rules: dict[int, int] = field(default_factory=dict)
    """The marks of rules of any fix, by the table that they lead to."""


def number(instance: int, address: int) -> int:
    """The table of a fix for one of its addresses."""
    return TABLES | instance << 8 | address


def instance_of(table: int) -> int:
    """The fix that a table of ours belongs to."""
    return table >> 8 & 0xFFFF


def look(version: int) -> Tables:
    """What there is now. Raises NoIp."""
    found = Tables()
    asked = ip(FAMILIES[version], "-o", "-batch", "-", lines=["route show table all", "rule show"])
    if not asked and version == 4:  # which every namespace has, and the ip of BusyBox does not tell so
        raise NoIp("ip tells no routes and rules: that of iproute2 is needed")
    for line in asked.splitlines():
        if match := RULE.match(line):
            if ours := OURS.search(line, match.end()):
                found.rules[int(ours[2])] = int(ours[1], 16)
            continue
        words = line.replace("\\", " ").split()
        kind = words[0] if words[0] in KINDS else "unicast"
        table, is_ours, route = split(words)
        # Where others lead to us, for transparent proxies, are addresses that the kernel takes as no source.
        if kind == "local" and len(words) > 1 and (table == "local" or "proto kernel" in line):
            with suppress(ValueError):
                network = ip_network(words[1])
                found.local[network.network_address, network.prefixlen] += 1
                if is_link_local(network.network_address):
                    found.own.setdefault(network.network_address, set()).add(device(words))
        elif kind not in {"unicast", *REFUSALS}:
            continue
        elif table == "main" and route.startswith("fe80::"):
            if route.startswith("fe80::/64 "):
                found.links[device(words)] = route
        elif table == "main":
            found.main.add(route)
        elif is_ours and table.isdecimal() and int(table) & 0xFF000000 == TABLES:
            found.ours.setdefault(int(table), set()).add(route)
    return found


def device(words: list[str]) -> str:
    """The interface of a route; empty if it has none."""
    return dict(itertools.pairwise(words)).get("dev", "")


def is_link_local(address: Address) -> bool:
    """Whether it may be there on several interfaces."""
    return address.version == 6 and address.is_link_local


def split(words: list[str]) -> tuple[str, bool, str]:
    """Of a route: its table, whether it is one of ours, and what a copy of it has."""
    table, ours = "main", False
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in NOT_COPIED:
            value = next(rest, "")
            table = value if word == "table" else table
            ours |= word == "proto" and value == str(PROTOCOL)
        elif word not in STATES:
            kept.append(word)
    return table, ours, " ".join(kept)


def filling(table: int, source: Address, wanted: set[str], have: set[str]) -> list[str]:
    """Lines that add to a table the routes that it lacks, with this source."""
    # A router has to be reachable before a route can lead there. Appended, not replaced: two interfaces may
    # be in one network, with routes that differ in nothing else.
    return [
        f"route append {route} {'' if route.split()[0] in REFUSALS else f'src {source}'} table {table} "
        f"proto {PROTOCOL}"
        for route in sorted(wanted - have, key=lambda route: (" via " in route, route))
    ]


def leading(mark: int, table: int) -> str:
    """The rule that leads to a table, as ip(8) takes it."""
    return f"pref {PREFERENCE} fwmark {mark:#x} lookup {table} protocol {PROTOCOL}"


def removal(tables: Iterable[int], found: Tables) -> list[str]:
    """Lines that remove tables, and the rules that lead there."""
    tables = set(tables)
    rules = [f"rule del {leading(mark, table)}" for table, mark in found.rules.items() if table in tables]
    return rules + [f"route flush table {table}" for table in found.ours if table in tables]


def batch(version: int, lines: list[str]) -> None:
    """What fails has changed meanwhile, which there is news of."""
    if lines:
        ip(FAMILIES[version], "-force", "-batch", "-", lines=lines)


def ip(*arguments: str, lines: Iterable[str] = ()) -> str:
    """What ip(8) prints. Raises FileNotFoundError, NoIp."""
    # Ctrl-C and the like are for its whole group: they would end it while it removes what is ours. A session
    # of its own helps only once it has that; until then it is our mask that it has.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        done = subprocess.run(
            ["ip", *arguments],
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=PATIENCE,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise NoIp(f"ip did not answer in {PATIENCE} s") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if done.returncode < 0:
        raise NoIp(f"ip was ended by signal {-done.returncode}")
    return done.stdout
