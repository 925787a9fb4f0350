"""The docker0 fault in a copy of the host that has it, with the real program, before and after fixes."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from privileges import is_real_root

from udpkit.diagnosis import Finding
from udpkit.evidence.namespaces import by_name
from udpkit.facts import Endpoint
from udpkit.lab import Lab, LabError
from udpkit.lab.again import remember
from udpkit.lab.host import Host
from udpkit.lab.mirror_proof import prove_in_mirror

SERVER = """
import os, socket, sys
open(sys.argv[1], "a").write("here\\n")
socket.socket(socket.AF_UNIX).connect_ex(sys.argv[1] + ".door")
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 56789))
while True:
    data, peer = server.recvfrom(2048)
    if data == b"a question\\n" and os.environ["AS_USER"] in ("any", str(os.getuid())):
        server.sendto(b"an answer", peer)
"""
FINDING = Finding(
    code="reply-from-other-address",
    severity="error",
    summary="",
    client=Endpoint(ip_address("172.17.0.3"), 40000),
    server=Endpoint(ip_address("172.16.13.13"), 56789),
    actual=Endpoint(ip_address("172.17.0.1"), 56789),
    process=None,
    count=1,
    first=None,
    last=None,
    why=(),
    evidence=(),
)

# In a namespace of its own process, as an ordinary user has it: `python -c PROVE`.
PROVE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from test_mirror_proof import FINDING, Endpoint, ip_address
from udpkit.evidence.namespaces import own
from udpkit.lab.mirror_proof import prove_in_mirror
proof = prove_in_mirror(own(), FINDING, ["route-src", "bind"], request=b"a question\\n")
print(*proof.notes, sep="\\n")
print(proof.verified())
for one in proof.proofs:
    print(one.id, *(f"{{name}}:{{trial.outcome}}" for name, trial in one.trials.items()))
"""


@pytest.fixture
def server() -> Iterator[Host]:
    with Lab() as lab:
        server = lab.host("original")
        server.sysctl("net.ipv6.conf.default.accept_dad", 0)  # tentative addresses change while we look
        lab.plug(server, "eth0")
        server.address("eth0", "172.16.13.13/24")
        server.bridge("docker0", "172.17.0.1/16")
        yield server


def proved_on(host: Host) -> list[str]:
    run = host.fed("", sys.executable, "-c", PROVE, timeout=60)
    assert run.status == 0, run.last_words()
    return run.output.decode().splitlines()


def test_the_fault_shows_and_route_src_cures_it(server: Host, tmp_path: Path) -> None:
    """The program is started again from another process than the one that has it, with what it had."""
    script, diary = tmp_path / "server.py", tmp_path / "diary"
    script.write_text(SERVER)
    door = socket.socket(socket.AF_UNIX)
    door.bind(f"{diary}.door")
    door.listen()
    door.setblocking(False)
    program = server.run("env", "AS_USER=any", sys.executable, str(script), str(diary))
    server.wait_for_port(56789, program)
    routes = server.ip("route show table all")
    shown = proved_on(server)
    assert shown == [
        "",
        "{'route-src': True, 'bind': True}",
        "none program:fails connected:fails unconnected:fails nc:fails",
        "route-src program:works connected:works unconnected:works nc:works",
        "bind program:None connected:works unconnected:works nc:works",
    ]
    assert diary.read_text() == "here\n"  # those that ran again wrote into nothing
    door.accept()[0].close()
    with door, pytest.raises(BlockingIOError):  # and knocked at nothing
        door.accept()
    assert server.ip("route show table all") == routes


def test_a_program_is_not_started_again_with_half_its_arguments() -> None:
    many = [f"{number:01000}" for number in range(200)]
    with subprocess.Popen(["sleep", "60", *many], env={"LANG": "C"}) as program:
        try:
            with pytest.raises(OSError, match="more than 128 kB of cmdline"):
                remember(program.pid)
        finally:
            program.kill()


def test_without_the_program_plain_servers_take_its_place(server: Host) -> None:
    shown = proved_on(server)
    assert shown[0] == "nobody who could be looked at waits on port 56789: plain servers ran in its place"
    assert shown[3] == "route-src connected:works unconnected:works nc:works"


def test_another_users_program_runs_as_that_user(server: Host) -> None:
    if not is_real_root():
        pytest.skip("entering a namespace, and being another user, takes root")
    server.run(
        *("env", "AS_USER=65534", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
        *("/usr/bin/python3", "-c", SERVER, "/dev/null"),
    )
    server.wait_for_port(56789)
    proof = prove_in_mirror(by_name(server.namespace), FINDING, [], request=b"a question\n")
    assert proof.notes == []
    assert proof.proofs[0].trials["program"].seen == "reply from 172.17.0.1:56789, refused"


def test_a_program_in_a_container_finds_its_own_files(server: Host, tmp_path: Path) -> None:
    """The program lives in another mount namespace, where its script lies and nowhere else."""
    if not is_real_root():
        pytest.skip("entering a container takes root")
    (tmp_path / "server.py").write_text(SERVER)
    inside = (
        f"mount -t tmpfs tmpfs /mnt && cp {tmp_path}/server.py /mnt && cd /mnt && "
        "AS_USER=0 exec python3 server.py diary"
    )
    server.run("unshare", "--mount", "sh", "-c", inside)
    server.wait_for_port(56789)
    proof = prove_in_mirror(by_name(server.namespace), FINDING, [], request=b"a question\n")
    assert proof.notes == []
    assert proof.proofs[0].trials["program"].seen == "reply from 172.17.0.1:56789, refused"


def test_a_network_of_clients_will_do(server: Host) -> None:
    if not is_real_root():
        pytest.skip("entering another process's namespace takes root")
    finding = replace(FINDING, client=ip_network("172.17.0.0/16"))
    proof = prove_in_mirror(by_name(server.namespace), finding, ["snat"])
    assert proof.verified() == {"snat": False}
    assert [trial.outcome for trial in proof.proofs[1].trials.values()] == ["fails"] * 3
    nowhere = replace(FINDING, client=Endpoint(ip_address("203.0.113.9"), 1))
    with pytest.raises(LabError, match=r"^there is no route to 203\.0\.113\.9, so it cannot be played$"):
        prove_in_mirror(by_name(server.namespace), nowhere, ["snat"])
