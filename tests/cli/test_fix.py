"""`udpkit fix`, with programs that know nothing of it on lab hosts."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fixes.cgroup.conftest import AS_ROOT, Inside, alone, as_root, cgroup
from sockets.serving import wait_for_addresses

from cli.command import TIMEOUT, UDPKIT, environment, udpkit
from udpkit.cli import fix as fix_verb
from udpkit.evidence.programs import find
from udpkit.fixes.cgroup import Keeper, cgroups
from udpkit.lab import Host, Lab, Program, TimedOut, wait_until

__all__ = ["alone", "cgroup"]

PORT = "5400"
PREFERRED = {4: "172.17.0.1", 6: "fd17::1"}
"""What the routes choose as source of answers."""
OTHER = {4: "172.16.13.13", 6: "fd16::13"}
PATIENCE = 5
REQUEST = bytes.fromhex("0001 0100 0001 0000 0000 0000 0474657374 00 0001 0001")
"""A query for the address of `test` (RFC 1035)."""
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
AGAIN = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 5400))
peers = []
while True:
    data, peer = server.recvfrom(2048)
    if data.startswith(b"again"):
        for peer in peers[slice(*map(int, data.split()[1:]))]:
            server.sendto(data, peer)
    else:
        peers.append(peer)
        server.sendto(data, peer)
"""
"""It answers each, and asked for it some of them once more."""
LOAD = """
import os, socket, sys
while True:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
        asks.settimeout(0.2)
        try:
            for _ in range(2):
                asks.sendto(b"who?", (sys.argv[1], int(sys.argv[2])))
                if (who := asks.recvfrom(99)[1][0]) != sys.argv[1]:
                    sys.exit(f"the answer came from {who}")
        except TimeoutError:  # while socat forks, it has no socket for strangers
            continue
    os.write(1, b".")
"""
"""It ends with the first answer that is wrong."""
KILLS, LONGEST = 10, 0.8
"""Moments, evenly in so many seconds, of which attaching takes most."""
SYSTEMD = "/lib/systemd/systemd"
UNITS = [
    ("udpkit-echo", "system.slice"),
    ("udpkit-echo@eth0-1", "system-udpkit-echo.slice"),
    ("udpkit-echo", "user-1000.slice"),
]
CONNECTING = "5401"
PEERS, FLOWS, BATCH = 200_000, 16384, 200
IP_PKTINFO = 8
"""linux/in.h; the module of Python 3.10 has no name for it."""
BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_CGROUP_SKB, BPF_CGROUP_INET_INGRESS = 5, 8, 8, 0
"""linux/bpf.h"""
FIRST = int.from_bytes(socket.inet_aton("10.64.0.1"), "big")
TALKERS = {
    "nc": (["nc", "-ul", PORT], 4),
    "nc -6": (["nc", "-6", "-ul", PORT], 6),
    "ncat": (["ncat", "-ul", PORT], 4),
    "ncat -6": (["ncat", "-6", "-ul", PORT], 6),
    "socat": (["socat", "STDIO", f"UDP4-LISTEN:{PORT}"], 4),
    "socat, IPv4 on dual-stack": (["socat", "STDIO", f"UDP6-LISTEN:{PORT},ipv6only=0"], 4),
    "socat, IPv6 on dual-stack": (["socat", "STDIO", f"UDP6-LISTEN:{PORT},ipv6only=0"], 6),
}
"""Programs that connect() their socket to who speaks first."""


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


def converse(lab: Lab, server: Program, address: str) -> None:
    """The story: each line must be heard by the other side. Raises TimedOut."""
    lab.hosts["server"].wait_for_port(int(PORT), server)
    client = lab.hosts["client"].run("nc", "-u", address, PORT)
    try:
        for speaker, hearer, line in (
            (client, server, b"hello"),
            (server, client, b"world"),
            (client, server, b"hi"),
        ):
            speaker.type(line + b"\n")
            wait_until(lambda: line in hearer.output, [hearer], timeout=1, what=f"{line!r} was not heard")  # noqa: B023
    finally:
        client.stop(signal.SIGKILL)


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


@as_root
@pytest.mark.parametrize("talker", TALKERS)
def test_a_program_that_connects_to_who_speaks_first_is_heard(lab: Lab, talker: str) -> None:
    argv, version = TALKERS[talker]
    needs(argv[0])
    for fix, address, heard in (
        (False, OTHER[version], False),
        (True, OTHER[version], True),
        (True, PREFERRED[version], True),
    ):
        server = lab.hosts["server"].run(*under(fix, argv))
        try:
            if heard:
                converse(lab, server, address)
            else:
                with pytest.raises(TimedOut, match="world"):
                    converse(lab, server, address)
        finally:
            server.stop()


