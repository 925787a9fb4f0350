"""`udpkit check` on real hosts with real programs: what it says is what then happens."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from privileges import is_real_root

from udpkit.evidence.programs import SEARCH_PATH
from udpkit.lab import Lab
from udpkit.lab.host import Host
from udpkit.lab.program import Program
from udpkit.lab.waiting import wait_until

UDPKIT = [sys.executable, "-c", "from udpkit.cli import main; main()"]

SERVER = """
import select, socket, sys
four, six, any4, any6 = socket.AF_INET, socket.AF_INET6, "0.0.0.0", "::"
def udp(family, address, port, *options, device=b"", to=None):
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    if family == six: one.setsockopt(41, 26, 0)
    for level, option in options: one.setsockopt(level, option, 1)
    one.bind((address, port))
    if to: one.connect(to)
    return one
kept = [eval(line) for line in sys.argv[1:]]
print("up", flush=True)
while True:
    for ready in select.select(kept, [], [])[0]:
        data, peer = ready.recvfrom(2048)
        ready.sendto(data, peer)
"""
"""An echo server that leaves the source of its replies to the kernel, on the sockets of its arguments."""

PKTINFO4, PKTINFO6, V6ONLY, MARK = "(0, 8)", "(41, 49)", "(41, 26)", "(1, 36)"

SOCKETS = [
    "udp(four, any4, 1001)",
    "udp(four, '172.16.13.13', 1002)",
    f"udp(four, any4, 1003, {PKTINFO4})",
    "udp(four, any4, 1004)",
    "udp(four, '172.16.13.13', 1004)",
    "udp(four, '172.17.0.1', 1004)",
    "udp(four, any4, 1005)",
    "udp(four, '172.16.13.13', 1005)",
    "udp(six, any6, 1006)",
    f"udp(six, any6, 1007, {V6ONLY})",
    "udp(four, any4, 1008, device=b'docker0')",
    f"udp(six, any6, 1009, {PKTINFO6})",
    f"udp(six, any6, 1010, {PKTINFO4})",
    "udp(four, any4, 1011, to=('172.17.0.3', 9))",
    f"udp(four, any4, 1012, {MARK})",
    "udp(six, any6, 1013)",
    f"udp(four, any4, 1013, {PKTINFO4})",
    "udp(four, any4, 5353)",
    "udp(four, any4, int('500' + '01'))",
]

FOUR = {
    ("172.17.0.0/16", "172.16.13.13", "172.17.0.1"),
    ("172.16.13.0/24", "172.17.0.1", "172.16.13.13"),
}
SIX = {
    ("fd17::/64", "fd16::13", "fd17::1"),
    ("fd16::/64", "fd17::1", "fd16::13"),
}
EXPECTED: dict[int, tuple[str, set[tuple[str, str, str]]]] = {
    1001: ("warning", FOUR),
    1005: ("note", {one for one in FOUR if one[1] == "172.17.0.1"}),
    1006: ("warning", FOUR | SIX),
    1007: ("warning", SIX),
    1008: ("warning", {one for one in FOUR if one[2] == "172.17.0.1"}),
    1010: ("warning", SIX),
    1013: ("warning", SIX),
    50001: ("note", FOUR),
}
"""By port: how severe, and (clients, address they ask, address that answers). All other ports: silence."""


def start(host: Host, *sockets: str) -> Program:
    program = host.run(sys.executable, "-c", SERVER, *sockets)
    wait_until(lambda: b"up" in program.output, [program], timeout=10, what=program.last_words())
    return program


def check(host: Host, *arguments: str) -> dict[str, Any]:
    """The document of a check that runs on the host."""
    program = host.run(*UDPKIT, "check", "--json", *arguments)
    program.close_input()
    status = program.wait()
    assert program.output, program.errors.decode()
    document: dict[str, Any] = json.loads(program.output)
    assert document["schema"] == 1
    assert status == any(finding["severity"] != "note" for finding in document["findings"])
    return document


def pairs(
    document: dict[str, Any], code: str = "wildcard-without-pktinfo"
) -> dict[int, set[tuple[str, ...]]]:
    found: dict[int, set[tuple[str, ...]]] = {}
    for one in document["findings"]:
        assert one["code"] == code
        server, _, port = one["server"].rpartition(":")
        actual = one["actual"].rpartition(":")[0]
        pair = one["client"], server.strip("[]"), actual.strip("[]")
        found.setdefault(int(port), set()).add(pair)
    return found


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Host, Host]]:
    """The server of the story, with IPv6 too, and a client behind its bridge."""
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        server.bridge("docker0", "172.17.0.1/16", "fd17::1/64")
        lab.link(client, "eth0", server, "docker0")
        client.address("eth0", "172.17.0.3/16", "fd17::3/64")
        client.ip("route add default via 172.17.0.1")
        client.ip("-6 route add default via fd17::1")
        lab.plug(server, "eth0")
        server.address("eth0", "172.16.13.13/24", "fd16::13/64")
        server.ip("route add default via 172.16.13.1")
        start(server, *SOCKETS)
        yield server, client


@pytest.fixture(scope="module")
def document(stage: tuple[Host, Host]) -> dict[str, Any]:
    return check(stage[0])


def test_who_is_answered_from_the_wrong_address(document: dict[str, Any]) -> None:
    assert pairs(document) == {port: expected for port, (_, expected) in EXPECTED.items()}
    severities = {int(one["server"].rpartition(":")[2]): one["severity"] for one in document["findings"]}
    assert severities == {port: severity for port, (severity, _) in EXPECTED.items()}


def test_what_is_found_happens(stage: tuple[Host, Host], document: dict[str, Any]) -> None:
    """The client behind the bridge asks as the findings say, and is answered as they say."""
    asked = 0
    for one in document["findings"]:
        if not one["client"].startswith(("172.17.", "fd17::")):
            continue
        host, _, port = one["server"].rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with stage[1].socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(b"?", (host.strip("[]"), int(port)))
            answer = client.recvfrom(10)[1]
        actual_host, _, actual_port = one["actual"].rpartition(":")
        assert (answer[0], answer[1]) == (actual_host.strip("[]"), int(actual_port))
        asked += 1
    assert asked > 5


def test_sockets_are_shown_with_their_program_and_options(document: dict[str, Any]) -> None:
    [host] = document["hosts"]
    sockets = {(one["local"], one["peer"]): one for one in host["sockets"]}
    assert len(host["sockets"]) == len(SOCKETS)
    assert sockets["0.0.0.0:1003", None]["options"]["IP_PKTINFO"] == 1
    assert sockets["0.0.0.0:1001", None]["options"]["IP_PKTINFO"] == 0
    assert sockets["[::]:1007", None]["options"]["IPV6_V6ONLY"] == 1
    assert sockets["0.0.0.0:1008", None]["interface"] == "docker0"
    assert sockets["172.17.0.1:1011", "172.17.0.3:9"]["process"].startswith("python")
    assert host["missing"] == []
    assert [one["packets"] for one in document["sources"]] == [len(SOCKETS)]


def test_the_kernel_is_asked_for_the_source(stage: tuple[Host, Host]) -> None:
    server = stage[0]
    server.ip("route add 10.9.0.0/16 via 172.17.0.3 src 172.16.13.13")
    server.ip("rule add to 10.9.8.0/24 lookup 77")
    server.ip("route add 10.9.8.0/24 via 172.17.0.3 table 77")
    try:
        found = pairs(check(server))[1001]
    finally:
        server.ip("route del 10.9.0.0/16")
        server.ip("rule del to 10.9.8.0/24 lookup 77")
        server.ip("route del 10.9.8.0/24 table 77")
    assert ("10.9.0.0/16", "172.17.0.1", "172.16.13.13") in found
    assert ("10.9.8.0/24", "172.16.13.13", "172.17.0.1") in found


def test_a_host_with_one_address_has_nothing_to_choose() -> None:
    with Lab() as lab:
        server = lab.host("server")
        lab.plug(server, "eth0")
        server.address("eth0", "192.0.2.1/24")
        server.ip("route add default via 192.0.2.254")
        start(server, "udp(four, any4, 1001)", "udp(six, any6, 1002)")
        assert check(server)["findings"] == []


def test_two_uplinks() -> None:
    """Who comes in by the second one is answered from the first, whoever they are."""
    with Lab() as lab:
        server = lab.host("server")
        for number in (1, 2):
            lab.plug(server, f"eth{number}")
            server.address(f"eth{number}", f"10.0.{number}.1/24")
        server.ip("route add default via 10.0.1.254")
        server.ip("route add default via 10.0.2.254 metric 9")
        start(server, "udp(four, any4, 1001)")
        found = pairs(check(server))[1001]
    assert found == {
        ("10.0.1.0/24", "10.0.2.1", "10.0.1.1"),
        ("10.0.2.0/24", "10.0.1.1", "10.0.2.1"),
        ("0.0.0.0/0", "10.0.2.1", "10.0.1.1"),
    }


def test_real_servers() -> None:
    """dnsmasq knows what was asked, nc does not."""
    for name in ("dnsmasq", "nc"):
        if not shutil.which(name, path=SEARCH_PATH):
            pytest.skip(f"{name} is not installed")
    with Lab() as lab:
        server = lab.host("server")
        for number in (1, 2):
            lab.plug(server, f"eth{number}")
            server.address(f"eth{number}", f"10.0.{number}.1/24")
        dns = server.run("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts")
        server.wait_for_port(53, dns)
        server.wait_for_port(56789, server.run("nc", "-ul", "56789"))
        document = check(server)
    assert pairs(document).keys() == {56789}
    assert {one["process"] for one in document["findings"]} == {"nc"}
    # The kernel gives that port to clients, too; but the command line has it.
    assert {one["severity"] for one in document["findings"]} == {"warning"}


def test_a_listener_that_has_become_connected() -> None:
    """nc is deaf to others by then; socat waits on another socket; a client's socket is no listener."""
    for name in ("socat", "nc"):
        if not shutil.which(name, path=SEARCH_PATH):
            pytest.skip(f"{name} is not installed")
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.link(server, "eth0", client, "eth0")
        server.address("eth0", "10.0.0.1/24")
        client.address("eth0", "10.0.0.2/24")
        server.wait_for_port(5000, server.run("nc", "-ul", "5000"))
        server.wait_for_port(5001, server.run("socat", "UDP4-LISTEN:5001,fork,reuseaddr", "EXEC:cat"))
        with client.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.bind(("10.0.0.2", 40000))
            server.run("nc", "-u", "-p", "5002", "10.0.0.2", "40000").type(b"hello\n")
            assert asking.recv(9) == b"hello\n"
            asking.sendto(b"?", ("10.0.0.1", 5000))
            asking.sendto(b"?", ("10.0.0.1", 5001))
            assert asking.recv(9) == b"?"  # socat has its socket for this client
            wait_until(
                lambda: any(one.peer and one.local.port == 5000 for one in server.udp_sockets(0).entries),
                timeout=5,
                what="nc does not connect",
                polling=True,
            )
            document = check(server)
    connected = {one["local"] for one in document["hosts"][0]["sockets"] if one["peer"]}
    assert connected == {"10.0.0.1:5000", "10.0.0.1:5001", "10.0.0.1:5002"}
    [finding] = document["findings"]
    assert finding["code"] == "listener-locked-to-first-peer"
    assert (finding["severity"], finding["process"]) == ("warning", "nc")
    assert (finding["client"], finding["actual"]) == ("10.0.0.2:40000", "10.0.0.1:5000")
    assert [offer["id"] for offer in finding["fixes"]] == ["attach", "bind", "sockets", "tcp"]


