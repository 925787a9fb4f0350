"""The hosts that netcats run on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from udpkit.lab import Host, Lab


@pytest.fixture
def host() -> Iterator[Host]:
    """A host of one's own, with nothing but its loopback interface: ports never clash."""
    with Lab() as lab:
        yield lab.host("host")


@dataclass(frozen=True)
class Bridged:
    """A server with eth0 172.16.13.13 and docker0 172.17.0.1; the client is behind docker0."""

    server: Host
    client: Host
    asked: str = "172.16.13.13"
    routed: str = "172.17.0.1"
    """From where the route would answer."""


@pytest.fixture
def bridged() -> Iterator[Bridged]:
    with Lab() as lab:
        stage = Bridged(lab.host("server"), lab.host("client"))
        stage.server.bridge("docker0")
        lab.link(stage.client, "eth0", stage.server, "docker0")
        lab.plug(stage.server, "eth0")
        stage.server.address("docker0", "172.17.0.1/16")
        stage.server.address("eth0", "172.16.13.13/24")
        stage.client.address("eth0", "172.17.0.3/16")
        stage.client.ip("route add default via 172.17.0.1")
        yield stage