@as_root
def test_a_server_that_learns_the_address_itself_is_left_alone(lab: Lab) -> None:
    """dnsmasq: IP_PKTINFO on one socket, and then a socket for each address."""
    needs("dnsmasq")
    for way in ([], ["--bind-interfaces"]):
        argv = [
            "dnsmasq",
            "--no-daemon",
            "--conf-file=/dev/null",
            f"--port={PORT}",
            "--user=root",
            "--no-resolv",
            *way,
        ]
        server = lab.hosts["server"].run(*under(True, argv))
        try:
            lab.hosts["server"].wait_for_port(int(PORT), server)
            for address in (OTHER[4], PREFERRED[4]):
                assert answerer(lab, address, query=REQUEST) == address
            [fix] = listed()
            assert (fix["corrected"], fix["unknown"], fix["already_right"]) == (0, 0, 2)
        finally:
            server.stop()


def needs(program: str) -> None:
    if find(program) is None:
        pytest.skip(f"{program} is not installed")


@as_root
@pytest.mark.parametrize("arguments", [[], ["dual-stack"]], ids=["IPv4", "dual-stack"])
def test_a_running_server_is_right_from_attaching_to_detaching(
    lab: Lab, cgroup: Path, arguments: list[str]
) -> None:
    versions = [4, 6] if arguments else [4]
    with echo(Inside(lab.hosts["server"], cgroup), *arguments) as server:
        for target in (["--pid", str(server.pid)], ["--cgroup", str(cgroup)], ["--unit", cgroup.name]):
            assert [answerer(lab, OTHER[version]) for version in versions] == [
                PREFERRED[version] for version in versions
            ]
            with attached(*target):
                for _ in range(2):
                    for version in versions:
                        assert answerer(lab, OTHER[version]) == OTHER[version]
                        assert answerer(lab, PREFERRED[version]) == PREFERRED[version]
                [fix] = listed()
                assert fix["cgroup"] == str(cgroup)
                assert fix["corrected"] == 4 * len(versions)
                assert not fix["unknown"] + fix["address_gone"] + fix["overflow"]


@as_root
def test_peers_that_call_themselves_mapped_are_not_learned(lab: Lab, cgroup: Path) -> None:
    """Nothing keeps them from it, and answers go to IPv4, where the address that was asked is none."""
    mapped, port = b"\0" * 10 + b"\xff\xff" + socket.inet_aton("172.17.0.3"), 4800
    asked = socket.inet_pton(socket.AF_INET6, OTHER[6])
    datagram = struct.pack("!HHHH", port, int(PORT), 12, 0) + b"who?"
    words = struct.unpack("!26H", mapped + asked + struct.pack("!II", len(datagram), 17) + datagram)
    total = sum(words)
    checksum = ~(total % 0xFFFF) & 0xFFFF  # RFC 1071
    packet = struct.pack("!IHBB", 6 << 28, len(datagram), 17, 64) + mapped + asked
    client = lab.hosts["client"]
    with (
        echo(Inside(lab.hosts["server"], cgroup), "dual-stack") as program,
        attached("--cgroup", str(cgroup)),
        client.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw,
        client.socket(socket.AF_INET, socket.SOCK_DGRAM) as hears,
    ):
        hears.bind(("172.17.0.3", port))
        hears.settimeout(PATIENCE)
        raw.sendto(packet + datagram[:6] + struct.pack("!H", checksum) + datagram[8:], (OTHER[6], 0))
        assert hears.recvfrom(99) == (b"who?", (PREFERRED[4], int(PORT)))
        program.drain()
        assert program.output == b""


@as_root
def test_a_fix_for_a_process_outlives_it_and_ends_with_the_last_of_its_namespace(
    lab: Lab, cgroup: Path
) -> None:
    inside = Inside(lab.hosts["server"], cgroup)
    other = Inside(lab.hosts["client"], cgroup).run("sleep", "60")
    first = inside.run("sleep", "60")
    with attached("--pid", str(first.pid)) as fix:
        with echo(inside):
            first.stop()
            assert answerer(lab, OTHER[4]) == OTHER[4]
            # Longer than it takes to look for namespaces again.
            with pytest.raises(subprocess.TimeoutExpired):
                fix.wait(3)
            assert answerer(lab, OTHER[4]) == OTHER[4]
        assert fix.wait(TIMEOUT) == 0
    other.stop()


