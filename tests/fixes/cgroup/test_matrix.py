"""Servers that know nothing of the fix, asked at every kind of address: who answers is who was asked."""

from __future__ import annotations

import functools
import os
import shlex
import signal
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from sockets.serving import serving
from sockets.test_matrix import (
    FAMILIES,
    IPV4,
    IPV6,
    PATIENCE,
    PORT,
    Kind,
    ask,
    ask_each,
    capture,
    lab,
    opened,
)

from fixes.cgroup.conftest import Inside, as_root
from udpkit._native import CgroupFix, read_pcap
from udpkit.evidence.namespaces import Namespace
from udpkit.evidence.programs import find
from udpkit.fixes import fill
from udpkit.fixes.cgroup import Keeper, keeper
from udpkit.lab import Lab, wait_until

__all__ = ["lab", "opened"]
pytestmark = as_root


@pytest.mark.parametrize("namespaces", [True, False], ids=["", "before Linux 6.15"])
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_come_from_the_address_that_was_asked_while_the_fix_is_there(
    lab: Lab, cgroup: Path, opened: ExitStack, family: str, namespaces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "CgroupFix", functools.partial(CgroupFix, namespaces=namespaces))
    address, kinds = FAMILIES[family]
    server = lab.hosts["server"]
    opened.enter_context(serving(Inside(server, cgroup), "stock", address, PORT))
    preferred = {kind.name: kind.preferred for kind in kinds}
    before = rules(lab)

    assert ask_each(lab, opened, kinds, connected=False) == preferred
    with Keeper(cgroup):
        assert ask_each(lab, opened, kinds) == {kind.name: kind.answer for kind in kinds}
    assert ask_each(lab, opened, kinds, connected=False) == preferred
    assert rules(lab) == before


QUERY = bytes.fromhex("0001 0100 0001 0000 0000 0000 0474657374 00 0001 0001")
"""For the address of `test` (RFC 1035)."""
PUSH = struct.pack("<IBBHIIII", 7, 81, 0, 128, 0, 0, 0, 1) + b"x"
SEGMENT = bytes(16) + struct.pack("<I", zlib.crc32(PUSH)) + PUSH
"""KCP's first of a stream, which is acknowledged; before it a nonce and a checksum (kcp-go, crypt `none`)."""
GROUPS = {"joined group", "joined group 6"}
"""What only a program that joins them hears."""


def once(lab: Lab, kind: Kind, request: bytes) -> str:
    """Who answers one datagram."""
    with ExitStack() as opened:
        asks = ask(lab, opened, kind, connected=False, data=request)
        asks.settimeout(PATIENCE)
        source: str = asks.recvfrom(2048)[1][0]
        return source.partition("%")[0]


def measured(lab: Lab, kind: Kind, _request: bytes) -> str:
    """Who answers iperf3's client, as the wire has it: a wrong answer is refused, and the server gives up."""
    asked = f"{kind.asked}%eth0" if kind.asked.startswith("fe80") else kind.asked
    argv = ["iperf3", "--udp", "--client", asked, "--port", str(PORT), "--bytes", "1K"]
    with ExitStack() as opened:
        wire = capture(lab, opened, kind.arrives)
        client = lab.hosts[kind.client].run(*argv, *(["--bind", kind.source] if kind.source else []))
        opened.callback(client.stop, signal.SIGKILL)

        def source() -> str:
            sent = (one for one in read_pcap(wire.pcap()).datagrams if one.source_port == PORT)
            return next((str(one.source) for one in sent), "")

        answered = wait_until(source, [wire], timeout=PATIENCE, what="iperf3 is not answered", polling=True)
        assert answered != kind.asked or client.wait() == 0, client.last_words()
        return answered


@dataclass(frozen=True)
class Server:
    """A program, and what it answers to. Without a request it echoes.

    one_peer: it connects its socket to who speaks first, and is started anew for each.
    right: it needs no fix.
    """

    line: str
    kinds: Sequence[Kind]
    request: bytes = b""
    one_peer: bool = False
    right: bool = False
    asks: Callable[[Lab, Kind, bytes], str] = once


