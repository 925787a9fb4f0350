"""`nc -zu`: the probe's verdicts in netcat's habits."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from udpkit.lab import Host, Lab

from .conftest import Bridged
from .talking import PORT, SOON, ends, listener, start

CLOSED, QUIET = PORT + 1, PORT + 2
QUICK = "-w0.3"


@contextmanager
def bound(host: Host, address: str = "127.0.0.1", port: int = QUIET) -> Iterator[socket.socket]:
    """A socket that hears and never answers."""
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, port))
        sock.settimeout(SOON)
        yield sock


def echo(host: Host, address: str = "0.0.0.0") -> None:
    listener(host, "socat", f"UDP4-LISTEN:{PORT},bind={address},fork", "EXEC:cat")


def scan(host: Host, code: int, *arguments: str) -> str:
    """Run it; nothing but news may be printed. Returns stderr."""
    scanning = start(host, "udpkit", "-zu", QUICK, *arguments)
    told = ends(scanning, code)
    assert scanning.output == b""
    return told


def told(state: str, port: int, why: str, address: str = "127.0.0.1") -> str:
    return f"udpkit: {address}:{port}: {state}: {why}"


def test_an_open_port(host: Host) -> None:
    echo(host)
    assert scan(host, 0, "127.0.0.1", str(PORT)) == ""
    line = scan(host, 0, "-v", "127.0.0.1", str(PORT))
    assert line.startswith(told("open", PORT, f"reply from 127.0.0.1:{PORT}: "))


def test_a_closed_port(host: Host) -> None:
    assert scan(host, 1, "127.0.0.1", str(CLOSED)) == ""
    why = "ICMP port unreachable, said by the host itself\n"
    assert scan(host, 1, "-v", "127.0.0.1", str(CLOSED)) == told("closed", CLOSED, why)


def test_a_silent_port(host: Host) -> None:
    with bound(host):
        assert scan(host, 3, "127.0.0.1", str(QUIET)) == ""
        assert scan(host, 3, "-v", "127.0.0.1", str(QUIET)).startswith(told("silent", QUIET, "no answer; "))


def test_a_port_that_a_rule_prohibits(host: Host) -> None:
    host.ip("route add prohibit 192.0.2.0/24")
    line = scan(host, 4, "-v", "192.0.2.1", str(PORT))
    assert line.startswith(told("prohibited", PORT, "this host did not send it: ", "192.0.2.1"))


def test_a_host_without_a_route(host: Host) -> None:
    line = scan(host, 4, "-v", "192.0.2.1", str(PORT))
    assert line == told("unreachable", PORT, "this host did not send it: no route\n", "192.0.2.1")


def test_an_answer_from_another_address(bridged: Bridged) -> None:
    echo(bridged.server)
    line = scan(bridged.client, 1, "-v", bridged.asked, str(PORT))
    why = f"reply from {bridged.routed}:{PORT}, not from {bridged.asked}:{PORT}: "
    assert line.startswith(told("wrong-source", PORT, why, bridged.asked))


def test_of_several_ports_one_open_one_is_enough(host: Host) -> None:
    echo(host)
    with bound(host):
        lines = scan(host, 0, "-v", "127.0.0.1", f"{PORT}-{QUIET}", str(PORT)).splitlines()
        assert [line.split(": ")[1:3] for line in lines] == [
            [f"127.0.0.1:{PORT}", "open"],
            [f"127.0.0.1:{CLOSED}", "closed"],
            [f"127.0.0.1:{QUIET}", "silent"],
        ]
        scan(host, 3, "127.0.0.1", f"{CLOSED}-{QUIET}")


def test_json_is_news_with_its_addresses(host: Host) -> None:
    echo(host)
    rows = [
        json.loads(line) for line in scan(host, 0, "--json", "127.0.0.1", f"{PORT}-{CLOSED}").splitlines()
    ]
    for row in rows:
        assert row.pop("text").startswith(f"{row['peer']}: {row['event']}: ")
    assert rows == [
        {"event": "open", "peer": f"127.0.0.1:{PORT}", "source": f"127.0.0.1:{PORT}"},
        {
            "event": "closed",
            "peer": f"127.0.0.1:{CLOSED}",
            "said_by": "127.0.0.1",
            "kind": "port unreachable",
        },
    ]


def test_the_probe_leaves_from_the_source_that_was_asked_for(host: Host) -> None:
    with bound(host) as server:
        scan(host, 3, "-p", "7777", "-s", "127.0.0.9", "127.0.0.1", str(QUIET))
        assert server.recvfrom(2000)[1] == ("127.0.0.9", 7777)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (f"-s ::1 127.0.0.1 {PORT}", "::1: no IPv4 address"),
        (f"-s 192.0.2.7 127.0.0.1 {PORT}", "192.0.2.7: not an address of this host"),
        (f"-p {QUIET} 127.0.0.1 {PORT}", f"port {QUIET} is in use; `ss -ulnp` shows"),
        (f"127.255.255.255 {PORT}", "127.255.255.255 is no host's address"),
        (f"224.0.0.1 {PORT}", "224.0.0.1 is no host's address"),
        (f"fe80::1 {PORT}", "fe80::1 is link-local: add its interface, fe80::1%eth0"),
        ("127.0.0.1 no-such", "neither a number nor a UDP service"),
        ("127.0.0.1 1-70000", "port 70000 is not from 1 to 65535"),
    ],
)
def test_what_cannot_be_scanned_is_one_line(host: Host, arguments: str, sentence: str) -> None:
    with bound(host, "0.0.0.0"):
        [line] = scan(host, 2, *arguments.split()).splitlines()
    assert sentence in line


def test_a_link_local_host_is_scanned_by_its_scope() -> None:
    with Lab() as lab:
        a, b = lab.host("a"), lab.host("b")
        lab.link(a, "eth0", b, "eth0")
        a.address("eth0", "fe80::a/64")
        b.address("eth0", "fe80::b/64")
        listener(b, "socat", f"UDP6-LISTEN:{PORT},fork", "EXEC:cat")
        scan(a, 0, "fe80::b%eth0", str(PORT))
        scan(a, 1, "fe80::b%eth0", str(CLOSED))


# What ncat says with -z of the same ports (ncat-test.pl has it of a service and of a closed port).


@pytest.mark.parametrize("program", ["ncat", "udpkit"])
def test_a_service_that_answers_is_a_success(host: Host, program: str) -> None:
    echo(host)
    ends(start(host, program, "-zu", QUICK, "127.0.0.1", str(PORT)), 0)


@pytest.mark.parametrize("program", ["ncat", "udpkit"])
def test_a_refusal_is_a_failure(host: Host, program: str) -> None:
    ends(start(host, program, "-zu", QUICK, "127.0.0.1", str(CLOSED)), 1)


@pytest.mark.parametrize(("program", "code"), [("ncat", 0), ("nc.openbsd", 0), ("udpkit", 3)])
def test_silence_is_a_success_to_others_only(host: Host, program: str, code: int) -> None:
    wait = "-w1" if program == "nc.openbsd" else QUICK  # it knows whole seconds
    with bound(host):
        ends(start(host, program, "-zu", wait, "127.0.0.1", str(QUIET)), code)
