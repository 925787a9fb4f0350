"""`udpkit fix`, with programs that know nothing of it on lab hosts."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fixes.cgroup.conftest import Inside, alone, as_root, cgroup

from cli.command import TIMEOUT, UDPKIT, udpkit
from cli.fixing import (
    ECHO,
    OTHER,
    PATIENCE,
    PORT,
    PREFERRED,
    answerer,
    attached,
    echo,
    killed,
    lab,
    listed,
    needs,
    nothing_is_left,
    under,
)
from udpkit.evidence.programs import find
from udpkit.fixes.cgroup import cgroups
from udpkit.lab import Host, Lab, Program, TimedOut, wait_until

__all__ = ["alone", "cgroup", "lab", "nothing_is_left"]

REQUEST = bytes.fromhex("0001 0100 0001 0000 0000 0000 0474657374 00 0001 0001")
"""A query for the address of `test` (RFC 1035)."""
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
        gone = udpkit("fix", "detach", "--cgroup", str(cgroup), "--json")
        assert gone.returncode == 0, gone.stderr
        assert json.loads(gone.stdout) == {"schema": 1, "detached": str(cgroup)}
        assert fix.wait(TIMEOUT) == 0
        assert answerer(lab, OTHER[4]) == PREFERRED[4]
        gone = udpkit("fix", "detach")
        assert (gone.returncode, gone.stderr) == (1, "udpkit: there is no fix on this host\n")


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
