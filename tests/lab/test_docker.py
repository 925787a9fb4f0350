"""A real Docker engine on a lab host: what it can do, whom it can reach, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from processes import descendants, parents

from udpkit.evidence.programs import find
from udpkit.lab import CommandFailed, Lab, ProgramMissing, control, docker, wait_until
from udpkit.lab.docker import image, start_engine

missing = [name for name in [*docker.NEEDS, "nc"] if find(name) is None]
needs_docker = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (make peers)")

OWNER = """
import sys
from udpkit.lab import Lab, wait_until
from udpkit.lab.docker import start_engine
lab = Lab(user_namespace=True)
host = lab.host("host")
start_engine(host, ["nc"], "--userland-proxy=true")
asks = host.run("docker", "run", "-i", "--rm", "-p", "5300:5300/udp", "lab", "nc", "-nv", "-ul", "5300")
wait_until(lambda: b"Bound" in asks.errors, [asks], timeout=30, what="no container")
print("ready", flush=True)
sys.stdin.read()
"""
ENDINGS = {
    "it closes the lab": "lab.close()",
    "it raises": "raise SystemExit(7)",
    "it is killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "it is interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
}


def mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()


def read(pid: int, name: str) -> str:
    """A file of a process, empty if that has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def mount_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115
    except OSError:
        return ""


@needs_docker
@pytest.mark.parametrize("then", ENDINGS.values(), ids=ENDINGS.keys())
def test_nothing_is_left_when_its_owner_ends(then: str, tmp_path: Path) -> None:
    before = mounts()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER + then],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
    )
    assert owner.stdout
    assert owner.stdout.readline() == "ready\n"
    tree = descendants(owner.pid)
    names = {read(pid, "comm").strip(): pid for pid in tree}
    assert {"dockerd", "containerd", "docker-proxy", "nc"} <= names.keys()
    assert re.findall(r"^\S+ / \S+ (\w+)", read(names["dockerd"], "mounts"), re.MULTILINE) == ["ro"]
    # Containers and what watches them are in none but our own control groups.
    assert {read(pid, "cgroup") for pid in tree} - {""} == {Path("/proc/self/cgroup").read_text()}
    inside = {mount_namespace(pid) for pid in tree} - {mount_namespace(os.getpid()), ""}
    assert len(inside) >= 2  # the engine's and the container's
    with contextlib.ExitStack() as held:
        for pid in tree:  # as long as somebody holds it, no new namespace gets the number of an old one
            with contextlib.suppress(OSError):
                held.enter_context(Path(f"/proc/{pid}/ns/mnt").open())
        owner.communicate()
        wait_until(
            lambda: not tree & parents().keys(), timeout=10, what="the engine is still there", polling=True
        )
        assert not inside & {mount_namespace(pid) for pid in parents()}
    assert mounts() == before
    assert list(tmp_path.iterdir()) == []


@needs_docker
def test_an_engine_is_its_hosts_own() -> None:
    with Lab(user_namespace=True) as lab:
        with_engine, without = lab.host("with"), lab.host("without")
        start_engine(with_engine, ["nc"])
        assert with_engine.shell("docker images --quiet --filter reference=lab")
        assert "172.17.0.1/16" in with_engine.ip("-brief address show docker0")
        with pytest.raises(CommandFailed, match=r"(?i)cannot connect to the docker daemon"):
            without.shell("docker ps")


@needs_docker
def test_what_dockerd_refuses_is_one_line() -> None:
    with (
        Lab(user_namespace=True) as lab,
        pytest.raises(CommandFailed, match=r"^a: dockerd: .*unknown flag: --no-such-option$"),
    ):
        start_engine(lab.host("a"), ["nc"], "--no-such-option")


@needs_docker
def test_a_dockerd_that_is_still_ending_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sockets close before it has ended, so the import is refused first."""
    ending = tmp_path / "dockerd"
    ending.write_text(
        "#!/bin/sh\ntrap 'echo no space left >&2; exit 1' TERM\nexec 3<&-\nwhile :; do sleep 0.05; done\n"
    )
    ending.chmod(0o755)
    monkeypatch.setattr(control, "SEARCH_PATH", f"{tmp_path}:{control.SEARCH_PATH}")
    with Lab(user_namespace=True) as lab, pytest.raises(CommandFailed, match=r"^a: dockerd: no space left$"):
        start_engine(lab.host("a"), ["nc"])


def test_a_program_for_the_image_that_is_not_installed_is_named() -> None:
    with pytest.raises(ProgramMissing, match=r"^no-such-program is not installed$"):
        image(["no-such-program"])


def test_the_image_runs_by_itself(tmp_path: Path) -> None:
    """Unpacked, with nothing else, `talk` runs: it says that it lacks arguments."""
    with tarfile.open(fileobj=io.BytesIO(image(["talk", "sh"]))) as archive:
        assert {(one.uid, one.gid) for one in archive} == {(0, 0)}
        archive.extractall(tmp_path, filter="data")
    run = subprocess.run(
        ["unshare", "--user", "--map-root-user", "chroot", tmp_path, "/bin/talk"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr.startswith("usage: talk ")
    assert "dynload" not in run.stderr
