"""A namespace's addresses, and the source that its routes choose for clients in each network they lead to.

Everything is asked of ip(8), and the choice of the kernel itself (`ip route get`): policy rules, metrics,
`src` and RFC 6724 need no model. Nothing is sent.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from udpkit.evidence.programs import PATIENCE, find
from udpkit.facts import Address, LocalAddress, Network, SourceChoice

MOST_NETWORKS = 256
"""That are looked up for each IP version; a router may have a million routes."""
ELSEWHERE = [*map(ip_address, ("198.51.100.77", "203.0.113.77", "192.0.2.77", "9.9.9.9", "1.1.1.1"))]
ELSEWHERE += map(ip_address, ("2001:db8:ffff::77", "2620:fe::fe", "2606:4700:4700::1111"))
"""Who stands for all clients of a default route: the first that no other route leads to."""
FIRST_TABLES = {"main", "default"}


@dataclass(frozen=True, slots=True)
class Route:
    """Of one network that may have clients. connected: they are on the link itself."""

    network: Network
    connected: bool


class NoIp(Exception):
    """ip(8) is missing, or did not answer."""


def local_addresses() -> list[LocalAddress]:
    """Of the calling thread's namespace. Raises NoIp."""
    return [
        LocalAddress(ip_address(told["local"]), interface.network, str(link["ifname"]))
        for link in ask_ip("address", "show")
        for told in link.get("addr_info", ())
        if "local" in told and "tentative" not in told
        for interface in [ip_interface(f"{told['local']}/{told['prefixlen']}")]
    ]


def source_choices(addresses: Iterable[LocalAddress]) -> tuple[list[SourceChoice], set[str]]:
    """A look-up for a client of each network: connected ones, routed ones, the rest. Raises NoIp.

    With them come the interfaces that have a router behind them.
    """
    uplinks: set[str] = set()
    own = {one.address for one in addresses}
    choices: list[SourceChoice] = []
    for family in ("-4", "-6"):
        routes = _routes(family, uplinks)
        clients = {client: route for route in routes if (client := _client(route, routes, own))}
        for client, told in _answers("".join(f"route get {client} ipproto udp\n" for client in clients)):
            with suppress(KeyError, ValueError):
                source = ip_address(told["prefsrc"])
                if "type" not in told and client not in own:
                    route = clients[client]
                    choices.append(
                        SourceChoice(
                            route.network, client, source, str(told["dev"]), route.connected, _gateway(told)
                        )
                    )
    return choices, uplinks


def choice_for(client: Address) -> SourceChoice | None:
    """The look-up for one client; None if there is no route to it, or it is the host itself. Raises NoIp."""
    for _, told in _answers(f"route get {client} ipproto udp\n"):
        if told.get("type", "unicast") == "unicast" and "prefsrc" in told:
            gateway = _gateway(told)
            return SourceChoice(
                ip_network(client),
                client,
                ip_address(told["prefsrc"]),
                str(told["dev"]),
                gateway is None,
                gateway,
            )
    return None


def _gateway(told: Mapping[str, Any]) -> Address | None:
    """`via` is one of the other IP version."""
    gateway = told.get("gateway") or told.get("via", {}).get("host")
    return ip_address(gateway) if gateway else None


def client_ports() -> tuple[int, int]:
    """The ports that the kernel gives to sockets that did not choose one (ip(7), ip_local_port_range)."""
    with suppress(OSError, ValueError):
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(low), int(high)
    return 32768, 60999


