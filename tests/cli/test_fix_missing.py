"""What `udpkit fix` says where something is missing, or not there."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
from pathlib import Path

import pytest
from fixes.cgroup.conftest import AS_ROOT, Inside, alone, as_root, cgroup

from cli.command import TIMEOUT, UDPKIT, environment, udpkit
from cli.fixing import PATIENCE, lab, nothing_is_left, traces
from udpkit.fixes.cgroup import cgroups
from udpkit.lab import Lab, wait_until

__all__ = ["alone", "cgroup", "lab", "nothing_is_left"]

BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_CGROUP_SKB, BPF_CGROUP_INET_INGRESS = 5, 8, 8, 0
"""linux/bpf.h"""


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
