"""`udpkit probe` as a program on lab hosts, and servers there that answer as a test wants them to."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from cli.command import TIMEOUT, UDPKIT
from sockets.serving import wait_for_addresses

from udpkit.lab import Host, Lab, Program

Peer = Any
"""As `socket.recvfrom` gives it."""
Behaviour = Callable[[socket.socket, bytes, Peer], object]
"""What a server does with a datagram that its socket has received."""


@dataclass(frozen=True)
class Outcome:
    """How a probe ended."""

    status: int
    results: list[dict[str, Any]]
    errors: str

    def one(self, port: int, address: str | None = None) -> dict[str, Any]:
        """The only verdict on this port, of this address if it is named."""
        [found] = [
            result
            for result in self.results
            if result["port"] == port and address in (None, result["address"])
        ]
        return found

    def states(self) -> dict[int, str]:
        """The verdict on each port, of a probe of one address."""
        assert len({result["address"] for result in self.results}) == 1
        return {result["port"]: result["state"] for result in self.results}


def command(*arguments: object) -> list[str]:
    """The command line of a probe."""
    return [UDPKIT, "probe", "--json", *map(str, arguments)]


def begin(host: Host, *arguments: object) -> Program:
    """Start a probe there."""
    return host.run(*command(*arguments))


def end(program: Program) -> Outcome:
    """Wait for it. It must not complain if it has verdicts."""
    status = program.wait(TIMEOUT)
    errors = program.errors.decode()
    results = json.loads(program.output)["results"] if program.output else []
    assert not (errors and results), errors
    assert "Traceback" not in errors
    return Outcome(status, results, errors)


def probe(host: Host, *arguments: object) -> Outcome:
    """Run a probe there."""
    return end(begin(host, *arguments))


def echo(sock: socket.socket, data: bytes, peer: Peer) -> None:
    sock.sendto(data, peer)


def quiet(_sock: socket.socket, _data: bytes, _peer: Peer) -> None:
    pass


@contextmanager
def serving(host: Host, servers: Mapping[int, Behaviour], *addresses: str) -> Iterator[None]:
    """Servers on a host, by their ports, bound to each of these addresses; all in one thread of ours."""
    with ExitStack() as stack:
        behaviours = {}
        for address, (port, behaviour) in product(addresses, servers.items()):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = stack.enter_context(host.socket(family, socket.SOCK_DGRAM))
            sock.bind((address, port))
            behaviours[sock] = behaviour
        over, tell = os.pipe()
        stack.callback(os.close, over)

        def serve() -> None:
            while True:
                ready, _, _ = select.select([over, *behaviours], [], [])
                if over in ready:
                    return
                for sock in ready:
                    with suppress(OSError):  # an answer that cannot be sent
                        behaviours[sock](sock, *sock.recvfrom(65535))

        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join)
        stack.callback(os.close, tell)
        yield


def unlimited(*hosts: Host) -> None:
    """They refuse every datagram that nobody takes."""
    for host in hosts:
        host.sysctl("net.ipv4.icmp_ratelimit", 0)
        host.sysctl("net.ipv6.icmp.ratelimit", 0)


def new_host(lab: Lab, name: str) -> Host:
    """A host whose IPv6 addresses, link-local ones too, are used at once."""
    host = lab.host(name)
    host.sysctl("net.ipv6.conf.default.accept_dad", 0)
    return host


@dataclass
class Path:
    """A client, a server, and for a far one the router between them, `left` and `right` of it."""

    lab: Lab
    client: Host
    server: Host
    router: Host | None = None
    addresses: dict[int, str] = field(default_factory=dict)
    """The server's, by IP version."""


CLIENT = {4: "192.0.2.2", 6: "2001:db8::2"}
NEAR = {4: "192.0.2.1", 6: "2001:db8::1"}
SECOND = {4: "192.0.2.9", 6: "2001:db8::9"}
ROUTER = {4: "192.0.2.254", 6: "2001:db8::fe"}
FAR = {4: "198.51.100.1", 6: "2001:db8:1::1"}
RIGHT = {4: "198.51.100.254", 6: "2001:db8:1::fe"}


@pytest.fixture
def near() -> Iterator[Path]:
    """A client and a server on one cable, `eth0` to `eth0`. The server has a second address."""
    with Lab() as lab:
        client, server = (new_host(lab, name) for name in ("client", "server"))
        lab.link(server, "eth0", client, "eth0")
        server.address("eth0", *(f"{one[4]}/24" for one in (NEAR, SECOND)))
        server.address("eth0", *(f"{one[6]}/64" for one in (NEAR, SECOND)))
        client.address("eth0", f"{CLIENT[4]}/24", f"{CLIENT[6]}/64")
        wait_for_addresses(server, client)
        yield Path(lab, client, server, addresses=NEAR)


@pytest.fixture
def far() -> Iterator[Path]:
    """A client `eth0` and a server `eth0`, with a router `left` and `right` between them."""
    with Lab() as lab:
        client, router, server = (new_host(lab, name) for name in ("client", "router", "server"))
        lab.link(client, "eth0", router, "left")
        lab.link(server, "eth0", router, "right")
        for host, interface, address in (
            (client, "eth0", CLIENT),
            (router, "left", ROUTER),
            (router, "right", RIGHT),
            (server, "eth0", FAR),
        ):
            host.address(interface, f"{address[4]}/24", f"{address[6]}/64")
        router.sysctl("net.ipv4.ip_forward", 1)
        router.sysctl("net.ipv6.conf.all.forwarding", 1)
        for host, gateway in ((client, ROUTER), (server, RIGHT)):
            for version in (4, 6):
                host.ip(f"-{version} route add default via {gateway[version]}")
        wait_for_addresses(client, router, server)
        yield Path(lab, client, server, router, FAR)
