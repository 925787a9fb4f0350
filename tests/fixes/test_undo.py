"""Applied and undone on real hosts, a fix leaves everything as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fixes.build import FOUR, SIX, finding
from udpkit.diagnosis import Finding
from udpkit.fixes import FIXES, fill
from udpkit.lab import Host, Lab, ProgramMissing

SEVERAL = {
    "198.51.100.0/24": ["172.16.13.1", "172.16.13.2"],
    "2001:db8:9::/64": ["fd00:16::1", "fd00:16::2"],
}
"""Networks behind several routers."""


@pytest.fixture
def server() -> Iterator[Host]:
    """The server of docker0-nc in both families; eth0 leads to clients behind a router, too."""
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        # No link-local addresses of the kernel's: their routes would come a second or two later.
        server.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)
        lab.plug(server, "eth0")
        server.address("eth0", "172.16.13.13/24", "fd00:16::13/64")
        server.bridge("docker0", "172.17.0.1/16", "fd00:17::1/64")
        lab.link(client, "eth0", server, "docker0")
        server.ip("route add default via 172.16.13.1")
        server.ip("route add 10.0.0.0/8 via 172.16.13.1 src 172.16.13.13 metric 100")
        server.ip("-6 route add default via fd00:16::1")
        for network, routers in SEVERAL.items():
            server.ip(f"route add {network} " + " ".join(f"nexthop via {one} dev eth0" for one in routers))
        yield server


def state(host: Host) -> dict[str, object]:
    """Routes, policy rules and firewall rules; without counters, comments and tables that are empty.

    The kernel adds multicast routes and takes `linkdown` away on its own, once a new bridge has its carrier.
    """
    looks: dict[str, object] = {
        line: [
            route.replace(" linkdown", "")
            for route in host.ip(line).splitlines()
            if not route.startswith("multicast ff00::/8")
        ]
        for line in ("-4 route show table all", "-6 route show table all", "-4 rule", "-6 rule")
    }
    for tool in ("iptables-save", "ip6tables-save"):
        looks[tool] = [line for line in host.shell(tool).splitlines() if line.startswith(("-A", "-N"))]
    return looks


FINDINGS = {
    "IPv4": FOUR,
    "IPv6": SIX,
    "IPv4 behind a router": finding("192.0.2.3", "172.17.0.1", "172.16.13.13"),
    "IPv4 behind a route with src": finding("10.9.9.9", "172.17.0.1", "172.16.13.13"),
    "IPv4 behind several routers": finding("198.51.100.9", "172.17.0.1", "172.16.13.13"),
    "IPv6 behind several routers": finding("2001:db8:9::9", "fd00:17::1", "fd00:16::13"),
    "IPv6 behind a router": finding("2001:db8::3", "fd00:17::1", "fd00:16::13"),
}


@pytest.mark.parametrize("finding", FINDINGS.values(), ids=FINDINGS.keys())
@pytest.mark.parametrize("fix_id", [fix_id for fix_id, fix in FIXES.items() if fix.commands and fix.tried])
def test_undo_leaves_routes_rules_and_firewall_as_they_were(
    server: Host, fix_id: str, finding: Finding
) -> None:
    fix = FIXES[fix_id]
    placeholders = fix.placeholders(finding)
    try:
        before = state(server)
        for line in fix.commands:
            server.shell(fill(line, placeholders))
    except ProgramMissing as missing:
        pytest.skip(str(missing))
    assert state(server) != before
    for line in fix.undo:
        server.shell(fill(line, placeholders))
    assert state(server) == before


@pytest.mark.parametrize("finding", FINDINGS.values(), ids=FINDINGS.keys())
def test_a_route_with_src_makes_the_kernel_prefer_the_address_that_was_asked(
    server: Host, finding: Finding
) -> None:
    look = f"route get {finding.client.address}"
    assert f" src {finding.server.address} " not in server.ip(look)
    server.shell(FIXES["route-src"].command(finding))
    assert f" src {finding.server.address} " in server.ip(look)
