"""The hosts that are probed: each has open, quiet, dropped and closed ports, dealt out by a seed."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from itertools import chain, repeat
from random import Random
from types import TracebackType

from udpkit.lab import Lab
from udpkit.lab.host import Host

FIRST_HOST = IPv4Address("10.0.1.1")
FIRST_CLIENT = IPv4Address("10.0.0.1")


def deal(numbers: Iterable[int], counts: Mapping[str, int], seed: int) -> dict[int, str]:
    """What each port is: so many of each kind in `counts`, the rest `closed`."""
    shuffled = list(numbers)
    Random(seed).shuffle(shuffled)  # noqa: S311 - nothing secret
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    return dict(zip(shuffled, chain(kinds, repeat("closed")), strict=False))


class Stage:
    """A bridge on the first client, with the hosts and the other clients behind it; a context manager."""

    def __init__(self) -> None:
        self._lab = Lab()
        self._answers = Answers()
        self._quiet: list[socket.socket] = []
        self._clients = self._hosts = 0
        self.client = self._lab.host("client")
        self.client.bridge("br0", f"{FIRST_CLIENT}/16")

    def another_client(self) -> Host:
        """One with an address of its own, and so with a bucket of tokens of its own on every host."""
        self._clients += 1
        return self._behind_bridge(f"client{self._clients}", FIRST_CLIENT + self._clients)

    def host(self, ports: Mapping[int, str], *, token_ms: int | None = None, loss: float = 0) -> str:
        """A host with these ports; returns its address.

        token_ms: milliseconds for each ICMP error; 0 for no limit; None leaves Linux's default, 1,000 after a
        burst of six. loss: the share of datagrams that is lost, in each direction.
        """
        address = FIRST_HOST + self._hosts
        host = self._behind_bridge(f"host{self._hosts}", address)
        self._hosts += 1
        if token_ms is not None:
            host.sysctl("net.ipv4.icmp_ratelimit", token_ms)
        if token_ms == 0:
            host.sysctl("net.ipv4.icmp_ratemask", 0)  # from icmp_msgs_per_sec, too (icmpv4_mask_allow())
        for number, kind in ports.items():
            if kind in ("open", "quiet"):
                server = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
                server.bind(("", number))
                (self._answers.add if kind == "open" else self._quiet.append)(server)
        drops = [
            f"-A INPUT -p udp --dport {number} -j DROP" for number, kind in ports.items() if kind == "dropped"
        ]
        losses = [
            f"-A {chain} -m statistic --mode random --probability {loss} -j DROP"
            for chain in ("INPUT", "OUTPUT")
            if loss
        ]
        rules = "\n".join(["*filter", *losses, *drops, "COMMIT"])
        host.shell(f"iptables-restore <<'END'\n{rules}\nEND")
        return str(address)

    def _behind_bridge(self, name: str, address: IPv4Address) -> Host:
        host = self._lab.host(name)
        self._lab.link(host, "eth0", self.client, "br0")
        host.address("eth0", f"{address}/16")
        return host

    def close(self) -> None:
        self._answers.close()
        for server in self._quiet:
            server.close()
        self._lab.close()

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Answers:
    """Sends back what comes to any of many sockets, from one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        end, self._end = os.pipe()
        self._selector.register(end, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def add(self, server: socket.socket) -> None:
        server.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if not isinstance(key.fileobj, socket.socket):
                    return
                try:
                    data, peer = key.fileobj.recvfrom(65_535)
                    key.fileobj.sendto(data, peer)
                except OSError:  # the answer's way is cut: a rule drops it (EPERM), or the client has gone
                    continue

    def __enter__(self) -> Answers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread, and close all sockets."""
        os.close(self._end)
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
            else:
                os.close(key.fd)
        self._selector.close()
