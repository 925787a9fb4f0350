"""A network namespace's own addresses as the programs are told of them, with marks, rules and tables."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address

from udpkit._native import CgroupFix
from udpkit.evidence import namespaces
from udpkit.evidence.namespaces import Namespace, inside
from udpkit.facts import Address
from udpkit.fixes.cgroup import tables
from udpkit.fixes.cgroup.tables import Network, Tables

MARKS = 255
"""Addresses of a namespace that can have a mark."""
MOST_COPIES = 4096
"""Of routes, for each family; with more there are no marks. So many take ip(8) about a second."""
MOST_LOCAL = 8192
"""Local addresses and networks of a namespace that are told; the programs have room for 65536 of all."""
GROUPS = 0x10 | 0x40 | 0x100 | 0x400
"""Addresses and routes, of IPv4 and IPv6 (linux/rtnetlink.h, RTMGRP_*)."""
HEADER = struct.Struct("=IH10x")
"""Length and type of a message (linux/netlink.h)."""
ADDRESS_HEADER = 8
"""Bytes of struct ifaddrmsg (linux/if_addr.h); its third are flags."""
NOT_YET = 0x40 | 0x08
"""IFA_F_TENTATIVE, IFA_F_DADFAILED."""
ATTRIBUTE = struct.Struct("=HH")
RTM_NEWADDR, RTM_DELADDR, IFA_ADDRESS, IFA_LOCAL = 20, 21, 1, 2


class Addresses:
    """Of one namespace, for one fix. `close` takes back what was changed.

    connect: with marks, rules and tables, for programs that connect() their listener.
    """

    def __init__(self, namespace: Namespace, fix: CgroupFix, *, connect: bool) -> None:
        """Raises OSError."""
        self._connect = connect
        # By a descriptor of our own: the process whose namespace it is may end before others in it.
        self._descriptor = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
        self.namespace = Namespace(namespace.name, f"/proc/self/fd/{self._descriptor}")
        self._fix = fix
        try:
            self.news, self._scope = inside(self.namespace, self._open)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._told: dict[Network, int] = {}
        self._links: Counter[Network] = Counter()
        self._numbers: dict[Address, int] = {}
        self.behind = False
        """Whether the last `follow` has failed."""
        self.sentence = ""
        """What could not be done."""

    def _open(self) -> tuple[socket.socket, int]:
        news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        try:
            news.bind((0, GROUPS))
            return news, namespaces.cookie() if self._fix.namespaces else 0
        except BaseException:
            news.close()
            raise

    def fileno(self) -> int:
        """Readable when routes or addresses have changed."""
        return self.news.fileno()

    def hear(self) -> None:
        """Take in the news. What has gone is no source any more, what has come is; `follow` does the rest."""
        while True:
            try:
                news = self.news.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:  # some was lost, which is news as well
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            for network, is_there in changes_of(news):
                if not is_there:
                    self._links[network] -= 1
                if is_there and network not in self._told and len(self._told) < MOST_LOCAL:
                    mark = self._mark(network, self._numbers)
                    with suppress(OSError):  # there is no more room
                        self._fix.tell([((self._scope, *network), mark)], [])
                        self._told[network], self._links[network] = mark, 1
                elif network in self._told and self._links[network] <= 0:
                    self._fix.tell([], [(self._scope, *network)])
                    del self._told[network]

    def follow(self, instances: Container[int] = range(1 << 16)) -> None:
        """Bring the programs, the rules and the tables into step with the namespace. Raises OSError.

        instances: of the fixes that are loaded; rules and tables of others are what they have left, and go.
        """
        self.behind = True
        inside(self.namespace, lambda: self._follow(instances))
        self.behind = False

    def close(self) -> None:
        """Remove the rules and tables; no address is a source any more."""
        self.news.close()
        with suppress(OSError):  # the programs may be gone
            self._fix.tell([], [(self._scope, *network) for network in self._told])
        with suppress(OSError):
            inside(self.namespace, self._clear)
        os.close(self._descriptor)

    def _follow(self, instances: Container[int]) -> None:
        every = {version: tables.look(version) for version in tables.FAMILIES}
        numbers: dict[Address, int] = {}
        for version, found in every.items():
            numbers |= self._number(version, found)
        self._links = every[4].local + every[6].local
        if len(self._links) > MOST_LOCAL:
            self.sentence = f"{len(self._links)} local addresses: only {MOST_LOCAL} are known to programs"
            self._links = Counter(dict(itertools.islice(self._links.items(), MOST_LOCAL)))
        local = {network: self._mark(network, numbers) for network in self._links}
        changes = {
            version: self._changes(version, found, numbers, instances) for version, found in every.items()
        }
        for version, (added, _) in changes.items():
            tables.batch(version, added)
        come = [(network, mark) for network, mark in local.items() if self._told.get(network) != mark]
        gone = [network for network in self._told if network not in local]
        if come or gone:
            self._fix.tell(
                [((self._scope, *network), mark) for network, mark in come],
                [(self._scope, *network) for network in gone],
            )
        self._told = local
        for version, (_, removed) in changes.items():
            tables.batch(version, removed)

    def _mark(self, network: Network, numbers: Mapping[Address, int]) -> int:
        address, bits = network
        return self._fix.mark(numbers[address]) if bits == address.max_prefixlen and address in numbers else 0

    def _number(self, version: int, found: Tables) -> dict[Address, int]:
        """A number for each address that can be the `src` of a route, if there is more than one."""
        candidates = sorted(
            (
                address
                for address, bits in found.local
                if bits == address.max_prefixlen
                and not (address.is_loopback or (tables.is_link_local(address) and alone(address, found)))
            ),
            key=int,
        )
        if not self._connect:
            return {}
        if len(found.main) * len(candidates) > MOST_COPIES:
            self.sentence = (
                f"{len(found.main)} routes for each of {len(candidates)} addresses are too many: "
                "programs that connect() their socket stay as they are"
            )
            candidates = []
        for address in [one for one in self._numbers if one.version == version and one not in candidates]:
            del self._numbers[address]
        if len(candidates) < 2:
            return {}
        free = (number for number in range(1, MARKS + 1) if number not in set(self._numbers.values()))
        for address in candidates:
            if address not in self._numbers and (number := next(free, None)):
                self._numbers[address] = number
        return {one: self._numbers[one] for one in candidates if one in self._numbers}

    def _changes(
        self, version: int, found: Tables, numbers: dict[Address, int], instances: Container[int]
    ) -> tuple[list[str], list[str]]:
        """Lines for ip(8) to add what is missing, and to remove what is too much."""
        added: list[str] = []
        removed: list[str] = []
        wanted: set[int] = set()
        for address, number in numbers.items():
            if address.version == version:
                table, mark = tables.number(self._fix.instance, number), self._fix.mark(number)
                have = found.ours.get(table, set())
                routes = found.main
                if tables.is_link_local(address):  # an address of this interface, to neighbors on it
                    routes = {found.links[one] for one in found.own[address] if one in found.links}
                added += tables.filling(table, address, routes, have)
                removed += [f"route del {route} table {table}" for route in have - routes]
                if table not in found.rules:
                    added.append(f"rule add {tables.leading(mark, table)}")
                wanted.add(table)
        others = {*found.rules, *found.ours} - wanted
        left = {
            table
            for table in others
            if (instance := tables.instance_of(table)) == self._fix.instance or instance not in instances
        }
        return added, removed + tables.removal(left, found)

    def _clear(self) -> None:
        for version in tables.FAMILIES:
            found = tables.look(version)
            mine = {
                one for one in {*found.rules, *found.ours} if tables.instance_of(one) == self._fix.instance
            }
            tables.batch(version, tables.removal(mine, found))


def clear_left(instances: Container[int]) -> bool:
    """Remove, in every network namespace, the rules and tables of fixes that are not among these.

    Returns whether there were any. To be called locked.
    """

    def clear() -> bool:
        found_any = False
        for version in tables.FAMILIES:
            found = tables.look(version)
            left = {one for one in {*found.rules, *found.ours} if tables.instance_of(one) not in instances}
            tables.batch(version, tables.removal(left, found))
            found_any |= bool(left)
        return found_any

    cleared = []
    for namespace in namespaces.every(containers=False):
        with suppress(OSError):  # it has just gone
            cleared.append(inside(namespace, clear))
    return any(cleared)


def alone(address: Address, found: Tables) -> bool:
    """Whether no interface of a link-local address has another, so that nobody has a choice."""
    return all(not (found.own[address] & devices) for other, devices in found.own.items() if other != address)


def changes_of(news: bytes) -> Iterator[tuple[Network, bool]]:
    """The addresses that messages of rtnetlink(7) are about, and whether each is there from now on."""
    while len(news) >= HEADER.size:
        size, kind = HEADER.unpack_from(news)
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            message = news[HEADER.size : size]
            attributes = dict(attributes_of(message[ADDRESS_HEADER:]))
            address = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS) or b""
            is_there = kind == RTM_NEWADDR
            if len(address) in (4, 16) and not (is_there and message[2] & NOT_YET):
                yield (ip_address(address), 8 * len(address)), is_there
        news = news[max(-size % 4 + size, HEADER.size) :]


def attributes_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= ATTRIBUTE.size:
        size, kind = ATTRIBUTE.unpack_from(data)
        yield kind, data[ATTRIBUTE.size : size]
        data = data[max(-size % 4 + size, ATTRIBUTE.size) :]
