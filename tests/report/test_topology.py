"""The drawing of a stage, letter by letter."""

from __future__ import annotations

from textwrap import dedent

import pytest

from udpkit.lab.experiment import HostPlan, Interface
from udpkit.report.topology import topology


def host(*routes: str, **interfaces: Interface) -> HostPlan:
    return HostPlan(interfaces=interfaces, routes=list(routes))


def cable(*addresses: str, to: str | None = None) -> Interface:
    return Interface(addresses=list(addresses), link=to)


def bridge(*addresses: str) -> Interface:
    return Interface(kind="bridge", addresses=list(addresses))


DRAWINGS = {
    "a host with nothing": ({"bare": host()}, "bare"),
    "a host alone": (
        {"alone": host(eth0=cable("192.0.2.1/24", "2001:db8::1/64"), docker0=bridge())},
        """
        alone
          eth0     192.0.2.1/24 2001:db8::1/64
          docker0  (bridge)
        """,
    ),
    "two hosts on a cable": (
        {"a": host(eth0=cable("192.0.2.1/24")), "b": host(eth0=cable("192.0.2.2/24", to="a.eth0"))},
        """
        a
          eth0  192.0.2.1/24 ─── b  eth0  192.0.2.2/24
        """,
    ),
    "two hosts on two cables": (
        {
            "a": host(eth0=cable("10.1.0.1/24"), eth1=cable("10.2.0.1/24")),
            "b": host(eth0=cable("10.1.0.2/24", to="a.eth0"), eth1=cable("10.2.0.2/24", to="a.eth1")),
        },
        """
        a
          eth0  10.1.0.1/24 ─── b  eth0  10.1.0.2/24
          eth1  10.2.0.1/24 ─── b  eth1  10.2.0.2/24
        """,
    ),
    "a macvlan": (
        {
            "a": host(eth0=cable("192.0.2.1/24")),
            "b": host(eth0=Interface(kind="macvlan", addresses=["192.0.2.2/24"], link="a.eth0")),
        },
        """
        a
          eth0  192.0.2.1/24 ─── b  eth0  192.0.2.2/24 (macvlan)
        """,
    ),
    "a bridge with three ports": (
        {
            "server": host(eth0=cable("198.51.100.1/24"), br0=bridge("10.0.0.1/24")),
            "a": host("default via 10.0.0.1", eth0=cable("10.0.0.2/24", to="server.br0")),
            "b": host(eth0=cable("10.0.0.3/24", to="server.br0")),
            "c": host(eth0=cable("10.0.0.4/24", to="server.br0")),
        },
        """
        server
          eth0  198.51.100.1/24
          br0   10.0.0.1/24 (bridge) ┬── a (default via 10.0.0.1)  eth0  10.0.0.2/24
                                     ├── b  eth0  10.0.0.3/24
                                     └── c  eth0  10.0.0.4/24
        """,
    ),
    "a chain with two routers": (
        {
            "a": host(eth0=cable("10.1.0.2/24")),
            "r1": host(eth0=cable("10.1.0.1/24", to="a.eth0"), eth1=cable("10.2.0.1/24")),
            "r2": host(eth0=cable("10.2.0.2/24", to="r1.eth1"), eth1=cable("10.3.0.1/24", to="b.eth0")),
            "b": host(eth0=cable("10.3.0.2/24")),
        },
        """
        a
          eth0  10.1.0.2/24 ─── r1  eth0  10.1.0.1/24
        r1
          eth0  10.1.0.1/24 ─── a
          eth1  10.2.0.1/24 ─── r2  eth0  10.2.0.2/24
        b
          eth0  10.3.0.2/24 ─── r2  eth1  10.3.0.1/24
        """,
    ),
    "a chain": (
        {
            "a": host("default via 10.1.0.1", eth0=cable("10.1.0.2/24", to="router.eth0")),
            "router": host(eth0=cable("10.1.0.1/24"), eth1=cable("10.2.0.1/24", to="b.eth0")),
            "b": host("default via 10.2.0.1", eth0=cable("10.2.0.2/24")),
        },
        """
        router
          eth0  10.1.0.1/24 ─── a (default via 10.1.0.1)  eth0  10.1.0.2/24
          eth1  10.2.0.1/24 ─── b (default via 10.2.0.1)  eth0  10.2.0.2/24
        """,
    ),
}


@pytest.mark.parametrize(("hosts", "drawing"), DRAWINGS.values(), ids=DRAWINGS.keys())
def test_a_stage_is_drawn_like_this(hosts: dict[str, HostPlan], drawing: str) -> None:
    assert "\n".join(topology(hosts)) == dedent(drawing).strip()
