"""`udpkit watch` and `udpkit check` beside a real Docker engine: the story of docker0, told by container."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cli.command import udpkit
from cli.docker import IMAGE, Engine, engine, why_not
from cli.watching import Watch
from udpkit.lab import Host, Lab

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "")

SERVER = "172.16.13.13"


@pytest.fixture(scope="module")
def docker() -> Iterator[tuple[Host, Engine]]:
    """A host with eth0 172.16.13.13 and what its engine makes: docker0."""
    with Lab() as lab, TemporaryDirectory() as folder:  # a short path: it has a socket in it
        host = lab.host("host")
        lab.plug(host, "eth0")
        host.address("eth0", f"{SERVER}/24")
        with engine(host, Path(folder), "nc") as running:
            yield host, running


def read_in(pid: int) -> Callable[[str], str]:
    """Of its network namespace."""
    return lambda path: Path(path.replace("/proc/", f"/proc/{pid}/")).read_text()


def say(program: subprocess.Popen[bytes], line: bytes) -> None:
    assert program.stdin
    program.stdin.write(line)
    program.stdin.flush()


def test_the_story_of_a_container_that_asks(docker: tuple[Host, Engine]) -> None:
    host, engine = docker
    asking = engine.interactive("asking", "bridge", "/bin/nc", "-u", SERVER, "56789")
    pid = engine.started("asking")
    client = engine.ask("asking", "{{.NetworkSettings.IPAddress}}")
    gateway = engine.ask("asking", "{{.NetworkSettings.Gateway}}")
    # The same exchange on both sides of docker0: where the server is, and where the client is.
    with (
        Watch(host.read, "--netns", host.namespace, **engine.environment) as outside,
        Watch(read_in(pid), "--container", "asking", **engine.environment) as inside,
    ):
        # A container that is new to who watches, in the host's own namespace.
        listener = engine.interactive("listening", "host", "/bin/nc", "-ul", "56789")
        host.wait_for_port(56789)
        check = udpkit("check", "--netns", host.namespace, "--json", **engine.environment)
        say(asking, b"hello\n")
        assert listener.stdout
        assert listener.stdout.readline() == b"hello\n"
        say(listener, b"answer\n")
        for running in (outside, inside):
            running.until(lambda codes: "reply-from-other-address" in codes)
    for running, process in ((outside, "nc (container listening)"), (inside, "nc (container asking)")):
        finding = running.of("reply-from-other-address")
        assert finding["client"].startswith(f"{client}:")
        assert finding["server"] == f"{SERVER}:56789"
        assert finding["actual"] == f"{gateway}:56789"
        assert finding["process"] == process
    for one in (asking, listener):
        one.kill()
        one.communicate()

    assert check.returncode == 1, check.stderr
    warned = [one for one in json.loads(check.stdout)["findings"] if one["server"] == f"{SERVER}:56789"]
    assert {one["code"] for one in warned} == {"wildcard-without-pktinfo"}
    assert all("in listening waits on 0.0.0.0:56789" in one["summary"] for one in warned)


def test_a_container_with_two_addresses_is_named(docker: tuple[Host, Engine]) -> None:
    _, engine = docker
    engine.docker("run", "--detach", "--name", "web", IMAGE, "/bin/nc", "-ul", "5000")
    engine.docker("network", "create", "second")
    engine.docker("network", "connect", "second", "web")
    networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    addresses = engine.ask("web", networks).split()
    assert len(addresses) == 2
    run = udpkit("check", "--container", "web", "--json", **engine.environment)
    assert run.returncode == 1, run.stderr
    document = json.loads(run.stdout)
    sockets = [socket for host in document["hosts"] for socket in host["sockets"]]
    # The other is the engine's own name server, 127.0.0.11.
    assert [one["container"] for one in sockets if one["process"] == "nc"] == ["web"]
    findings = document["findings"]
    assert {one["code"] for one in findings} == {"wildcard-without-pktinfo"}
    assert {one["server"] for one in findings} <= {f"{address}:5000" for address in addresses}
    assert all("web" in one["summary"] for one in findings), findings
    shown = udpkit("check", "--container", "web", **engine.environment)
    assert "web" in shown.stdout


def test_a_container_that_is_not_there_is_one_line(docker: tuple[Host, Engine]) -> None:
    _, engine = docker
    run = udpkit("watch", "--container", "nosuch", **engine.environment)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "udpkit: --container nosuch: no container called nosuch is running\n"
