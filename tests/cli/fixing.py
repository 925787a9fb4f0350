"""Lab hosts for `udpkit fix`, and what is left of a fix in the kernel."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from fixes.cgroup.conftest import AS_ROOT, Inside, alone, cgroup
from sockets.serving import wait_for_addresses

from cli.command import TIMEOUT, UDPKIT, environment, udpkit
from udpkit.evidence.programs import find
from udpkit.fixes.cgroup import cgroups
from udpkit.lab import Host, Lab, Program, wait_until

__all__ = ["alone", "cgroup"]

PORT = "5400"
PREFERRED = {4: "172.17.0.1", 6: "fd17::1"}
"""What the routes choose as source of answers."""
OTHER = {4: "172.16.13.13", 6: "fd16::13"}
PATIENCE = 5
ECHO = """
import socket, sys
kind, address = (socket.AF_INET6, "::") if sys.argv[1:] else (socket.AF_INET, "0.0.0.0")
server = socket.socket(kind, socket.SOCK_DGRAM)
if sys.argv[1:]:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind((address, 5400))
first = None
while True:
    data, peer = server.recvfrom(2048)
    first = peer if data == b"me" else first
    try:
        server.sendto(data, first if data == b"first" else peer)
    except OSError as error:
        print(error, flush=True)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The stage of the story, with IPv6: the client is behind a bridge of the server's."""
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        for host in (server, client):  # the kernel's own link-local addresses would come a second later
            host.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)
        server.bridge("docker0", "172.17.0.1/16", "fd17::1/64", "fe80::1/64")
        lab.link(client, "eth0", server, "docker0")
        lab.plug(server, "eth0")
        server.address("eth0", "172.16.13.13/24", "fd16::13/64", "fe80::1/64")
        client.address("eth0", "172.17.0.3/16", "fd17::3/64", "fe80::3/64")
        client.ip("route add default via 172.17.0.1")
        client.ip("route add default via fd17::1")
        wait_for_addresses(server, client)
        yield lab


@pytest.fixture(autouse=True)
def nothing_is_left(lab: Lab, alone: None) -> Iterator[None]:  # noqa: ARG001
    if not AS_ROOT:
        yield
        return
    before = traces(lab.hosts["server"])
    yield
    assert traces(lab.hosts["server"]) == before
    assert listed() == []
    # The kernel takes its time to free what nobody holds any more.
    wait_until(lambda: not in_kernel(), timeout=PATIENCE, what="BPF objects stay", polling=True)


def in_kernel() -> list[str]:
    """The BPF programs, maps and links of any fix, as bpftool(8) has them; nothing without it."""
    if find("bpftool") is None:
        return []
    found = []
    programs: set[int] = set()
    for kind in ("prog", "map", "link"):
        run = subprocess.run(["bpftool", "-j", kind, "list"], capture_output=True, check=True)
        for one in json.loads(run.stdout):
            if one.get("name", "").startswith("udpkit_") or (kind == "link" and one["prog_id"] in programs):
                found.append(kind)
                programs |= {one["id"]} if kind == "prog" else set()
    return sorted(found)


def traces(host: Host) -> list[str]:
    """What a fix could leave: rules, routes, packet filters, cgroups."""
    lines = [
        f"ip {version} {what}" for version in ("-4", "-6") for what in ("rule show", "route show table all")
    ]
    rules = [host.shell(line) for line in ("iptables-save", "ip6tables-save", "nft list ruleset")]
    ours = sorted(str(path) for path in cgroups.mount().glob(f"{cgroups.PREFIX}*"))
    return [
        *map(host.shell, lines),
        *[line for text in rules for line in text.splitlines() if "#" not in line],
        *ours,
    ]


def listed() -> list[dict[str, Any]]:
    run = udpkit("fix", "list", "--json")
    assert run.returncode == 0, run.stderr
    fixes: list[dict[str, Any]] = json.loads(run.stdout)["fixes"]
    return fixes


def answerer(lab: Lab, address: str, query: bytes = b"who?", port: str = PORT) -> str:
    """Who answers a client that has asked there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lab.hosts["client"].socket(family, socket.SOCK_DGRAM) as asks:
        asks.settimeout(PATIENCE)
        asks.sendto(query, (address, int(port)))
        source: str = asks.recvfrom(100)[1][0]
        return source


@contextmanager
def echo(host: Host | Inside, *arguments: str, code: str = ECHO) -> Iterator[Program]:
    program = host.run("python3", "-c", code, *arguments)
    try:
        (host.host if isinstance(host, Inside) else host).wait_for_port(int(PORT), program)
        yield program
        assert program.status is None, program.errors
    finally:
        program.stop(signal.SIGKILL)


@contextmanager
def attached(*target: str) -> Iterator[subprocess.Popen[str]]:
    """A fix that is there."""
    process = subprocess.Popen(
        [UDPKIT, "fix", "attach", *target], stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        assert "attached to" in said, said
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT)


def under(fix: bool, argv: Sequence[str]) -> list[str]:
    return [UDPKIT, "fix", "run", "--", *argv] if fix else list(argv)


def needs(program: str) -> None:
    if find(program) is None:
        pytest.skip(f"{program} is not installed")


def killed(process: int) -> None:
    """SIGKILL, and wait for the end."""
    ends = os.pidfd_open(process)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: select.select([ends], [], [], 0)[0], timeout=PATIENCE, what="it lives", polling=True)
    os.close(ends)