@as_root
def test_there_are_never_two_on_one_cgroup_and_one_can_be_detached_from_elsewhere(
    lab: Lab, cgroup: Path
) -> None:
    with echo(Inside(lab.hosts["server"], cgroup)) as server, attached("--cgroup", str(cgroup)) as fix:
        again = udpkit("fix", "attach", "--pid", str(server.pid))
        assert (again.returncode, again.stderr) == (
            2,
            f"udpkit: {cgroup} has a fix already: udpkit fix list\n",
        )
        gone = udpkit("fix", "detach", "--cgroup", str(cgroup))
        assert gone.returncode == 0, gone.stderr
        assert fix.wait(TIMEOUT) == 0
        assert answerer(lab, OTHER[4]) == PREFERRED[4]
        gone = udpkit("fix", "detach")
        assert (gone.returncode, gone.stderr) == (1, "udpkit: there is no fix on this host\n")


@as_root
def test_a_persistent_fix_stays_until_it_is_detached(lab: Lab, cgroup: Path) -> None:
    with echo(Inside(lab.hosts["server"], cgroup)):
        persist(cgroup)
        assert answerer(lab, OTHER[4]) == OTHER[4]
        again = udpkit("fix", "attach", "--persist", "--cgroup", str(cgroup))
        assert again.returncode == 2, again.stderr
        assert udpkit("fix", "detach").returncode == 0
        assert answerer(lab, OTHER[4]) == PREFERRED[4]


def persist(cgroup: Path) -> int:
    """Attach, and return the process in the background."""
    there = udpkit("fix", "attach", "--persist", "--cgroup", str(cgroup))
    assert there.returncode == 0, there.stderr
    [fix] = listed()
    owner: int = fix["process"]
    return owner


@as_root
@pytest.mark.parametrize("how", ["attach", "run", "detach"])
def test_what_a_persistent_fix_leaves_that_was_killed_goes(lab: Lab, cgroup: Path, how: str) -> None:
    server = lab.hosts["server"]
    with echo(Inside(server, cgroup)):
        clean = traces(server)
        owner = persist(cgroup)
        killed(owner)
        assert listed() == []
        assert answerer(lab, OTHER[4]) == PREFERRED[4]
        assert traces(server) != clean
        if how == "detach":
            gone = udpkit("fix", "detach", "--cgroup", str(cgroup))
            assert gone.returncode == 0, gone.stderr
        elif how == "attach":
            persist(cgroup)
            assert answerer(lab, OTHER[4]) == OTHER[4]
            assert udpkit("fix", "detach").returncode == 0
        else:
            assert udpkit("fix", "run", "--", "true").returncode == 0  # on another host
        assert traces(server) == clean
        nothing = udpkit("fix", "detach", "--cgroup", str(cgroup))
        assert nothing.returncode == 1


def killed(process: int) -> None:
    """SIGKILL, and wait for the end."""
    ends = os.pidfd_open(process)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: select.select([ends], [], [], 0)[0], timeout=PATIENCE, what="it lives", polling=True)
    os.close(ends)


@as_root
def test_killed_at_any_moment_it_leaves_nothing_that_does_not_go(lab: Lab, cgroup: Path) -> None:
    with echo(Inside(lab.hosts["server"], cgroup)):
        for moment in range(KILLS):
            argv = [UDPKIT, "fix", "attach", "--cgroup", str(cgroup)]
            fix = subprocess.Popen(argv, stderr=subprocess.DEVNULL, env=environment())
            with suppress(subprocess.TimeoutExpired):
                fix.wait(moment * LONGEST / KILLS)
            fix.kill()
            fix.wait()
            assert answerer(lab, OTHER[4]) in (OTHER[4], PREFERRED[4])
        udpkit("fix", "detach")  # which has nothing to do if they were all too early
        assert answerer(lab, OTHER[4]) == PREFERRED[4]


@as_root
def test_what_bpftool_lists_of_a_fix_is_gone_after_it(cgroup: Path) -> None:
    needs("bpftool")
    for end in (signal.SIGTERM, signal.SIGKILL):
        with attached("--cgroup", str(cgroup)) as fix:
            assert in_kernel() == ["link"] * 5 + ["map"] * 4 + ["prog"] * 5
            fix.send_signal(end)
            fix.wait(TIMEOUT)
        wait_until(lambda: not in_kernel(), timeout=PATIENCE, what="BPF objects stay", polling=True)


