"""The model against the kernel that runs these tests."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import pytest

from udpkit.evidence import proc_net_udp
from udpkit.facts import Endpoint
from udpkit.kernel.icmp import KINDS
from udpkit.kernel.lookup import lookup

from .build import at

IP_RECVERR = 11
TABLES = [Path("/proc/net/udp"), Path("/proc/net/udp6")]


def test_every_socket_is_told_what_the_table_says():
    program = Path(__file__).with_name("told.py")
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    if run.stderr.startswith("no namespace"):
        pytest.skip(run.stderr.strip())
    assert run.stderr == ""
    measured = {(version, kind, code): told for version, kind, code, *told in json.loads(run.stdout)}
    assert {kind[0] for kind in measured} >= {4}
    for kind, told in measured.items():
        error = KINDS[kind].errno or 0
        assert (kind, told) == (kind, [0, error if KINDS[kind].hard else 0, error])


class Port:
    """Sockets that share one port of this host, and senders on loopback addresses."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.number = 0
        self.receivers: dict[int, socket.socket] = {}

    def open(self, local: str, family: int = socket.AF_INET, port: int | None = None) -> socket.socket:
        one = self.stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((local, self.number if port is None else port))
        return one

    def receiver(self, local: str, peer: socket.socket | None = None, family: int = socket.AF_INET) -> None:
        one = self.open(local, family)
        self.number = one.getsockname()[1]
        if peer:
            one.connect(peer.getsockname())
        self.receivers[os.fstat(one.fileno()).st_ino] = one

    def sender(self, local: str) -> socket.socket:
        one = self.open(local, port=0)
        one.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        return one

    def taker(self, sender: socket.socket, destination: str) -> int | None:
        """The inode of the socket that a datagram reaches; None if the kernel refuses it."""
        sender.sendto(b"?", (destination, self.number))
        [ready], _, _ = select.select([*self.receivers.values(), sender], [], [], 5)
        if ready is sender:
            sender.recvmsg(1, 1024, socket.MSG_ERRQUEUE)
            return None
        assert ready.recv(1) == b"?"
        return os.fstat(ready.fileno()).st_ino

    def predicted(self, sender: socket.socket, destination: str) -> int | None:
        table = proc_net_udp("".join(path.read_text() for path in TABLES if path.exists()), {}, source=0)
        found = lookup(
            table.entries,
            at("{}:{}".format(*sender.getsockname())),
            Endpoint(at(f"{destination}:0").address, self.number),
        )
        return found.inode if found else None


@pytest.fixture
def port():
    with ExitStack() as stack:
        yield Port(stack)


def each_way(senders):
    return list(product(senders, ["127.0.0.1", "127.0.0.2", "127.0.0.3"]))


def test_lookup_predicts_which_socket_takes_a_datagram(port):
    senders = [port.sender(address) for address in ("127.0.0.1", "127.0.0.1", "127.0.0.7")]
    reached = set()
    for add in (
        lambda: port.receiver("127.0.0.2"),
        lambda: port.receiver("0.0.0.0"),
        lambda: port.receiver("127.0.0.1"),
        lambda: port.receiver("127.0.0.2", peer=senders[0]),
        lambda: port.receiver("0.0.0.0", peer=senders[2]),  # connect() gives it an address
    ):
        add()
        for sender, destination in each_way(senders):
            taker = port.taker(sender, destination)
            assert taker == port.predicted(sender, destination)
            reached.add(taker)
    assert reached == {None, *port.receivers}


@pytest.mark.skipif(not TABLES[1].exists(), reason="this kernel has no IPv6")
@pytest.mark.parametrize("six", ["::", "::ffff:0.0.0.0", "::ffff:127.0.0.1"])
def test_lookup_predicts_what_an_ipv6_socket_takes_of_ipv4(port, six):
    senders = [port.sender("127.0.0.1"), port.sender("127.0.0.7")]
    port.receiver(six, family=socket.AF_INET6)
    for sender, destination in each_way(senders):
        assert port.taker(sender, destination) == port.predicted(sender, destination)
    port.receiver("127.0.0.2")
    for sender, destination in each_way(senders):
        assert port.taker(sender, destination) == port.predicted(sender, destination)
