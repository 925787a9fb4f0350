"""udpkit.sockets.Socket on hosts with several addresses."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from udpkit.lab import Host, Lab, Program, wait_until
from udpkit.lab.commands import resolve

PORT = 56789

BRIDGE = "172.17.0.1"
ADDRESSES = {
    "plain": "192.0.2.1",
    "secondary": "192.0.2.7",
    "bridge": BRIDGE,
    "alias on lo": "198.51.100.9",
}

CAREFUL = f"""
import sys
from udpkit.sockets import Socket
with Socket("0.0.0.0", {PORT}) as server:
    print("open", flush=True)
    while True:
        request = server.recv()
        print(f"asked {{request.local}}", flush=True)
        sys.stdin.readline()
        server.reply(request, request.data)
        print(f"stale {{server.stale_sources}}", flush=True)
"""
"""Says which address was asked, waits for a line before it answers, says how many sources were stale."""


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """A server with an address of each kind, and a client behind its bridge."""
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.plug(server, "eth0")
        server.address("eth0", "192.0.2.1/24", "192.0.2.7/24")
        server.address("lo", "198.51.100.9/32")
        server.bridge("docker0", f"{BRIDGE}/16")
        lab.link(client, "eth0", server, "docker0")
        client.address("eth0", "172.17.0.3/16")
        client.ip(f"route add default via {BRIDGE}")
        yield server, client


@pytest.fixture
def asker(hosts: tuple[Host, Host]) -> Iterator[socket.socket]:
    """A socket on the client; connected, it takes an answer only from where it asked."""
    with hosts[1].socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(5)
        yield asker


def start(server: Host, line: str) -> Program:
    program = server.run(*resolve(line).argv)
    server.wait_for_port(PORT)
    return program


def start_careful(server: Host) -> Program:
    program = server.run(sys.executable, "-I", "-c", CAREFUL)
    wait_for(program, "open")
    return program


def wait_for(program: Program, line: str) -> None:
    """Wait until it has printed this line."""
    wait_until(
        lambda: line in program.output.decode().splitlines(),
        [program],
        timeout=5,
        what=f"“{line}” was not printed",
    )


def exchange(program: Program, asker: socket.socket, address: str) -> bytes:
    """Ask, connected; the answer is what is typed into the server once it has heard."""
    asker.connect((address, PORT))
    asker.send(b"ping\n")
    wait_for(program, "ping")
    program.type(b"pong")
    return asker.recv(100)


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES.keys())
def test_a_connected_client_gets_its_answer_from_any_address(
    hosts: tuple[Host, Host], asker: socket.socket, address: str
) -> None:
    program = start(hosts[0], f"udpkit-serve 0.0.0.0 {PORT}")
    assert exchange(program, asker, address) == b"pong"


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES.keys())
def test_a_plain_server_answers_from_the_address_that_the_route_prefers(
    hosts: tuple[Host, Host], asker: socket.socket, address: str
) -> None:
    """So the test above would fail, but for the bridge's own address, if the source were not pinned."""
    program = start(hosts[0], f"talk serve 0.0.0.0 {PORT}")
    asker.sendto(b"ping\n", (address, PORT))
    wait_for(program, "ping")
    program.type(b"pong")
    assert asker.recvfrom(100) == (b"pong", (BRIDGE, PORT))


@pytest.mark.parametrize(
    "destination", ["172.17.255.255", "255.255.255.255", "224.0.0.1"], ids=["subnet", "limited", "multicast"]
)
def test_a_broadcast_or_multicast_request_is_answered_from_the_hosts_own_address(
    hosts: tuple[Host, Host], asker: socket.socket, destination: str
) -> None:
    server = start_careful(hosts[0])
    asker.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    asker.bind(("172.17.0.3", 0))
    asker.sendto(b"who?", (destination, PORT))
    server.type(b"\n")
    assert asker.recvfrom(100) == (b"who?", (BRIDGE, PORT))
    wait_for(server, f"asked {BRIDGE}:{PORT}")
    wait_for(server, "stale 0")


def test_an_address_that_left_before_the_answer_drops_the_pin_and_is_counted(
    hosts: tuple[Host, Host], asker: socket.socket
) -> None:
    server = start_careful(hosts[0])
    asker.sendto(b"ping", ("192.0.2.7", PORT))
    wait_for(server, f"asked 192.0.2.7:{PORT}")
    hosts[0].ip("address del 192.0.2.7/24 dev eth0")
    server.type(b"\n")
    assert asker.recvfrom(100) == (b"ping", (BRIDGE, PORT))
    wait_for(server, "stale 1")

    asker.sendto(b"still there?", ("192.0.2.1", PORT))  # and the next request is answered as ever
    server.type(b"\n")
    assert asker.recvfrom(100) == (b"still there?", ("192.0.2.1", PORT))
    wait_until(
        lambda: server.output.decode().splitlines()[-2:] == [f"asked 192.0.2.1:{PORT}", "stale 1"],
        [server],
        timeout=5,
        what="the second answer left from its right address, but was counted as stale",
    )
