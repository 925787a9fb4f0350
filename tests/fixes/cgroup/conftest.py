"""Cgroups for tests, and programs in them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from udpkit.fixes.cgroup import cgroups
from udpkit.lab import Host, Program, wait_until

CAPABILITIES = (12, 21, 39)
"""CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF (linux/capability.h); root in a container may lack them."""
EFFECTIVE = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
AS_ROOT = all(EFFECTIVE & 1 << bit for bit in CAPABILITIES)
as_root = pytest.mark.skipif(not AS_ROOT, reason="eBPF takes real root")


@dataclass(frozen=True)
class Inside:
    """A host whose programs start in a cgroup."""

    host: Host
    cgroup: Path

    def run(self, *argv: str) -> Program:
        """As `Host.run`."""
        return self.host.run("sh", "-c", 'echo 0 >"$0" && exec "$@"', f"{self.cgroup}/cgroup.procs", *argv)


@pytest.fixture
def alone() -> Iterator[None]:
    """No other test has a fix: all see the same kernel's."""
    with (Path(tempfile.gettempdir()) / "udpkit-fix.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def cgroup(alone: None) -> Iterator[Path]:  # noqa: ARG001 -> Iterator[Path]:
    """A cgroup of its own. Its programs have ended when the test has, or end with their lab."""
    path = cgroups.mount() / f"test-udpkit-{os.getpid()}"
    path.mkdir()
    yield path
    for pid in cgroups.processes(path):
        os.kill(pid, 9)
    wait_until(lambda: not cgroups.populated(path), timeout=5, what="a cgroup stays populated", polling=True)
    path.rmdir()
