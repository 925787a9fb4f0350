"""Ten thousand peers ask eight addresses of one server, in random order, and every datagram is accounted for.

The suite sends a sample. A million takes half a minute:

    DATAGRAMS=1000000 .venv/bin/pytest -rP -n 0 tests/sockets/test_many_peers.py

The server has a process of its own. A peer is an address and a port: 100 addresses on each of 100 sockets.
Their datagrams get their source by IP_PKTINFO; their answers are looked at with the standard library alone.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from udpkit.sockets.opening import drops

from .serving import standing_still

DATAGRAMS = int(os.environ.get("DATAGRAMS", "50000"))
LOCAL = [f"127.0.0.{number}" for number in range(1, 9)]
ADDRESSES = [f"127.1.{number}.1" for number in range(100)]
SOCKETS = 100
PEERS = [(number, address) for number in range(SOCKETS) for address in ADDRESSES]

IP_PKTINFO = 8  # linux/in.h
QUESTION = struct.Struct("!IHB")
"""Which datagram it is, whose, and what was asked: index into PEERS, index into LOCAL."""

PATIENCE = 20
"""Seconds."""

WINDOW = 100
"""Datagrams on their way: as many as fit into any receive buffer."""

ROOM = 100_000
TOO_MANY = 2000
"""Bytes of a receive buffer, and datagrams that are too many for it: each counts as 768 bytes or more."""

SERVER = f"""
import json, sys, threading
from udpkit.sockets import Socket

counts = dict(received=0, replied=0)
peers = set()

def serve(server):
    while True:
        requests = server.recv_many()
        counts["received"] += len(requests)
        peers.update(request.peer for request in requests)
        counts["replied"] += server.reply_many([(request, request.data) for request in requests])

with Socket(receive_buffer={ROOM}) as server:
    threading.Thread(target=serve, args=[server], daemon=True).start()
    print(server.port, flush=True)
    for _ in sys.stdin:
        more = dict(dropped=server.dropped, errors=len(server.errors()), peers=len(peers))
        print(json.dumps(counts | more), flush=True)
"""

STOCK = """
import socket, sys, threading

def serve(server):
    while True:
        server.sendto(*server.recvfrom(100))

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("0.0.0.0", 0))
    threading.Thread(target=serve, args=[server], daemon=True).start()
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def never_hang() -> None:
    """A million takes its time. Nothing here waits without a limit."""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


class Server:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        self.process = process
        self.port = int(process.stdout.readline())

    def counts(self) -> dict[str, int]:
        """What it has counted so far."""
        assert self.process.stdin
        assert self.process.stdout
        print(file=self.process.stdin, flush=True)
        counts: dict[str, int] = json.loads(self.process.stdout.readline())
        return counts


