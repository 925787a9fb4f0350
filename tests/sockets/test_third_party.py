"""Servers of other people's, on hosts with several addresses: as they are, and with one line changed.

async-dns is on asyncio, dnslib on socketserver. The stage is that of Docker: a server with an address on eth0
and a bridge, a client behind the bridge that asks the address on eth0.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import ndiff
from pathlib import Path

import pytest

from udpkit.lab import Host, Lab, Program, wait_until

PORT = 5300

QUERY = bytes.fromhex("1234 0100 0001 0000 0000 0000") + b"\3www\7example\4test\0\0\1\0\1"
"""Of www.example.test the address: id, recursion desired, one question; type A, class IN (RFC 1035, 4.1)."""

ADDRESS = bytes([0, 4, 192, 0, 2, 99])
"""Of www.example.test: its length and itself, as in the answer."""

ASYNC_DNS = """
import asyncio, io, sys
from async_dns.server import start_dns_server

async def main():
    resolver, _, _ = await start_dns_server(
        bind=f"[{sys.argv[1]}]:{sys.argv[2]}" if ":" in sys.argv[1] else f"{sys.argv[1]}:{sys.argv[2]}",
        hosts=io.StringIO("192.0.2.99 www.example.test\\n"),
        proxies=["udp://127.0.0.1:9"],  # without one it would fetch the root zone as it starts
        enable_tcp=False,
    )
    resolver.set_zone_domains([""])  # every name is its own: it asks nobody
    await asyncio.Event().wait()

asyncio.run(main())
"""

DNSLIB = """
import sys
from dnslib.server import DNSLogger, DNSServer
from dnslib.zoneresolver import ZoneResolver

zone = ZoneResolver("www.example.test. 60 IN A 192.0.2.99")
DNSServer(zone, address=sys.argv[1], port=int(sys.argv[2]), logger=DNSLogger("error")).start()
"""


@dataclass(frozen=True)
class Package:
    """A package, a program that serves with it, and the line that makes it right."""

    name: str
    program: str
    file: str
    before: str
    after: str


PACKAGES = [
    Package(
        "async_dns",
        ASYNC_DNS,
        "server/__init__.py",
        "await loop.create_datagram_endpoint(",
        "await udpkit.create_datagram_endpoint(",
    ),
    Package(
        "dnslib",
        DNSLIB,
        "server.py",
        "class UDPServer(socketserver.ThreadingMixIn,",
        "class UDPServer(udpkit.PacketInfoMixIn,socketserver.ThreadingMixIn,",
    ),
]

ROUTES = {
    "IPv4": ("0.0.0.0", "192.0.2.1", "172.17.0.1"),
    "IPv6": ("::", "2001:db8::1", "fd00:17::1"),
    "IPv4 on dual-stack": ("::", "192.0.2.1", "172.17.0.1"),
}
"""Where the server is bound, the address that is asked, and the one that the route prefers."""


@pytest.fixture(params=PACKAGES, ids=lambda package: package.name)
def package(request: pytest.FixtureRequest) -> Package:
    return request.param


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """A server with an address on eth0 and a bridge, and a client behind the bridge. No way leads out."""
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.plug(server, "eth0")
        server.address("eth0", "192.0.2.1/24", "2001:db8::1/64")
        server.bridge("docker0", "172.17.0.1/16", "fd00:17::1/64")
        server.ip("route add default dev eth0")  # async_dns looks which address it would have on the way out
        lab.link(client, "eth0", server, "docker0")
        client.address("eth0", "172.17.0.3/16", "fd00:17::3/64")
        for route in ("default via 172.17.0.1", "default via fd00:17::1"):
            client.ip(f"route add {route}")
        yield server, client


@pytest.fixture
def asker(hosts: tuple[Host, Host], asked: str) -> Iterator[socket.socket]:
    with hosts[1].socket(socket.AF_INET6 if ":" in asked else socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(10)
        yield asker


def copy(package: Package, to: Path, change: bool) -> Path:
    """A copy of the installed package; with the one line changed, and `udpkit` imported."""
    [installed] = importlib.util.find_spec(package.name).submodule_search_locations
    shutil.copytree(installed, to / package.name)
    if change:
        file = to / package.name / package.file
        before = file.read_text()
        first = next(line for line in before.splitlines(keepends=True) if line.startswith("import "))
        after = before.replace(package.before, package.after).replace(first, f"import udpkit\n{first}", 1)
        changes = [line for line in ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
        assert len([line for line in changes if line.startswith("-")]) == 1, "one line was changed"
        assert len([line for line in changes if line != "+ import udpkit"]) == 2, "and none else"
        file.write_text(after)
    return to


@pytest.fixture
def serve(
    hosts: tuple[Host, Host], package: Package, bound: str, tmp_path: Path
) -> Iterator[Callable[[bool], None]]:
    """Starts the package's server, stock or changed; it is stopped in the end."""
    programs: list[Program] = []

    def serve(change: bool) -> None:
        environment = [f"PYTHONPATH={copy(package, tmp_path / 'packages', change)}"]
        environment += [f"ASYNC_DNS_CONFIG_DIR={tmp_path}", f"HOME={tmp_path}"]
        command = [sys.executable, "-B", "-c", package.program, bound, str(PORT)]
        programs.append(hosts[0].run("env", *environment, *command))
        hosts[0].wait_for_port(PORT, programs[0], timeout=20)

    yield serve
    for program in programs:
        program.stop()


def no_ports(client: Host) -> int:
    """Datagrams for which no socket was there: the client's kernel has refused that many answers."""
    ipv4 = client.read("/proc/net/snmp").split("\nUdp:")
    ipv6 = client.read("/proc/net/snmp6").split()
    return int(dict(zip(*map(str.split, ipv4[1:3])))["NoPorts"]) + int(ipv6[ipv6.index("Udp6NoPorts") + 1])  # noqa: B905


def assert_answers(answer: bytes) -> None:
    assert answer[:2] == QUERY[:2]
    assert answer[2] & 0x80, "it is an answer"
    assert answer[3] & 15 == 0, "without error"
    assert answer[6:8] == b"\0\1", "with one record"
    assert ADDRESS in answer


@pytest.mark.parametrize(("bound", "asked", "preferred"), ROUTES.values(), ids=ROUTES.keys())
def test_the_stock_server_answers_from_the_wrong_address(
    hosts: tuple[Host, Host], asker: socket.socket, serve: Callable[[bool], None], asked: str, preferred: str
) -> None:
    serve(False)
    asker.sendto(QUERY, (asked, PORT))
    answer, address = asker.recvfrom(4096)
    assert_answers(answer)
    assert address[:2] == (preferred, PORT)

    refused = no_ports(hosts[1])
    asker.connect((asked, PORT))
    asker.send(QUERY)
    wait_until(
        lambda: no_ports(hosts[1]) == refused + 1,
        timeout=10,
        what="the client's kernel did not refuse the answer",
        polling=True,
    )
    asker.setblocking(False)
    with pytest.raises(BlockingIOError):
        asker.recv(4096)


@pytest.mark.parametrize(("bound", "asked", "preferred"), ROUTES.values(), ids=ROUTES.keys())
@pytest.mark.parametrize("other", [False, True], ids=["the address on eth0", "the bridge's"])
def test_one_line_makes_it_answer_a_connected_client(
    asker: socket.socket, serve: Callable[[bool], None], asked: str, preferred: str, other: bool
) -> None:
    serve(True)
    asker.connect((preferred if other else asked, PORT))
    for _ in range(3):
        asker.send(QUERY)
        assert_answers(asker.recv(4096))
