"""Servers on hosts whose addresses change, and on hosts with several routing tables."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from udpkit.lab import CommandFailed, Lab, wait_until

from .conftest import IPV4, IPV6, Opener, Stage
from .flavours import FLAVOURS
from .serving import serving, standing_still, wait_for_addresses, waiting_bytes

PORT = 5300


@pytest.mark.parametrize(
    ("family", "addresses", "length"),
    [(socket.AF_INET, IPV4, 24), (socket.AF_INET6, IPV6, 64)],
    ids=["IPv4", "IPv6"],
)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_address_that_left_before_the_answer_harms_nobody(
    stage: Stage, flavour: str, family: int, addresses: tuple[str, ...], length: int
) -> None:
    """That answer leaves from where the route prefers, and the next from where it was asked."""
    stays, leaves, *_ = addresses
    with (
        stage.client.socket(family, socket.SOCK_DGRAM) as asker,
        serving(stage.server, flavour, "", PORT) as server,
    ):
        asker.settimeout(20)
        wait_for_addresses(stage.server, stage.client)
        with standing_still(server):
            asker.sendto(b"ping", (leaves, PORT))
            wait_until(
                lambda: waiting_bytes(stage.server, PORT),
                timeout=20,
                what="the datagram did not arrive",
                polling=True,
            )
            asker.sendto(b"still there?", (stays, PORT))
            stage.server.ip(f"address del {leaves}/{length} dev eth0")
        answers = {data: address[:2] for data, address in (asker.recvfrom(100) for _ in range(2))}
        assert answers == {b"ping": (stays, PORT), b"still there?": (stays, PORT)}

        nodad = "nodad" if family == socket.AF_INET6 else ""
        stage.server.ip(f"address add {leaves}/{length} dev eth0 {nodad}")
        wait_for_addresses(stage.server)
        asker.connect((leaves, PORT))
        asker.send(b"back again?")
        assert asker.recv(100) == b"back again?"


@pytest.fixture
def vrf() -> Iterator[Stage]:
    """A server whose cable lies in a VRF, `vrf0`, with a routing table of its own."""
    with Lab() as lab:
        stage = Stage(lab, lab.host("server"), lab.host("client"))
        try:
            stage.server.ip("link add vrf0 type vrf table 10")
        except CommandFailed as failure:
            if "Unknown device type" not in str(failure):
                raise
            pytest.skip("this kernel has no VRF")
        stage.server.ip("link set vrf0 up")
        lab.link(stage.server, "eth0", stage.client, "eth0")
        stage.server.ip("link set eth0 master vrf0")
        stage.server.address("eth0", *(f"{address}/24" for address in IPV4[:2]))
        stage.server.address("eth0", *(f"{address}/64" for address in IPV6[:2]))
        stage.client.address("eth0", f"{IPV4[2]}/24", f"{IPV6[2]}/64")
        wait_for_addresses(stage.server, stage.client)
        yield stage


@pytest.mark.parametrize("address", [*IPV4[:2], *IPV6[:2]])
def test_a_server_in_a_vrf_answers_from_the_address_that_was_asked(
    vrf: Stage, blocking: Opener, address: str
) -> None:
    server = blocking("", PORT, on=vrf.server, interface="vrf0", timeout=5)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with vrf.client.socket(family, socket.SOCK_DGRAM) as asker:
        asker.settimeout(20)
        asker.connect((address, PORT))
        asker.send(b"ping")
        request = server.recv()
        assert server.reply(request, b"pong"), server.errors()
        assert asker.recv(100) == b"pong"