@as_root
def test_what_a_killed_fix_leaves_the_next_one_removes(lab: Lab, cgroup: Path) -> None:
    server = lab.hosts["server"]
    with echo(Inside(server, cgroup)):
        with attached("--cgroup", str(cgroup)) as fix:
            assert answerer(lab, OTHER[4]) == OTHER[4]
            fix.kill()
            fix.wait()
        assert answerer(lab, OTHER[4]) == PREFERRED[4]
        left = server.ip("rule show")
        assert "fwmark" in left
        with attached("--cgroup", str(cgroup)):
            assert server.ip("rule show").count("fwmark") == left.count("fwmark")
            assert answerer(lab, OTHER[4]) == OTHER[4]


@as_root
@pytest.mark.parametrize("new", ["172.16.13.14/24", "fd16::14/64"])
def test_addresses_that_come_and_go_are_followed(lab: Lab, cgroup: Path, new: str) -> None:
    server, client = lab.hosts["server"], lab.hosts["client"]
    address = new.partition("/")[0]
    version = 6 if ":" in new else 4
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with (
        echo(Inside(server, cgroup), "dual-stack") as program,
        client.socket(family, socket.SOCK_DGRAM) as asks,
        attached("--cgroup", str(cgroup)),
    ):
        asks.settimeout(PATIENCE)
        few = marked(server)
        server.address("eth0", new)
        try:
            wait_until(lambda: marked(server) > few, timeout=PATIENCE, what="not followed", polling=True)
            wait_until(
                lambda: answerer(lab, address) == address, timeout=PATIENCE, what="not used", polling=True
            )
            asks.sendto(b"me", (address, int(PORT)))
            assert asks.recvfrom(100)[1][0] == address
        finally:
            server.ip(f"address del {new} dev eth0")
        wait_until(lambda: marked(server) == few, timeout=PATIENCE, what="rules stay", polling=True)
        # The server speaks to the same peer again; the source would be one that the host has lost.
        with client.socket(family, socket.SOCK_DGRAM) as other:
            other.sendto(b"first", (OTHER[version], int(PORT)))
            assert asks.recvfrom(100)[1][0] == PREFERRED[version]
        [fix] = listed()
        assert fix["address_gone"] == 1
        program.drain()
        assert program.output == b""


def marked(server: Host) -> int:
    """How many rules there are for marks; they come before the programs are told, and go after."""
    return (server.ip("-4 rule show") + server.ip("-6 rule show")).count("fwmark")


@contextmanager
def systemd(lab: Lab, cgroup: Path, folder: Path, unit: str, slice_: str) -> Iterator[Program]:
    """A real one, the first process of a container whose root cgroup this is; it runs ECHO as that unit."""
    if not Path(SYSTEMD).exists():
        pytest.skip("systemd is not installed")
    kind = unit.partition("@")[0] + ("@" if "@" in unit else "")
    (folder / "echo.py").write_text(ECHO)
    (folder / f"{kind}.service").write_text(
        "[Unit]\nDefaultDependencies=no\n"
        f"[Service]\nSlice={slice_}\nRestart=always\nRestartSec=0\n"
        f"ExecStart={find('python3')} {folder}/echo.py\n"
    )
    (folder / "test.target").write_text(f"[Unit]\nDefaultDependencies=no\nWants={unit}.service\n")
    own = [
        "unshare",
        "--fork",
        "--kill-child",
        "--pid",
        "--mount-proc",
        "--mount",
        "--cgroup",
        "--ipc",
        "--uts",
    ]
    line = (
        "mount -t tmpfs none /run && mount -t cgroup2 none /sys/fs/cgroup && exec env -i container=lab "
        f"SYSTEMD_UNIT_PATH='{folder}' {SYSTEMD} --system --unit=test.target --log-target=console"
    )
    program = Inside(lab.hosts["server"], cgroup).run(*own, "sh", "-c", line)
    try:
        lab.hosts["server"].wait_for_port(int(PORT), program, timeout=20)
        yield program
    finally:
        program.stop(signal.SIGKILL)
        wait_until(lambda: not cgroups.populated(cgroup), timeout=PATIENCE, what="it lives", polling=True)
        for path, _, _ in os.walk(cgroup, topdown=False):
            if path != str(cgroup):
                Path(path).rmdir()


