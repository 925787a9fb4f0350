"""A real Docker engine inside a lab host, away from any engine of the machine (dockerd(8))."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from privileges import is_real_root

from cli.command import environment
from udpkit.lab import Host, wait_until
from udpkit.lab.docker import image

PATIENCE = 30
"""Seconds for the engine to start, and for anything that is asked of it."""
IMAGE = "nc"


def why_not() -> str | None:
    """Why no engine can be run here; None if one can."""
    if missing := [name for name in ("dockerd", "docker", "nc") if not shutil.which(name)]:
        return f"{' and '.join(missing)} not installed (make peers)"
    return None if is_real_root() else "a Docker engine takes real root"


class Engine:
    """A running engine. `environment` makes `docker`, and what asks it, talk to this one."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"DOCKER_HOST": f"unix://{folder}/socket", "DOCKER_CONFIG": str(folder)}

    def docker(self, *arguments: str, data: bytes = b"") -> str:
        """Run `docker` to its end; returns what it printed."""
        run = self._run(*arguments, data=data)
        assert run.returncode == 0, (arguments, run.stderr.decode())
        return run.stdout.decode().strip()

    def is_up(self) -> bool:
        return self._run("version").returncode == 0

    def _run(self, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["docker", *arguments],
            input=data,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
            env=environment(**self.environment),
        )

    def interactive(self, name: str, network: str, *argv: str) -> subprocess.Popen[bytes]:
        """A container whose program reads from here."""
        return subprocess.Popen(
            ["docker", "run", "--interactive", "--name", name, "--network", network, IMAGE, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(**self.environment),
        )

    def ask(self, name: str, template: str) -> str:
        """What `docker inspect` says of a container; empty while there is none."""
        return self._run("inspect", "--format", template, name).stdout.decode().strip()

    def started(self, name: str) -> int:
        """The container's process, once it runs."""
        asked = "{{.State.Pid}}"
        wait_until(
            lambda: self.ask(name, asked).strip("0") != "",
            timeout=PATIENCE,
            what=f"{name} does not start",
            polling=True,
        )
        return int(self.ask(name, asked))


@contextmanager
def engine(host: Host, folder: Path, *programs: str) -> Iterator[Engine]:
    """Start one in the host's network namespace, with an image of programs; all of it ends with the block.

    Unlike the lab's own (`udpkit.lab.docker`) it gives its containers control groups, takes real root for
    them, and can be asked from outside about processes as this machine numbers them.

    `nsenter --net` rather than `ip netns exec`, which hides the mounts of the control groups. What the engine
    itself mounts ends with its mount namespace.
    """
    argv = ["nsenter", f"--net={host.namespace}", "unshare", "--mount", "dockerd", "--storage-driver", "vfs"]
    argv += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    one = Engine(folder)
    log = folder / "log"
    with log.open("wb") as file:
        daemon = subprocess.Popen([*argv, "--host", one.environment["DOCKER_HOST"]], stdout=file, stderr=file)
    try:
        wait_until(
            lambda: daemon.poll() is not None or one.is_up(),
            timeout=PATIENCE,
            what="dockerd does not answer",
            polling=True,
        )
        assert daemon.poll() is None, log.read_text()[-2000:]
        one.docker("import", "-", IMAGE, data=image(programs))
        yield one
        if containers := one.docker("ps", "--all", "--quiet").split():
            one.docker("rm", "--force", *containers)
    finally:
        daemon.terminate()  # it ends its containers first
        daemon.wait(PATIENCE)
