"""Tables that copy the main one, on lab hosts."""

from __future__ import annotations

from pathlib import Path

import pytest
from sockets.serving import wait_for_addresses

from fixes.cgroup.conftest import as_root
from udpkit.evidence.namespaces import Namespace, inside
from udpkit.fixes.cgroup import Keeper, tables
from udpkit.lab import Lab

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
        with Keeper(cgroup, namespace=namespace, only=True) as keeper:
            for version in tables.FAMILIES:
                found = inside(namespace, lambda: tables.look(version))  # noqa: B023
                assert [*found.ours.values()] == [found.main] * 2
                assert sum("eth1" in route for route in found.main) == 1
            asked: list[str] = []
            monkeypatch.setattr(tables, "batch", lambda _, lines: asked.extend(lines))
            for one in keeper._served.values():
                one.follow()
            assert asked == []  # else it would be news, and answered without end
            monkeypatch.undo()
