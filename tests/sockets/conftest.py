"""Every kind of socket behind one face, and two hosts on one cable."""

from __future__ import annotations

import faulthandler
import functools
import inspect
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from udpkit.lab import Host, Lab
from udpkit.sockets import AsyncSocket, Socket, opening

from .serving import wait_for_addresses

HANGS = 30
"""Seconds after which a test has hung: its stacks are printed and its process ends."""


@pytest.fixture(autouse=True)
def never_hang() -> Iterator[None]:
    faulthandler.dump_traceback_later(HANGS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


class SocketsOf:
    """Stands in for the module `socket`, so that sockets are made on a lab host."""

    def __init__(self, host: Host) -> None:
        self.socket = host.socket

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)


def open_on(host: Host | None, make: Callable[[], Any]) -> Any:
    """What `make` gives, with its sockets on this host; without a host, here."""
    with pytest.MonkeyPatch.context() as patch:
        if host:
            patch.setattr(opening, "socket", SocketsOf(host))
        return make()


class NonBlocking:
    """A `Socket` with a timeout of 0, by a program that waits in poll(2)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._socket = Socket(*arguments, timeout=0, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        poll.poll()

    def recv(self) -> Any:
        return self._again(select.POLLIN, self._socket.recv)

    def recv_many(self, *maximum: int) -> Any:
        reported = self._socket._channel.reported
        taken = self._socket.recv_many(*maximum)  # some may have been merged with what was taken before
        if taken or maximum == (0,) or self._socket._channel.reported > reported:
            return taken
        self.wait(select.POLLIN)
        return self._socket.recv_many(*maximum)

    def reply(self, *arguments: Any) -> Any:
        return self._again(select.POLLOUT, self._socket.reply, *arguments)

    def send(self, *arguments: Any) -> Any:
        return self._again(select.POLLOUT, self._socket.send, *arguments)

    def reply_many(self, answers: Any) -> int:
        return self._all(self._socket.reply_many, list(answers))

    def send_many(self, datagrams: Any) -> int:
        return self._all(self._socket.send_many, list(datagrams))

    def _again(self, event: int, call: Callable[..., Any], *arguments: Any) -> Any:
        while True:
            try:
                return call(*arguments)
            except BlockingIOError:
                self.wait(event)

    def _all(self, call: Callable[[list[Any]], int], items: list[Any]) -> int:
        done = call(items)
        while done < len(items):
            self.wait(select.POLLOUT)
            done += call(items[done:])
        return done


class Awaited:
    """An `AsyncSocket` whose calls are awaited in the event loop of another thread."""

    def __init__(self, portal: Any, *arguments: Any, **options: Any) -> None:
        self._portal = portal
        self._socket = portal.call(functools.partial(AsyncSocket.open, *arguments, **options))

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._socket, name)
        return functools.partial(self._portal.call, attribute) if inspect.ismethod(attribute) else attribute

    def close(self) -> None:
        self._portal.call(self._socket.aclose)


LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}

THREADED = {
    "blocking": Socket,
    "timeout": functools.partial(Socket, timeout=30),
    "non-blocking": NonBlocking,
}

Opener = Callable[..., Any]
"""`opener("192.0.2.1", 53, on=host, gso=True)`."""


def opener_of(kind: str) -> Iterator[Opener]:
    with ExitStack() as stack:
        make: Any = THREADED.get(kind)
        if make is None:
            portal = stack.enter_context(start_blocking_portal(**LOOPS[kind]))
            make = functools.partial(Awaited, portal)

        def open_socket(*arguments: Any, on: Host | None = None, **options: Any) -> Any:
            opened = open_on(on, lambda: make(*arguments, **options))
            stack.callback(opened.close)
            return opened

        yield open_socket


@pytest.fixture(params=[*THREADED, *LOOPS])
def opener(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens sockets of each kind; all of them are closed in the end."""
    yield from opener_of(request.param)


@pytest.fixture
def blocking() -> Iterator[Opener]:
    """Opens blocking sockets, where the kind makes no difference."""
    yield from opener_of("blocking")


@dataclass(frozen=True)
class Network:
    """What differs between the kinds of address: where a server is bound, and both hosts' addresses."""

    family: socket.AddressFamily
    bound: str
    server: str
    second: str
    client: str
    router: str

    @property
    def version(self) -> int:
        return 4 if self.family == socket.AF_INET else 6


IPV4 = ("192.0.2.1", "192.0.2.7", "192.0.2.2", "192.0.2.9")
IPV6 = ("2001:db8::1", "2001:db8::7", "2001:db8::2", "2001:db8::9")
LINK_LOCAL = ("fe80::1", "fe80::7", "fe80::2", "fe80::9")

NETWORKS = {
    "IPv4": Network(socket.AF_INET, "0.0.0.0", *IPV4),
    "IPv4 on dual-stack": Network(socket.AF_INET, "", *IPV4),
    "IPv6": Network(socket.AF_INET6, "::", *IPV6),
    "link-local": Network(socket.AF_INET6, "", *LINK_LOCAL),
}


@dataclass(frozen=True)
class Stage:
    """A server and a client on one cable, `eth0` to `eth0`. The client has the router's address as well."""

    lab: Lab
    server: Host
    client: Host

    def index(self, host: Host) -> int:
        return int(host.ip("-o link show dev eth0").partition(":")[0])


def make_stage(lab: Lab) -> Stage:
    stage = Stage(lab, lab.host("server"), lab.host("client"))
    lab.link(stage.server, "eth0", stage.client, "eth0")
    for host in (stage.server, stage.client):
        host.sysctl("net.ipv4.icmp_ratelimit", 0)
        host.sysctl("net.ipv6.icmp.ratelimit", 0)
        host.sysctl("net.ipv4.icmp_msgs_per_sec", 1_000_000)
        host.sysctl("net.ipv4.icmp_msgs_burst", 1_000_000)
    for addresses, length in ((IPV4, 24), (IPV6, 64), (LINK_LOCAL, 64)):
        server, second, client, router = (f"{address}/{length}" for address in addresses)
        stage.server.address("eth0", server, second)
        stage.client.address("eth0", client, router)
        wait_for_addresses(stage.server, stage.client)
    return stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Hosts of one's own, to change them."""
    with Lab() as lab:
        yield make_stage(lab)


@pytest.fixture(scope="module")
def shared_stage() -> Iterator[Stage]:
    """Hosts that no test changes."""
    with Lab() as lab:
        yield make_stage(lab)
