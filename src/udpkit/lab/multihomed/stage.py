"""The hosts on which a server is tested: one with an address of every sort, and a client beside it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from udpkit.facts import Address
from udpkit.lab.host import Host
from udpkit.lab.lab import Lab
from udpkit.lab.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Place:
    """An address of the server's: what sort it is, and on which of its interfaces."""

    what: str
    address: Address
    interface: str
    length: int


def _place(what: str, prefix: str, interface: str) -> Place:
    address, _, length = prefix.partition("/")
    return Place(what, ip_address(address), interface, int(length))


PLACES = (
    _place("first", "192.0.2.1/24", "eth0"),
    _place("secondary", "192.0.2.9/24", "eth0"),
    _place("second interface", "198.51.100.1/24", "eth1"),
    _place("bridge", "172.17.0.1/16", "br0"),
    _place("alias on lo", "203.0.113.1/32", "lo"),
    _place("global", "2001:db8::1/64", "eth0"),
    _place("second global", "2001:db8::9/64", "eth0"),
    _place("unique local", "fd00:db8::1/64", "eth0"),
    _place("link-local", "fe80::1/64", "eth0"),
    _place("second interface", "2001:db8:1::1/64", "eth1"),
    _place("bridge", "fd00:17::1/64", "br0"),
    _place("alias on lo", "2001:db8:ff::1/128", "lo"),
)
"""Documentation prefixes (RFC 5737, RFC 3849), docker's default network, unique local ones (RFC 4193)."""

CLIENT = ("192.0.2.2/24", "2001:db8::2/64", "fd00:db8::2/64", "fe80::2/64")
"""Of the client, on the server's eth0; what else the server has it reaches through the first ones."""
DEFAULT_ROUTES = ("192.0.2.1", "2001:db8::1")
QUIET = {
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.addr_gen_mode": 1,  # no link-local address but ours
    "net.ipv4.icmp_ratelimit": 0,  # every datagram that nobody takes is refused
    "net.ipv6.icmp.ratelimit": 0,
}


@dataclass(frozen=True, slots=True)
class Stage:
    server: Host
    client: Host
    scope: int
    """The index of the client's interface, which a link-local address needs (RFC 4007)."""


def build(lab: Lab) -> Stage:
    """Make both hosts; their addresses can be asked when it returns. Raises LabError."""
    server, client = lab.host("server"), lab.host("client")
    for host in (server, client):
        for name, value in QUIET.items():
            host.sysctl(name, value)
    server.bridge("br0")
    lab.link(server, "eth0", client, "eth0")
    for interface in ("eth1", "br0"):
        lab.plug(server, interface)
    for place in PLACES:
        server.address(place.interface, f"{place.address}/{place.length}")
    client.address("eth0", *CLIENT)
    for gateway in DEFAULT_ROUTES:
        client.ip(f"{'-6 ' if ':' in gateway else ''}route add default via {gateway}")
    wait_until(
        lambda: _are_usable(server) and _are_usable(client),
        timeout=20,
        what="an IPv6 address has no local route",
        polling=True,
    )
    [scope] = {int(line.split()[1], 16) for line in _table(client, "if_inet6") if line.endswith("eth0")}
    return Stage(server, client, scope)


def _are_usable(host: Host) -> bool:
    """The kernel adds the local route a moment after the address."""
    addresses = {line.split()[0] for line in _table(host, "if_inet6")}
    routes = (line.split() for line in _table(host, "ipv6_route"))
    return addresses <= {destination for destination, length, *_ in routes if length == "80"}


def _table(host: Host, name: str) -> list[str]:
    return host.read(f"/proc/net/{name}").splitlines()
