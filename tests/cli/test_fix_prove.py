"""`udpkit fix advise --prove`, with lab hosts that stand for this host."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fixes.cgroup.conftest import AS_ROOT, alone
from privileges import is_real_root
from processes import descendants, parents

from cli.command import TIMEOUT, UDPKIT, environment
from cli.fixing import traces
from cli.test_endings import WITHOUT_NAMESPACES
from udpkit.evidence.programs import SEARCH_PATH
from udpkit.lab import Host, Lab, wait_until

__all__ = ["alone"]
pytestmark = [
    pytest.mark.skipif(not is_real_root(), reason="entering other namespaces takes real root"),
    pytest.mark.usefixtures("alone"),
]
PORT = 56789
ECHO = """
import socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("::", 56789))
while True:
    server.sendto(*server.recvfrom(99))
"""
PROGRAMS = {
    "nc": ["nc", "-ul", str(PORT)],
    "socat": ["socat", "STDIO", f"UDP4-LISTEN:{PORT}"],
    "python": [sys.executable, "-c", ECHO],
}
ASKED = {4: ("172.16.13.13:56789", "172.17.0.1:56789"), 6: ("[fd16::13]:56789", "[fd17::1]:56789")}
"""What clients behind docker0 ask, and what answers."""
CLIENT = {4: "172.17.0.3:40000", 6: "[fd17::3]:40000"}
HELPED = {"attach", "bind", "route-src", "sockets"}


@pytest.fixture
def host() -> Iterator[Host]:
    """The host of the story. Nothing on it changes."""
    with Lab() as lab:
        host, client = lab.host("server"), lab.host("client")
        host.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)  # those of the kernel's come a second later
        host.bridge("docker0", "172.17.0.1/16", "fd17::1/64", "fe80::1/64")
        lab.link(client, "eth0", host, "docker0")
        lab.plug(host, "eth0")
        host.address("eth0", "172.16.13.13/24", "fd16::13/64", "fe80::1/64")
        wait_until(
            lambda: "linkdown" not in host.ip("route") + host.ip("-6 route"),
            timeout=10,
            what="no carrier",
            polling=True,
        )
        before = seen_of(host)
        yield host
        assert seen_of(host) == before


def seen_of(host: Host) -> object:
    return traces(host) if AS_ROOT else [host.ip("rule"), host.ip("route show table all")]


def advise(*arguments: str, data: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [UDPKIT, "fix", "advise", *arguments],
        input=data,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * TIMEOUT,
        env=environment(),
    )


def proved(*arguments: str, data: str = "") -> dict[str, Any]:
    """What is told of the only finding."""
    run = advise("--prove", "--json", *arguments, data=data)
    assert (run.returncode, run.stderr) == (1, "")
    [finding] = json.loads(run.stdout)["findings"]
    assert isinstance(finding, dict)
    return finding


def story(version: int = 4, code: str = "reply-from-other-address", server: str = "") -> str:
    asked, actual = ASKED[version]
    return json.dumps({"code": code, "client": CLIENT[version], "server": server or asked, "actual": actual})


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_real_program_shows_the_fault_and_what_cures_it(host: Host, name: str) -> None:
    argv = PROGRAMS[name]
    if not shutil.which(argv[0], path=SEARCH_PATH):
        pytest.skip(f"{argv[0]} is not installed")
    program = host.run(*argv)
    host.wait_for_port(PORT, program)
    finding = proved("--netns", host.namespace, "--finding", "-", data=story())
    nothing, *others = finding["proofs"]
    assert (nothing["id"], nothing["program"], nothing["connected"]) == ("none", "fails", "fails")
    assert "reply from 172.17.0.1:56789, refused" in nothing["seen"]
    with_program = {one["id"]: one["program"] for one in others if one["program"]}
    snat = "works" if name == "python" else "fails"  # no use where the server connects its listener
    expected = {"route-src": "works", "snat-notrack-incoming": snat}
    assert with_program == expected | ({"attach": "works"} if AS_ROOT else {})
    advice = {one["id"]: one for one in finding["advice"]}
    assert {one for one in HELPED if advice[one]["verified"]} == HELPED - (set() if AS_ROOT else {"attach"})
    fixes = {one["id"]: (one["verified"], one["seen"]) for one in finding["fixes"]}
    assert fixes["route-src"] == (True, "replies from 172.16.13.13:56789")
    assert fixes["bind"] == (True, "plain servers: replies from 172.16.13.13:56789")
    assert fixes["snat-notrack-incoming"][0] == (snat == "works")
    assert finding["notes"] == []
    assert program.status is None


def test_what_a_process_has_is_checked_and_shown_in_the_list(host: Host) -> None:
    program = host.run(*PROGRAMS["python"])
    host.wait_for_port(PORT, program)
    run = advise("--prove", "--pid", str(program.pid), "--number", "1")
    assert (run.returncode, run.stderr) == (1, "")
    assert "in a copy of this host, nothing changed: " in run.stdout
    lines = run.stdout.splitlines()
    [at] = [number for number, line in enumerate(lines) if ". route-src — " in line]
    assert lines[at + 2].startswith("     works in the copy (replies from ")


def test_over_ipv6(host: Host) -> None:
    host.wait_for_port(PORT, host.run(*PROGRAMS["python"]))
    finding = proved("--netns", host.namespace, "--finding", "-", data=story(6))
    outcomes = {one["id"]: one["program"] for one in finding["proofs"]}
    assert outcomes["none"] == "fails"
    assert outcomes["route-src"] == "works"


def test_without_the_program_plain_servers_tell(host: Host) -> None:
    finding = proved("--netns", host.namespace, "--finding", "-", data=story())
    [note] = finding["notes"]
    assert note.endswith("plain servers ran in its place")
    assert {one["id"]: one["verified"] for one in finding["fixes"]}["route-src"] is True


def test_where_the_fault_does_not_show_nothing_is_proved(host: Host) -> None:
    told = story(server="172.17.0.1:56789")  # that is the one that answers
    finding = proved("--netns", host.namespace, "--finding", "-", data=told)
    fixes = {one["id"]: (one["verified"], one["seen"]) for one in finding["fixes"]}
    assert fixes["sockets"] == (None, "with nothing changed the fault does not show there")


@pytest.mark.parametrize(
    ("told", "note"),
    [
        (story(code="receive-buffer-overflow"), "no fix for this can be tried in a lab copy"),
        (story(server="172.16.13.13:0"), "does not say which port was asked, so it cannot be played"),
    ],
    ids=["no exchange", "no port"],
)
def test_what_cannot_be_tried_is_advised_all_the_same(host: Host, told: str, note: str) -> None:
    run = advise("--prove", "--netns", host.namespace, "--finding", "-", data=told)
    assert (run.returncode, run.stderr) == (1, "")
    assert "  1. " in run.stdout
    assert run.stdout.rstrip().endswith(note)


def test_without_permission_to_make_hosts_it_says_so() -> None:
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", WITHOUT_NAMESPACES, "sh"]
    run = subprocess.run(
        [*argv, UDPKIT, "fix", "advise", "--prove", "--finding", "-"],
        input=story(),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env=environment(),
    )
    assert (run.returncode, run.stdout) == (5, ""), run.stderr
    assert "sysctl user.max_user_namespaces=" in run.stderr
    assert run.stderr.count("\n") == 1


def test_it_shows_how_far_it_is_and_leaves_nothing_when_it_is_interrupted(host: Host) -> None:
    host.wait_for_port(PORT, host.run(*PROGRAMS["nc"]))
    before = seen_of(host)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [UDPKIT, "fix", "advise", "--prove", "--netns", host.namespace, "--number", "1"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # noqa: PLW1509 - its terminal, then
        env=environment(COLUMNS="150"),
    )
    os.close(theirs)
    shown = b""
    started: set[int] = set()
    try:
        while part := os.read(ours, 4096):
            shown += part
            if not started and re.search(rb" [1-9]\d*/", shown):  # some are done, others run
                started = descendants(process.pid)
                os.write(ours, b"\x03")
    except OSError:  # EIO: nobody has the other end open any more
        pass
    os.close(ours)
    assert process.wait(TIMEOUT) == 130
    assert b"Traceback" not in shown
    assert started
    wait_until(lambda: not started & parents().keys(), timeout=10, what="it left processes", polling=True)
    assert seen_of(host) == before