@as_root
@pytest.mark.parametrize(("unit", "slice_"), UNITS)
def test_a_unit_of_systemd_is_fixed_until_it_is_started_anew(
    lab: Lab, cgroup: Path, tmp_path: Path, unit: str, slice_: str
) -> None:
    server = lab.hosts["server"]
    with systemd(lab, cgroup, tmp_path, unit, slice_):
        for name in (unit, f"{unit}.service"):
            with attached("--unit", name) as fix:
                assert answerer(lab, OTHER[4]) == OTHER[4]
                [path] = [Path(one["cgroup"]) for one in listed()]
                assert path.name == f"{unit}.service"
                assert slice_ in path.parts
            assert answerer(lab, OTHER[4]) == PREFERRED[4]
        with attached("--unit", unit) as fix:
            [process] = cgroups.processes(path)
            killed(process)
            assert fix.wait(TIMEOUT) == 0
            server.wait_for_port(int(PORT))
            assert answerer(lab, OTHER[4]) == PREFERRED[4]


@as_root
def test_all_programs_of_a_container_are_fixed_from_inside_it(lab: Lab, cgroup: Path, tmp_path: Path) -> None:
    """Its root cgroup is not the host's (cgroup_namespaces(7)), and cgroup2 is mounted elsewhere."""
    inside = Inside(lab.hosts["server"], cgroup)
    line = f"mount -t cgroup2 none '{tmp_path}' && exec {UDPKIT} fix attach --all"
    elsewhere = lab.host("elsewhere")
    lab.plug(elsewhere, "eth0")
    elsewhere.address("eth0", "192.0.2.1/24", "192.0.2.2/24")
    elsewhere.run("sleep", "60")
    with echo(inside):
        fix = inside.run("unshare", "--cgroup", "--mount", "sh", "-c", line)
        try:
            wait_until(
                lambda: b"attached to" in fix.errors or fix.status is not None,
                [fix],
                timeout=TIMEOUT,
                what="it does not attach",
            )
            assert answerer(lab, OTHER[4]) == OTHER[4], fix.errors
            assert [one["cgroup"] for one in listed()] == [str(cgroup)]
            assert marked(lab.hosts["server"])
            assert not marked(elsewhere)
        finally:
            fix.stop()


@as_root
def test_with_200_000_peers_the_recent_are_right_and_the_forgotten_as_without_the_fix(
    lab: Lab, cgroup: Path
) -> None:
    """Each is another address of one client; the server answers at once, and some again on demand."""
    server, client = lab.hosts["server"], lab.hosts["client"]
    client.ip("route add local 10.64.0.0/10 dev lo")
    server.ip("route add 10.64.0.0/10 via 172.17.0.3")
    try:
        with (
            echo(Inside(server, cgroup), code=AGAIN),
            attached("--cgroup", str(cgroup), "--flows", str(FLOWS)),
            client.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks,
        ):
            asks.settimeout(PATIENCE)
            asks.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            for batch in range(0, PEERS, BATCH):
                for number in range(batch, batch + BATCH):
                    ask_from(asks, number, b"who?")
                assert heard(asks, BATCH) == {(number, OTHER[4]) for number in range(batch, batch + BATCH)}
            [before] = listed()
            assert (before["corrected"], before["unknown"]) == (PEERS, 0)
            assert before["overflow"] == PEERS - FLOWS
            for first, answers in ((0, PREFERRED[4]), (PEERS - BATCH, OTHER[4])):
                ask_from(asks, PEERS - 1, b"again %d %d" % (first, first + BATCH))
                assert heard(asks, BATCH) == {(number, answers) for number in range(first, first + BATCH)}
            [after] = listed()
            assert (after["corrected"], after["unknown"]) == (PEERS + BATCH, BATCH)
    finally:
        server.ip("route del 10.64.0.0/10 via 172.17.0.3")
        client.ip("route del local 10.64.0.0/10 dev lo")


def ask_from(asks: socket.socket, number: int, data: bytes) -> None:
    """From that address of many."""
    chosen = struct.pack("=iI4s", 0, socket.htonl(FIRST + number), bytes(4))  # struct in_pktinfo, ip(7)
    asks.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, chosen)], 0, (OTHER[4], int(PORT)))