UNICAST4, UNICAST6 = ([kind for kind in kinds if not kind.right] for kinds in (IPV4, IPV6))
EACH = " ".join(
    dict.fromkeys(
        f"{kind.asked}%eth0" if kind.asked.startswith("fe80") else kind.asked for kind in UNICAST4 + UNICAST6
    )
)
FIFO = """sh -c 'exec "$@" <>{fifo} >&0' sh """
"""A program that prints what it hears and sends what it reads is an echo."""
DNSMASQ = "dnsmasq --no-daemon --conf-file=/dev/null --port={port} --user=root --no-resolv"
IPERF3 = "iperf3 --server --one-off --port {port}"
SERVERS = {
    "C, IPv4": Server("{echo} {port} 0.0.0.0", FAMILIES["IPv4"][1]),
    "C, dual-stack": Server("{echo} {port} ::", IPV4 + IPV6),
    "C, a socket for each address": Server("{echo} {port} " + EACH, UNICAST4 + UNICAST6, right=True),
    "Go": Server(
        "kcptun-server --listen :{port} --crypt none --datashard 0 --parityshard 0 --target 127.0.0.1:1",
        IPV4 + IPV6,
        SEGMENT,
    ),
    "dnsmasq": Server(DNSMASQ, UNICAST4 + UNICAST6, QUERY, right=True),
    "dnsmasq, a socket for each address": Server(
        DNSMASQ + " --bind-interfaces", UNICAST4 + UNICAST6, QUERY, right=True
    ),
    "nc": Server(FIFO + "nc -ul {port}", IPV4, one_peer=True),
    "nc -6": Server(FIFO + "nc -6 -ul {port}", IPV6, one_peer=True),
    "ncat": Server(FIFO + "ncat -4 -ul {port}", IPV4, one_peer=True),
    "ncat -6": Server(FIFO + "ncat -6 -ul {port}", IPV6, one_peer=True),
    "socat": Server("socat UDP4-LISTEN:{port} PIPE", IPV4, one_peer=True),
    "socat, dual-stack": Server("socat UDP6-LISTEN:{port},ipv6only=0 PIPE", IPV4 + IPV6, one_peer=True),
    "iperf3": Server(IPERF3, UNICAST4 + UNICAST6, one_peer=True, asks=measured),
}


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """echo.c, compiled."""
    compiler = find("cc")
    if compiler is None:
        pytest.skip("there is no C compiler: cc")
    program = str(tmp_path_factory.mktemp("echo") / "echo")
    subprocess.run([compiler, "-o", program, Path(__file__).with_name("echo.c")], check=True)
    return program


@pytest.mark.parametrize("name", SERVERS)
def test_a_program_is_right_on_every_address_while_the_fix_is_there(
    lab: Lab, cgroup: Path, opened: ExitStack, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = SERVERS[name]
    words = {"port": str(PORT), "fifo": str(tmp_path / "fifo")}
    if "{echo}" in server.line:
        words["echo"] = request.getfixturevalue("echo")
    elif find(program := server.line.removeprefix(FIFO).split()[0]) is None:
        pytest.skip(f"{program} is not installed")
    os.mkfifo(words["fifo"])
    kinds = [kind for kind in server.kinds if kind.name not in GROUPS]
    argv = shlex.split(fill(server.line, words))
    inside = Inside(lab.hosts["server"], cgroup)
    right = {kind.name: kind.answer for kind in kinds}
    wrong = right if server.right else {kind.name: kind.preferred for kind in kinds}
    before = rules(lab)

    def asked() -> dict[str, str]:
        found = {}
        for kind in kinds:
            with running(inside, argv) if server.one_peer else nullcontext():
                found[kind.name] = server.asks(lab, kind, server.request)
        return found

    if not server.one_peer:
        opened.enter_context(running(inside, argv))
    assert asked() == wrong
    with Keeper(cgroup, namespace=Namespace("server", inside.host.namespace)):
        assert asked() == right
    assert asked() == wrong
    assert rules(lab) == before


@contextmanager
def running(inside: Inside, argv: Sequence[str]) -> Iterator[None]:
    program = inside.run(*argv)
    try:
        inside.host.wait_for_port(PORT, program)
        yield
    finally:
        program.stop(signal.SIGKILL)


def rules(lab: Lab) -> list[str]:
    return [
        lab.hosts["server"].ip(f"{version} {what}")
        for version in ("-4", "-6")
        for what in ("rule show", "route show table all")
    ]
