"""Tables that copy the main one, on lab hosts."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import pytest
from sockets.serving import wait_for_addresses

from fixes.cgroup.conftest import Inside, as_root
from udpkit._native import CgroupFix
from udpkit.evidence import namespaces
from udpkit.evidence.namespaces import Namespace, inside
from udpkit.fixes.cgroup import Keeper, addresses, cgroups, keeper, tables
from udpkit.fixes.cgroup.addresses import Addresses
from udpkit.lab import Lab, wait_until

pytestmark = as_root


def test_two_interfaces_in_one_network_are_both_in_each_table(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lab() as lab:
        host = lab.host("host")
        for number, interface in enumerate(("eth0", "eth1"), 1):
            lab.plug(host, interface)
            host.address(interface, f"10.0.0.{number}/24", f"fd00::{number}/64")
        wait_for_addresses(host)
        namespace = Namespace("host", host.namespace)
        with Keeper(cgroup, namespace=namespace, only=True) as fix:
            for version in tables.FAMILIES:
                found = inside(namespace, lambda: tables.look(version))  # noqa: B023
                assert [*found.ours.values()] == [found.main] * 2
                assert sum("eth1" in route for route in found.main) == 1
            asked: list[str] = []
            monkeypatch.setattr(tables, "batch", lambda _, lines: asked.extend(lines))
            for one in fix._served.values():
                one.follow()
            assert asked == []  # else it would be news, and answered without end
            monkeypatch.undo()


class Told:
    """In place of the programs: the addresses that they know."""

    namespaces, instance, is_full = True, 1, False

    def __init__(self) -> None:
        self.known: set[tuple[object, ...]] = set()

    def mark(self, number: int) -> int:
        return number

    def tell(
        self, come: Iterable[tuple[tuple[object, ...], int]], gone: Iterable[tuple[object, ...]]
    ) -> None:
        new = {one for one, _ in come}
        if new and self.is_full:
            raise OSError(errno.ENOSPC, "full")
        self.known |= new
        self.known -= set(gone)


def test_of_a_namespace_that_is_let_go_no_address_is_known_any_more() -> None:
    """They may go before it is served again, and nobody would notice."""
    with Lab() as lab:
        host = lab.host("host")
        lab.plug(host, "eth0")
        host.address("eth0", "10.0.0.1/24", "10.0.0.2/24")
        told = Told()
        one = Addresses(Namespace("host", host.namespace), cast(CgroupFix, told), connect=True)
        one.follow()
        assert told.known
        one.close()
        assert not told.known


def test_an_address_is_known_while_any_interface_has_it() -> None:
    """It may move from one to the other (VRRP), and news comes before the rest is in step."""
    with Lab() as lab:
        host = lab.host("host")
        for interface in ("eth0", "eth1"):
            lab.plug(host, interface)
        told = Told()
        one = Addresses(Namespace("host", host.namespace), cast(CgroupFix, told), connect=False)
        try:
            one.follow()
            for change, is_there in [
                ("add eth0", True),
                ("add eth1", True),
                ("del eth0", True),
                ("del eth1", False),
            ]:
                what, interface = change.split()
                host.ip(f"address {what} 10.0.0.1/24 dev {interface}")
                one.hear()
                assert any(ip_address("10.0.0.1") in known for known in told.known) is is_there
                if (change, is_there) == ("add eth1", True):
                    one.follow()
        finally:
            one.close()


def test_what_would_take_too_long_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address has its copy of the main table."""
    with Lab() as lab:
        host = lab.host("host")
        lab.plug(host, "eth0")
        host.address("eth0", *(f"10.0.0.{number}/24" for number in range(1, 10)))
        for network in range(9):
            host.ip(f"route add 10.1.{network}.0/24 via 10.0.0.99")
        told = Told()
        for most, rules in ((89, 0), (90, 9)):
            monkeypatch.setattr(addresses, "MOST_COPIES", most)
            one = Addresses(Namespace("host", host.namespace), cast(CgroupFix, told), connect=True)
            try:
                one.follow()
                assert host.ip("rule show").count("fwmark") == rules
                assert ("10 routes for each of 9 addresses" in one.sentence) is (rules == 0)
            finally:
                one.close()


def test_nobody_has_room_for_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with Lab() as lab:
        host = lab.host("host")
        lab.plug(host, "eth0")
        host.address("eth0", *(f"10.0.0.{number}/24" for number in range(1, 10)))
        monkeypatch.setattr(addresses, "MOST_LOCAL", 5)
        told = Told()
        one = Addresses(Namespace("host", host.namespace), cast(CgroupFix, told), connect=False)
        try:
            one.follow()
            one.follow()
            assert len(told.known) == 5
            assert "only 5" in one.sentence
            monkeypatch.setattr(addresses, "MOST_LOCAL", 99)
            host.address("eth0", "10.0.0.10/24")
            told.is_full = True
            one.hear()
            assert len(told.known) == 5
        finally:
            one.close()


def test_what_only_a_table_of_others_says_is_local_is_no_source() -> None:
    """For transparent proxies; the kernel refuses it as a source, and the answer would be lost."""
    with Lab() as lab:
        host = lab.host("host")
        host.ip("route add local 10.0.0.1 dev lo table 10 proto kernel")  # as for an interface of a VRF
        host.ip("route add local 198.51.100.0/24 dev lo table 100")
        host.ip("route add local 203.0.113.0/24 dev lo")
        local = inside(Namespace("host", host.namespace), lambda: tables.look(4)).local
        assert {str(address) for address, _ in local} >= {"10.0.0.1", "203.0.113.0"}
        assert "198.51.100.0" not in {str(address) for address, _ in local}


def test_who_comes_into_an_empty_cgroup_is_served_at_once(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "NAMESPACES_LOOKING", 1e9)
    with Lab() as lab, Keeper(cgroup, connect=False) as fix, ThreadPoolExecutor(1) as thread:
        own = Path(namespaces.own().path).stat().st_ino
        host = Path(lab.host("host").namespace).stat().st_ino
        assert fix._served.keys() == {own}  # that of most who will come
        ends = threading.Event()
        keeps = thread.submit(fix.keep, ends.is_set)
        try:
            for _ in range(2):
                program = Inside(lab.hosts["host"], cgroup).run("sleep", "60")
                wait_until(
                    lambda: fix._served.keys() == {own, host}, timeout=5, what="not served", polling=True
                )
                program.stop()
                wait_until(lambda: not cgroups.populated(cgroup), timeout=5, what="it lives", polling=True)
                with cgroups.locked():
                    fix._serve()
                assert fix._served.keys() == {own}
        finally:
            ends.set()
            keeps.result()
