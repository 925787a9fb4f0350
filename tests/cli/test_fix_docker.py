"""`udpkit fix` and a real Docker engine, which runs inside a lab host and makes its own docker0 there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fixes.cgroup.conftest import AS_ROOT, alone

from cli.command import TIMEOUT, UDPKIT, environment
from cli.docker import IMAGE, engine, why_not
from cli.fixing import needs, under
from udpkit.lab import Host, Lab, wait_until

__all__ = ["alone"]
pytestmark = pytest.mark.skipif(not AS_ROOT or bool(why_not()), reason=why_not() or "takes real root")
PORT = "5400"
Docker = Callable[..., str]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Lab() as lab:
        host = lab.host("host")
        lab.plug(host, "eth0")
        host.address("eth0", "172.16.13.13/24")
        yield host


@pytest.fixture(scope="module")
def docker(host: Host) -> Iterator[Docker]:
    """Runs docker(1) with an engine that nobody else has, and an image with what is talked to."""
    with (
        TemporaryDirectory() as folder,  # a short path: it has a socket in it
        engine(host, Path(folder), "nc", "sleep") as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("DOCKER_HOST", running.environment["DOCKER_HOST"])
        yield running.docker


def test_a_container_hears_a_server_on_its_host(host: Host, docker: Docker, alone: None) -> None:  # noqa: ARG001
    """The story, with the engine's own bridge."""
    needs("nc")
    socket_path = os.environ["DOCKER_HOST"]
    docker("run", "--detach", "--name=client", IMAGE, "/bin/sleep", "300")
    talk = ["exec", "-i", "client", "/bin/nc", "-u", "172.16.13.13", PORT]
    for fix in (False, True):
        server = host.run(*under(fix, ["nc", "-ul", PORT]))
        host.wait_for_port(int(PORT), server)
        client = host.run("docker", f"--host={socket_path}", *talk)
        try:
            client.type(b"hello\n")
            wait_until(lambda: b"hello" in server.output, [server], timeout=10, what="not heard")  # noqa: B023
            server.type(b"world\n")
            client.type(b"hi\n")  # which the host's kernel refuses if nc has the wrong address
            wait_until(
                lambda: b"world" in client.output or client.status is not None,  # noqa: B023
                [client],
                timeout=10,
                what="no answer, no error",
            )
            assert (b"world" in client.output) == fix
        finally:
            client.stop(signal.SIGKILL)
            server.stop()
    docker("rm", "--force", "client")


def test_a_server_in_a_container_is_right_until_the_container_ends(
    host: Host,
    docker: Docker,
    alone: None,  # noqa: ARG001
) -> None:
    docker("run", "--detach", "--name=server", IMAGE, "/bin/nc", "-ul", PORT)
    pid = docker("inspect", "--format={{.State.Pid}}", "server")
    inside = ["nsenter", f"--target={pid}", "--net"]
    subprocess.run([*inside, "ip", "address", "add", "172.17.0.77/16", "dev", "eth0"], check=True)
    argv = [UDPKIT, "fix", "attach", "--container", "server"]
    fix = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        assert fix.stderr
        assert "attached to" in fix.stderr.readline()
        with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
            asks.connect(("172.17.0.77", int(PORT)))
            asks.send(b"hello")
            # nc has connected its socket to us: from the address that was asked, or not.
            look = [*inside, "ss", "--no-header", "--udp", "--numeric", "state", "connected"]
            wait_until(
                lambda: f":{asks.getsockname()[1]}" in subprocess.check_output(look, text=True),
                timeout=10,
                what="nc does not connect",
                polling=True,
            )
            assert f"172.17.0.77:{PORT}" in subprocess.check_output(look, text=True)
        docker("rm", "--force", "server")
        assert fix.wait(TIMEOUT) == 0
    finally:
        fix.kill()
        fix.communicate()