def heard(asks: socket.socket, count: int) -> set[tuple[int, str]]:
    """Which of many were answered, and by whom."""
    found = set()
    for _ in range(count):
        _, [(_, _, information)], _, (source, _) = asks.recvmsg(99, socket.CMSG_SPACE(12))
        found.add((int.from_bytes(information[8:12], "big") - FIRST, source))
    return found


@as_root
@pytest.mark.parametrize("first", ["outer", "inner"])
def test_of_two_fixes_on_nested_cgroups_either_does_without_the_other(
    lab: Lab, cgroup: Path, first: str
) -> None:
    inner = cgroup / "inner"
    inner.mkdir()
    server = lab.hosts["server"]
    paths = {"outer": str(cgroup), "inner": str(inner)}
    second = next(name for name in paths if name != first)
    needs("socat")
    try:
        with ExitStack() as there:
            there.enter_context(echo(Inside(server, inner)))
            forking = Inside(server, inner).run("socat", f"UDP4-LISTEN:{CONNECTING},fork", "PIPE")
            there.callback(forking.stop, signal.SIGKILL)
            server.wait_for_port(int(CONNECTING), forking)
            for path in paths.values():
                there.enter_context(attached("--cgroup", path))
            assert both(lab) == {OTHER[4]}
            outer, nested = sorted(listed(), key=lambda fix: str(fix["cgroup"]))
            assert (nested["corrected"], outer["corrected"], outer["already_right"]) == (2, 0, 1)
            for name, answers in ((first, OTHER[4]), (second, PREFERRED[4])):
                assert udpkit("fix", "detach", "--cgroup", paths[name]).returncode == 0
                assert both(lab) == {answers}
    finally:
        wait_until(lambda: not cgroups.populated(inner), timeout=PATIENCE, what="populated", polling=True)
        inner.rmdir()


def both(lab: Lab) -> set[str]:
    """Who answers for the program that sends, and for the one that connects."""
    return {answerer(lab, OTHER[4], port=port) for port in (PORT, CONNECTING)}


@as_root
@pytest.mark.parametrize("connects", [False, True], ids=["sends", "connects"])
def test_under_load_no_answer_is_wrong_while_addresses_come_and_go(
    lab: Lab, cgroup: Path, connects: bool
) -> None:
    server = lab.hosts["server"]
    with ExitStack() as there:
        if connects:
            needs("socat")
            program = Inside(server, cgroup).run("socat", f"UDP4-LISTEN:{PORT},fork", "PIPE")
            there.callback(program.stop, signal.SIGKILL)
            server.wait_for_port(int(PORT), program)
        else:
            there.enter_context(echo(Inside(server, cgroup)))
        there.enter_context(attached("--cgroup", str(cgroup)))
        load = lab.hosts["client"].run("python3", "-c", LOAD, OTHER[4], PORT)
        there.callback(load.stop, signal.SIGKILL)
        few = marked(server)
        for _ in range(5):
            for what, expected in (("add", few + 3), ("del", few)):
                load.output.clear()
                for address in ("172.16.13.14", "172.16.13.15", "10.200.0.1"):
                    server.ip(f"address {what} {address}/24 dev eth0")
                wait_until(lambda: marked(server) == expected, timeout=PATIENCE, what=what, polling=True)  # noqa: B023
                wait_until(
                    lambda: len(load.output) > 20 or load.status, [load], timeout=PATIENCE, what="no answers"
                )
                assert load.status is None, load.last_words()