def test_a_published_port_is_not_the_sockets() -> None:
    """As docker-proxy has one: NAT takes the datagrams before it."""
    with Lab() as lab:
        server = lab.host("server")
        for number in (1, 2):
            lab.plug(server, f"eth{number}")
            server.address(f"eth{number}", f"10.0.{number}.1/24")
        start(server, "udp(four, any4, 1001)", "udp(four, any4, 1002)")
        server.shell("iptables -t nat -A PREROUTING -p udp --dport 1001 -j DNAT --to 10.0.2.9:53")
        assert pairs(check(server)).keys() == {1002}


def test_a_socket_that_loses_datagrams() -> None:
    with Lab() as lab:
        server = lab.host("server")
        mute = server.run(
            sys.executable,
            "-c",
            "import socket, time\none = socket.socket(type=socket.SOCK_DGRAM)\n"
            "one.setsockopt(1, socket.SO_RCVBUF, 1)\none.bind(('127.0.0.1', 1001))\n"
            "print('up', flush=True)\ntime.sleep(60)",
        )
        wait_until(lambda: b"up" in mute.output, [mute], timeout=10, what="no server")
        assert check(server)["findings"] == []
        with server.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for _ in range(50):
                client.sendto(b"x" * 500, ("127.0.0.1", 1001))
        document = check(server)
    [finding] = document["findings"]
    [entry] = [one for one in document["hosts"][0]["sockets"] if one["local"] == "127.0.0.1:1001"]
    assert finding["code"] == "receive-buffer-overflow"
    assert finding["process"].startswith("python")
    assert (finding["server"], finding["client"]) == ("127.0.0.1:1001", None)
    assert 0 < finding["count"] == entry["drops"] == document["hosts"][0]["counters"]["UdpRcvbufErrors"] < 50
    assert entry["queue"] > 0
    assert [offer["id"] for offer in finding["fixes"]] == ["receive-buffer"]


