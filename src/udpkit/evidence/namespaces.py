"""Network namespaces: all of this machine's, the one of a process or a container, and how to look inside."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from udpkit import _native
from udpkit.evidence.programs import output

T = TypeVar("T")

NAMED = Path("/run/netns")
"""Where `ip netns` keeps those that have names."""

CLONE_NEWNET = 0x40000000
"""linux/sched.h"""

SO_NETNS_COOKIE = 71
"""asm-generic/socket.h, from Linux 5.14 on."""

CONTAINERS = (
    re.compile(r"(?<!conmon-)([0-9a-f]{64})(?:\.scope)?(?:/|$)", re.ASCII | re.MULTILINE),
    re.compile(r"/lxc(?:\.payload\.|/)([^/\n]{1,64})"),
    re.compile(r"/machine\.slice/machine-([^/\n]{1,64})\.scope"),
)
"""What a process's cgroup path says of its container: docker, containerd, podman and CRI-O use 64 digits."""

ENGINES = ("docker", "podman", "nerdctl")
ENGINE_PATIENCE = 5
"""Seconds that an engine has to answer."""
PAUSES = 10
"""Between two questions about names pass so many times as long as the last one took."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace. `name` is empty for the caller's own; `path` can be opened and entered."""

    name: str
    path: str


def inside(namespace: Namespace, look: Callable[[], T]) -> T:
    """What `look()` returns inside the namespace; programs that it starts run there too.

    A thread enters, and ends there: nothing needs to be restored. For the same reason /proc/thread-self/net
    is that namespace's, and /proc/net is not. Raises OSError as open(2) and setns(2) do.
    """

    def enter() -> T:
        descriptor = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _native.setns(descriptor, CLONE_NEWNET)
        finally:
            os.close(descriptor)
        return look()

    if not namespace.name or _inode(namespace.path) == _inode("/proc/thread-self/ns/net"):
        return look()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter).result()


def own() -> Namespace:
    return Namespace("", "/proc/self/ns/net")


def cookie() -> int:
    """Of the calling thread's namespace: a number that no other gets before a reboot. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        told = any_socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
    return int(struct.unpack("=Q", told)[0])


def by_name(name: str) -> Namespace:
    """One that `ip netns` named, or a path to one. Raises OSError."""
    path = str(NAMED / name) if name and "/" not in name else name
    os.stat(path)  # noqa: PTH116
    if not _inode(path):  # nor is it opened then: that of a FIFO would wait
        raise OSError(errno.EINVAL, "it is no network namespace", path)
    return Namespace(name, path)


def of_process(pid: int) -> Namespace:
    """Raises OSError; ProcessLookupError if there is no such process."""
    path = f"/proc/{pid}/ns/net"
    try:
        os.stat(path)  # noqa: PTH116
    except FileNotFoundError as error:
        raise ProcessLookupError(f"there is no process {pid}") from error
    return Namespace(f"the namespace of process {pid}", path)


def of_container(name: str) -> Namespace:
    """By the name that an engine knows, or the beginning of its id. Raises LookupError."""
    for engine in filter(shutil.which, ENGINES):
        pid = _asked(engine, "inspect", "--format", "{{.State.Pid}}", name).strip()
        if pid.isdecimal() and int(pid):
            return Namespace(name, f"/proc/{pid}/ns/net")
    if name:
        for process in _pids():
            if (_container_id(process) or "").startswith(name):
                return Namespace(name, f"/proc/{process}/ns/net")
    raise LookupError(f"no container called {name} is running")


def every(*, containers: bool = True) -> list[Namespace]:
    """The caller's own, those that have a name, and those in which a process lives that we may look at.

    containers: ask the engines for the names of theirs, which takes time.
    """
    found = {_inode("/proc/self/ns/net"): own()}
    with suppress(OSError):
        for entry in sorted(NAMED.iterdir()):
            found.setdefault(_inode(str(entry)), Namespace(entry.name, str(entry)))
    for pid in _pids():
        path = f"/proc/{pid}/ns/net"
        inode = _inode(path)
        if inode and inode not in found:
            name, process = container(pid) if containers else "", f"the namespace of {_comm(pid)}[{pid}]"
            names = {one.name for one in found.values()}  # a container may have several
            found[inode] = Namespace(name if name and name not in names else process, path)
    found.pop(0, None)
    return list(found.values())


def container(pid: int) -> str:
    """The name of the container that a process runs in, its short id if nobody knows a name; or empty."""
    container_id = _container_id(pid)
    return NAMES.of(container_id) if container_id else ""


def _container_id(pid: int) -> str | None:
    try:
        return container_id(Path(f"/proc/{pid}/cgroup").read_text(errors="replace"))
    except OSError:
        return None


def container_id(cgroups: str) -> str | None:
    """The container that a process's cgroups, as /proc/PID/cgroup has them, belong to; None if to none."""
    # The last is the innermost: pods and engines in containers lie around it.
    return next((found[-1] for one in CONTAINERS if (found := one.findall(cgroups))), None)


class Names:
    """Container names by id, as the engines tell them. For one that is new they are asked again."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._next = 0.0

    def of(self, container_id: str) -> str:
        """The short id if nobody knows a name."""
        if container_id not in self._names and time.monotonic() >= self._next:
            began = time.monotonic()
            self._ask()
            ended = time.monotonic()
            self._next = ended + PAUSES * (ended - began)
        return self._names.get(container_id) or container_id[:12]

    def _ask(self) -> None:
        for engine in filter(shutil.which, ENGINES):
            for line in _asked(engine, "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}").splitlines():
                container_id, _, name = line.partition(" ")
                self._names.setdefault(container_id, name)


NAMES = Names()


def _asked(*argv: str) -> str:
    return output(*argv, patience=ENGINE_PATIENCE) or ""


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _inode(path: str) -> int:
    """0 where we may not look, and for a name to which no namespace is bound any more."""
    try:
        found = os.stat(path)  # noqa: PTH116
        return found.st_ino if found.st_dev == os.stat("/proc/self/ns/net").st_dev else 0  # noqa: PTH116
    except OSError:
        return 0


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