@as_root
def test_the_exit_code_is_the_programs_and_signals_reach_it() -> None:
    assert udpkit("fix", "run", "--", "sh", "-c", "exit 7").returncode == 7
    assert udpkit("fix", "run", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    missing = udpkit("fix", "run", "--", "no-such-program")
    assert (missing.returncode, missing.stderr) == (5, "udpkit: no-such-program: there is no such program\n")
    run = subprocess.Popen(
        [UDPKIT, "fix", "run", "--", "sh", "-c", "trap 'exit 3' TERM; echo; while :; do sleep 0.1; done"],
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert run.stdout is not None
    run.stdout.readline()
    run.terminate()
    run.communicate(timeout=TIMEOUT)
    assert run.returncode == 3


@contextmanager
def running(script: str, *under: str, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """A shell script with a fix, that has begun; `under` runs it all."""
    argv = [*under, UDPKIT, "fix", "run", "--", "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment(), **how) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "begun\n"
        yield run


WAITS = "trap 'exit 3' {}; echo begun; while :; do sleep 0.1; done"


@as_root
@pytest.mark.parametrize("name", ["INT", "QUIT", "TERM", "HUP", "USR1", "USR2"])
def test_every_signal_that_programs_are_told_with_reaches_it(name: str) -> None:
    with running(WAITS.format(name), start_new_session=True) as run:
        run.send_signal(signal.Signals[f"SIG{name}"])
        assert run.wait(TIMEOUT) == 3


@as_root
def test_keys_of_a_terminal_reach_it_once() -> None:
    master, slave = os.openpty()
    script = "trap 'echo one' INT; echo begun; read line; read line; echo $line"
    with running(script, "setsid", "--ctty", stdin=slave) as run:
        os.write(master, b"\x03")
        assert run.stdout is not None
        assert run.stdout.readline() == "one\n"
        os.write(master, b"first\nsecond\n")
        assert run.stdout.read() in {"first\n", "second\n"}
    os.close(master)
    os.close(slave)


@as_root
def test_what_it_is_to_ignore_stays_ignored() -> None:
    with running("echo begun; read line; echo $line", "nohup", stdin=subprocess.PIPE) as run:
        run.send_signal(signal.SIGHUP)
        assert run.communicate("survived\n", TIMEOUT) == ("survived\n", None)


@as_root
def test_a_program_that_goes_on_without_its_fix_still_hears_signals() -> None:
    with running(WAITS.format("TERM")) as run:
        assert udpkit("fix", "detach").returncode == 0
        run.terminate()
        assert run.wait(TIMEOUT) == 3


@as_root
def test_descriptors_are_passed_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("read")
    line = f"exec 3<'{tmp_path}/file'; exec {UDPKIT} fix run -- sh -c 'cat <&3; ls /proc/self/fd'"
    run = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, env=environment())
    assert run.stdout.split("\n")[:5] == ["read0", "1", "2", "3", "4"]  # the last one is of ls
    assert len(run.stdout.split()) == 5


@as_root
def test_a_fix_is_listed_with_the_process_that_can_be_killed(lab: Lab) -> None:
    """Its own number for itself is one of the lab's PID namespace."""
    run = lab.hosts["server"].run(UDPKIT, "fix", "run", "--", "sleep", "60")
    try:
        wait_until(lambda: listed() != [], [run], timeout=TIMEOUT, what="no fix", polling=True)
        assert [one["process"] for one in listed()] == [run.pid]
    finally:
        run.stop()


@as_root
def test_nobody_without_privilege_can_keep_a_fix_waiting() -> None:
    descriptor = os.open(cgroups.mount(), os.O_RDONLY)  # which everybody may open, and so lock
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert udpkit("fix", "run", "--", "true").returncode == 0
    finally:
        os.close(descriptor)
    assert cgroups.LOCK.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("arguments", [["run", "--", "true"], ["attach", "--all"], ["list"], ["detach"]])
def test_without_privilege_it_says_so_and_touches_nothing(arguments: list[str]) -> None:
    before = sorted(cgroups.mount().iterdir())
    argv = [UDPKIT, "fix", *arguments]
    if AS_ROOT:
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", *argv]
    run = subprocess.run(
        argv, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment()
    )
    assert (run.returncode, run.stdout) == (5, "")
    assert run.stderr.startswith("udpkit: fixing other programs takes root")
    assert run.stderr.count("\n") == 1
    assert sorted(cgroups.mount().iterdir()) == before


@as_root
@pytest.mark.parametrize("streams", ["", "<&-", ">&-", "<&- >&- 2>&-"])
def test_what_persists_needs_no_terminal_and_no_folder(cgroup: Path, tmp_path: Path, streams: str) -> None:
    line = f"cd '{tmp_path}' && {UDPKIT} fix attach --persist --cgroup '{cgroup}' {streams}"
    subprocess.run(["sh", "-c", line], check=True, timeout=TIMEOUT, env=environment())
    [fix] = listed()
    try:
        assert (fix["cgroup"], fix["corrected"]) == (str(cgroup), 0)
        process = Path(f"/proc/{fix['process']}")
        assert {str((process / "fd" / str(number)).readlink()) for number in range(3)} == {os.devnull}
        assert str((process / "cwd").readlink()) == "/"
    finally:
        assert udpkit("fix", "detach").returncode == 0


@as_root
def test_a_cgroup_that_takes_none_is_named(cgroup: Path) -> None:
    attach_alone(cgroup)
    run = udpkit("fix", "attach", "--cgroup", cgroup)
    assert (run.returncode, run.stderr.count("\n")) == (5, 1)
    assert f"{cgroup} or one above it has BPF programs that let no others beside them" in run.stderr


def attach_alone(cgroup: Path) -> None:
    """A program that lets everything pass, and no other program beside it, as long as the cgroup is there."""
    code = struct.pack("=BBhi", 0xB7, 0, 0, 1) + struct.pack("=BBhi", 0x95, 0, 0, 0)  # return 1
    instructions, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    load = struct.pack("=IIQQ", BPF_CGROUP_SKB, 2, ctypes.addressof(instructions), ctypes.addressof(licence))
    program = bpf(BPF_PROG_LOAD, load.ljust(48, b"\0"))
    folder = os.open(cgroup, os.O_RDONLY)
    try:
        bpf(BPF_PROG_ATTACH, struct.pack("=IIII", folder, program, BPF_CGROUP_INET_INGRESS, 0))
    finally:
        os.close(folder)
        os.close(program)


def bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    result: int = libc.syscall(number, command, ctypes.create_string_buffer(attributes), len(attributes))
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result


@as_root
@pytest.mark.parametrize("capability", ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"])
def test_a_capability_that_is_missing_is_named(cgroup: Path, capability: str) -> None:
    """Without the first or the last one it could be attached, and half of it, or all, would not work."""
    other = ["setpriv", "--reuid=65534", "--clear-groups", "sleep", "60"]
    with Lab() as lab:
        host = lab.host("host")
        Inside(host, cgroup).run(*other)
        wait_until(lambda: cgroups.populated(cgroup), timeout=PATIENCE, what="it does not run", polling=True)
        drop = f"-{capability.removeprefix('CAP_').lower()}"
        argv = ["setpriv", f"--bounding-set={drop}", UDPKIT, "fix", "attach", "--cgroup", str(cgroup)]
        before = traces(host)
        run = subprocess.run(
            argv, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment()
        )
        assert (run.returncode, run.stderr.count("\n")) == (5, 1), run.stderr
        assert run.stderr.startswith(f"udpkit: fixing other programs takes root; missing: {capability};")
        assert traces(host) == before


@as_root
def test_a_fix_that_ends_just_before_it_is_asked_to_is_detached(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Keeper(cgroup):
        [ended] = [one for one in fix_verb.attached() if one[1] == cgroup]
    monkeypatch.setattr(fix_verb, "attached", lambda: [ended])
    assert fix_verb.verb.main(["detach"], standalone_mode=False) == 0


@as_root
@pytest.mark.parametrize(
    ("inside", "says"),
    [
        (
            ["unshare", "--mount", "sh", "-c", 'umount --lazy "$0" && exec "$@"', str(cgroups.mount())],
            "no cgroup2 file system is mounted: mount -t cgroup2 none DIRECTORY",
        ),
        (
            ["unshare", "--user", "--map-root-user"],
            "fixing other programs takes root outside of user namespaces",
        ),
        (["env", "PATH=/nowhere"], "ip: No such file or directory"),
        (
            [
                "unshare",
                "--mount",
                "sh",
                "-c",
                'mount --bind /bin/true "$(command -v ip)" && exec "$@"',
                "sh",
            ],
            "ip tells no routes and rules: that of iproute2 is needed",
        ),
    ],
)
def test_what_is_missing_is_named(inside: list[str], says: str) -> None:
    argv = [*inside, UDPKIT, "fix", "run", "--", "/bin/true"]
    run = subprocess.run(
        argv, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment()
    )
    assert (run.returncode, run.stdout) == (5, "")
    assert run.stderr.startswith(f"udpkit: {says}")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["attach"], "one of --pid, --container, --unit, --cgroup and --all is needed; see"),
        (["attach", "--pid", "4194304"], "there is no process 4194304"),
        (["attach", "--unit", "no-such"], "no unit called no-such has a cgroup"),
        (["attach", "--cgroup", "no-such"], "there is no cgroup no-such"),
        (["detach", "--cgroup", ""], "one of --pid, --container, --unit, --cgroup and --all is needed; see"),
    ],
)
def test_what_is_not_there_is_named(arguments: list[str], says: str) -> None:
    run = udpkit("fix", *arguments)
    assert run.returncode == 2
    assert run.stderr.startswith(f"udpkit: {says}")