# Other ways in, and without privilege.

root = pytest.mark.skipif(not is_real_root(), reason="entering another's namespace takes real root")


def outside(*arguments: str, unprivileged: bool = False) -> subprocess.CompletedProcess[str]:
    """A check that runs on this machine, not on a host of the lab."""
    setpriv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if unprivileged else []
    return subprocess.run(
        [*setpriv, *UDPKIT, "check", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@root
def test_a_namespace_by_its_path_and_by_a_process(stage: tuple[Host, Host]) -> None:
    server = stage[0]
    program = start(server, "udp(four, any4, 1100)")
    for arguments in (["--netns", server.namespace], ["--pid", str(program.pid)]):
        run = outside("--json", *arguments)
        found = pairs(json.loads(run.stdout))
        assert found[1001] == FOUR
        assert found[1100] == FOUR
        assert run.returncode == 1
    program.stop()


ALONE = """
mount -t tmpfs none /run
exec 4< <(exec nsenter --net=/proc/self/fd/$0 "$1" -c "$2" "$3")
read -r up <&4
"${@:4}"
"""
"""A server in the namespace behind descriptor $0, then a command, of whose processes it sees no others."""


@root
def test_all_namespaces(stage: tuple[Host, Host]) -> None:
    """Those of this test: from a PID namespace of its own, so that no other's programs are seen."""
    namespace = os.open(stage[0].namespace, os.O_RDONLY)
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net"]
    serving = ["bash", "-c", ALONE, str(namespace), sys.executable, SERVER, "udp(four, any4, 1100)"]
    run = subprocess.run(
        [*unshare, *serving, *UDPKIT, "check", "--json", "--all-namespaces"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        pass_fds=[namespace],
    )
    os.close(namespace)
    document = json.loads(run.stdout)
    assert [bool(one["name"]) for one in document["hosts"]] == [False, True]
    assert pairs(document) == {1100: FOUR}  # of the others' options nothing is known here
    assert run.returncode == 1


@root
def test_without_privilege(stage: tuple[Host, Host]) -> None:
    """The sockets can be seen, their options cannot: no finding, and one line that says so."""
    server = stage[0]
    line = [
        "nsenter",
        f"--net={server.namespace}",
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        *UDPKIT,
        "check",
    ]
    run = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert "0.0.0.0:1001" in run.stdout
    assert "none in what could be seen" in run.stdout
    assert run.stderr.count("root would add") == 2
    assert "Traceback" not in run.stderr
    assert run.returncode == 0
    assert outside("--netns", server.namespace, unprivileged=True).returncode in (2, 5)


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--netns", "nosuch"], "--netns nosuch"),
        (["--container", ""], "--container"),
        (["--netns", "/dev/null"], "/dev/null: it is no network namespace\n"),
        (["--netns", "/proc/self/ns/mnt"], "/proc/self/ns/mnt: Invalid argument\n"),
        (["--pid", "4194304"], "--pid 4194304"),
        (["--container", "nosuch"], "--container nosuch"),
        (["--pid", "1", "--all-namespaces"], "exclude each other"),
    ],
)
def test_what_is_not_there(arguments: list[str], culprit: str) -> None:
    run = outside(*arguments)
    assert run.returncode in (2, 5)
    assert culprit in run.stderr
    assert run.stderr.count("\n") == 1


def test_the_table(stage: tuple[Host, Host]) -> None:
    program = stage[0].run(*UDPKIT, "check")
    assert program.wait() == 1
    text = program.output.decode()
    assert "local  " in text.splitlines()[0]
    [row] = [line for line in text.splitlines() if "  0.0.0.0:1003 " in line]
    assert row.split() == ["0.0.0.0:1003", "-", *row.split()[2:3], "0", "0", "pktinfo"]
    [both] = [line for line in text.splitlines() if "  [::]:1007 " in line]
    assert "v6only" in both.split()
    assert text.count("1001 without IP_PKTINFO:") == 1  # whatever number of clients it is told for
    assert "clients in 172.17.0.0/16 that ask" in text
    assert "How to fix it" in text