@contextmanager
def serving(program: str) -> Iterator[Server]:
    with subprocess.Popen(
        [sys.executable, "-I", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


class Peers:
    """All of them, on their hundred sockets."""

    def __init__(self, opened: ExitStack, port: int) -> None:
        self.sent = self.heard = 0
        self.wrong: list[str] = []
        self.unanswered: dict[int, tuple[int, int]] = {}
        self._port = port
        self._sockets = []
        self._poll = select.epoll()
        opened.callback(self._poll.close)
        for _ in range(SOCKETS):
            sock = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind(("0.0.0.0", 0))
            self._poll.register(sock, select.EPOLLIN)
            self._sockets.append(sock)
        self._numbers = {sock.fileno(): number for number, sock in enumerate(self._sockets)}
        self._sources = [
            [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4x", 0, socket.inet_aton(address)))]
            for _, address in PEERS
        ]  # struct in_pktinfo, ip(7)

    def ask(self, peer: int, local: int) -> None:
        data = QUESTION.pack(self.sent, peer, local)
        self.unanswered[self.sent] = (peer, local)
        self.sent += 1
        sock = self._sockets[PEERS[peer][0]]
        sock.sendmsg([data], self._sources[peer], 0, (LOCAL[local], self._port))

    def hear(self, patience: float) -> bool:
        """Take the answers that are there, or the first to come. Whether there were any."""
        ready = self._poll.poll(patience)
        for descriptor, _ in ready:
            number = self._numbers[descriptor]
            with suppress(BlockingIOError):
                while True:
                    self._look_at(number, *self._sockets[number].recvmsg(100, 64))
        return bool(ready)

    def _look_at(self, number: int, data: bytes, control: list[Any], _: int, answerer: Any) -> None:
        self.heard += 1
        question, peer, local = QUESTION.unpack(data)
        [(_, _, packet_info)] = control
        receiver = (number, socket.inet_ntoa(packet_info[8:12]))
        asked = (LOCAL[local], self._port)
        known = self.unanswered.pop(question, None) == (peer, local)
        if not known or answerer != asked or receiver != PEERS[peer]:
            self.wrong.append(f"{PEERS[peer]} asked {asked}; {answerer} answered {receiver}")

    @property
    def dropped(self) -> int:
        """Answers for which there was no room."""
        return sum(drops(sock) for sock in self._sockets)


def questions(amount: int) -> Iterator[tuple[int, int]]:
    """Who asks what: every peer as often as any other, in random order."""
    peers = [number % len(PEERS) for number in range(amount)]
    random.shuffle(peers)
    asked = random.choices(range(len(LOCAL)), k=amount)
    return zip(peers, asked, strict=True)


def final_counts(server: Server, peers: Peers) -> dict[str, int]:
    """The counts once every datagram is accounted for, or when that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while True:
        peers.hear(0.01)
        counts = {"sent": peers.sent, **server.counts(), "heard": peers.heard, "unheard": peers.dropped}
        accounted = (
            counts["sent"] == counts["received"] + counts["dropped"]
            and counts["received"] == counts["replied"] == counts["heard"] + counts["unheard"]
        )
        if accounted or time.monotonic() > deadline:
            return counts


def say(counts: dict[str, int], since: float) -> None:
    sys.stdout.write(f"{counts} in {time.monotonic() - since:.1f} s\n")


def test_while_there_is_room_every_question_is_answered_from_where_it_was_asked(opened: ExitStack) -> None:
    server = opened.enter_context(serving(SERVER))
    peers = Peers(opened, server.port)
    since = time.monotonic()
    for peer, local in questions(DATAGRAMS):
        peers.ask(peer, local)
        while len(peers.unanswered) >= WINDOW and peers.hear(PATIENCE):
            pass
    counts = final_counts(server, peers)
    say(counts, since)
    assert peers.wrong == []
    assert counts == {
        **dict.fromkeys(["sent", "received", "replied", "heard"], DATAGRAMS),
        **dict.fromkeys(["dropped", "unheard", "errors"], 0),
        "peers": min(len(PEERS), DATAGRAMS),
    }


def test_in_a_flood_the_kernel_counts_every_question_that_is_not_answered(opened: ExitStack) -> None:
    """As fast as they can be sent; and while the server stands still, so that there is no room for some."""
    server = opened.enter_context(serving(SERVER))
    peers = Peers(opened, server.port)
    since = time.monotonic()
    with standing_still(server.process):
        for peer, local in questions(TOO_MANY):
            peers.ask(peer, local)
    for peer, local in questions(DATAGRAMS - TOO_MANY):
        peers.ask(peer, local)
        if peers.sent % 500 == 0:
            peers.hear(0)
    counts = final_counts(server, peers)
    say(counts, since)
    assert peers.wrong == []
    assert counts["dropped"] > 0
    assert counts["sent"] == DATAGRAMS == counts["received"] + counts["dropped"]
    assert counts["received"] == counts["replied"] == counts["heard"] + counts["unheard"]
    assert len(peers.unanswered) == counts["dropped"] + counts["unheard"]
    assert counts["errors"] == 0


def test_a_stock_servers_wrong_answers_would_be_noticed(opened: ExitStack) -> None:
    server = opened.enter_context(serving(STOCK))
    peers = Peers(opened, server.port)
    amount = WINDOW
    for peer, local in questions(amount):
        peers.ask(peer, local)
    elsewhere = sum(LOCAL[local] != LOCAL[0] for _, local in peers.unanswered.values())
    while peers.heard < amount and peers.hear(PATIENCE):
        pass
    assert (peers.heard, len(peers.wrong)) == (amount, elsewhere)
    assert elsewhere > 0