def _routes(family: str, uplinks: set[str]) -> list[Route]:
    """Connected networks first, then the widest: what is left out of many is the least."""
    tables = FIRST_TABLES | {str(rule.get("table")) for rule in ask_ip(family, "rule", "show")} - {"local"}
    everything = "0.0.0.0/0" if family == "-4" else "::/0"
    routes: dict[Network, Route] = {}
    for told in ask_ip(family, "route", "show", "table", "all"):
        if told.get("type", "unicast") != "unicast" or str(told.get("table", "main")) not in tables:
            continue
        with suppress(KeyError, ValueError):
            network = ip_network(everything if told["dst"] == "default" else told["dst"])
            hops = [told, *told.get("nexthops", ())]
            routers = {str(hop.get("dev")) for hop in hops if "gateway" in hop or "via" in hop}
            uplinks |= routers
            if not (network.is_link_local or network.is_multicast or network.is_loopback):
                routes.setdefault(network, Route(network, not routers))
    ordered = sorted(routes.values(), key=lambda route: (not route.connected, route.network.prefixlen))
    return ordered[:MOST_NETWORKS]


def _client(route: Route, routes: Sequence[Route], own: set[Address]) -> Address | None:
    """An address that this route leads to and no narrower one; not a subnet's own or its broadcast."""
    network = route.network
    narrower = [
        one.network
        for one in routes
        if one.network.prefixlen > network.prefixlen and one.network.subnet_of(network)  # type: ignore[arg-type]
    ]
    if network.num_addresses <= 2:
        candidates: Iterable[Address] = network
    elif network.prefixlen == 0:
        candidates = [one for one in ELSEWHERE if one.version == network.version]
    else:
        # Behind each narrower network there is room again.
        starts = [int(network[0]), *(int(one.broadcast_address) for one in narrower)]
        kind = type(network[0])
        room = min(8, network.num_addresses - 2)
        candidates = (kind(start + step) for start in starts for step in range(1, room + 1))
    return next(
        (
            one
            for one in candidates
            if one in network and one not in own and not any(one in other for other in narrower)
        ),
        None,
    )


def _answers(lines: str) -> Iterator[tuple[Address, Mapping[str, Any]]]:
    """What ip(8) answers to lines of `route get`, by destination; of those that fail nothing."""
    if not lines:
        return
    # A document for each line, on a line of its own.
    for document in run_ip(["-force", "-json", "-batch", "-"], lines).splitlines():
        with suppress(ValueError, KeyError, IndexError, TypeError):
            told = json.loads(document)[0]
            yield ip_address(told["dst"]), told


def ask_ip(*arguments: str) -> list[dict[str, Any]]:
    """The objects that ip(8) shows as JSON. Raises NoIp."""
    text = run_ip(["-json", *arguments], "")
    try:
        # Not strict: ip(8) prints control characters in names of interfaces as they are.
        return [one for one in json.loads(text or "[]", strict=False) if isinstance(one, dict)]
    except ValueError as error:
        raise NoIp(f"ip {' '.join(arguments)} said what is no JSON") from error


def run_ip(arguments: Sequence[str], text: str) -> str:
    """What ip(8) prints. Raises NoIp. That it fails for one of many look-ups is no error."""
    ip = find("ip")
    if ip is None:
        raise NoIp("the program ip (iproute2) is missing")
    try:
        run = subprocess.run(
            [ip, *arguments], input=text.encode(), capture_output=True, check=False, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoIp(f"ip {' '.join(arguments)} did not answer: {error}") from error
    return run.stdout.decode(errors="replace")


def interfaces_to(addresses: Iterable[Address]) -> dict[Address, str]:
    """The interface on the way to each address; those to which there is no way are missing. Raises NoIp."""
    lines = "".join(f"route get {address} ipproto udp\n" for address in addresses)
    return {address: str(told["dev"]) for address, told in _answers(lines) if "dev" in told}


def neighbours_that_fail() -> set[Address]:
    """Who does not answer ARP or neighbour discovery (ip-neighbour(8)). Raises NoIp."""
    failing: set[Address] = set()
    for told in ask_ip("neighbour", "show", "nud", "failed", "nud", "incomplete"):
        with suppress(ValueError, KeyError):
            failing.add(ip_address(told["dst"]))
    return failing
