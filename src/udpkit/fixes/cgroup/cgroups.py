"""Cgroups of version 2: where they are mounted, who is in them, and one of our own."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PREFIX = "udpkit-"
"""Our own cgroups are called so, with the number of the process that made them."""
MANAGED = (".service", ".scope")
"""Below a cgroup that is called so, another manager than the host's has its units."""
LOCK = Path("/run/udpkit/cgroups.lock")


class NoCgroups(OSError):
    """The cgroup that is needed cannot be had."""


def mount(mountinfo: Path = Path("/proc/self/mountinfo")) -> Path:
    """Where cgroup2 is mounted (proc_pid_mountinfo(5)); on hybrid hosts that is not /sys/fs/cgroup.

    Raises NoCgroups.
    """
    mounts: list[tuple[str, str]] = []
    for line in mountinfo.read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            _, _, _, root, point, *_ = before.split(" ")
            mounts.append((root, re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)))
    if not mounts:
        raise NoCgroups("no cgroup2 file system is mounted: mount -t cgroup2 none DIRECTORY")
    return Path(min(mounts)[1])  # that of the root comes first


def of_process(pid: int | str) -> Path:
    """The cgroup of a process. Raises ProcessLookupError, NoCgroups."""
    root = mount()
    path = root / _path(pid).lstrip("/")
    if not path.is_dir():
        raise NoCgroups(f"the cgroup of process {pid} is not below {root}")
    return path


def _path(pid: int | str) -> str:
    """The same, from the root of our own cgroup namespace on (proc_pid_cgroup(5))."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(errors="surrogateescape").splitlines()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"there is no process {pid}") from error
    for line in lines:
        if line.startswith("0::"):
            return line[3:]
    raise NoCgroups(f"process {pid} is in no cgroup of version 2")


def of_unit(unit: str) -> Path:
    """The cgroup of a systemd unit; `.service` may be left out. Raises LookupError, NoCgroups.

    Those of the host's manager come before those of users, and of containers with a manager of their own.
    """
    root = mount()
    found: dict[int, list[Path]] = {}
    for folder, names, _ in os.walk(root):
        for name in {unit, f"{unit}.service"} & set(names):
            above = Path(folder).relative_to(root).parts
            found.setdefault(sum(part.endswith(MANAGED) for part in above), []).append(Path(folder) / name)
    nearest = sorted(found[min(found)]) if found else []
    if len(nearest) > 1:
        raise LookupError(f"{len(nearest)} units are called {unit}, say which with --cgroup: {nearest[0]}, …")
    if not nearest:
        raise LookupError(f"no unit called {unit} has a cgroup below {root}")
    return nearest[0]


def by_path(path: str) -> Path:
    """A cgroup as a folder, or as /proc/PID/cgroup names it. Raises LookupError, NoCgroups."""
    root = mount()
    for candidate in (Path(path).resolve(), (root / path.lstrip("/")).resolve()):
        if candidate.is_relative_to(root.resolve()) and (candidate / "cgroup.procs").exists():
            return root / candidate.relative_to(root.resolve())
    raise LookupError(f"there is no cgroup {path} below {root}")


def names_of(inodes: set[int]) -> dict[int, Path]:
    """The folders of cgroups, by their inodes; those that have gone are left out. Raises NoCgroups."""
    found: dict[int, Path] = {}
    for folder, _, _ in os.walk(mount()):
        with suppress(OSError):
            inode = os.stat(folder).st_ino  # noqa: PTH116
            if inode in inodes:
                found[inode] = Path(folder)
    return found


def processes(cgroup: Path) -> Iterator[int]:
    """Those in it and below it, as /proc numbers them."""
    inside = f"{cgroup.relative_to(mount())}/".removeprefix("./")
    for pid in _candidates(cgroup):
        with suppress(OSError):
            path = f"{_path(pid)}/".lstrip("/")
            # `..`: outside of our cgroup namespace (cgroup_namespaces(7)), where /proc is the host's.
            if path.startswith(inside) and not path.startswith("../"):
                yield pid


def _candidates(cgroup: Path) -> Iterator[int]:
    if Path("/proc/self").readlink().name != str(os.getpid()):
        # /proc is that of another PID namespace: the numbers in cgroup.procs mean others there.
        yield from (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return
    for folder, _, _ in os.walk(cgroup):
        with suppress(OSError):
            yield from map(int, (Path(folder) / "cgroup.procs").read_text().split())


def populated(cgroup: Path) -> bool:
    """Whether there are processes in it or below it."""
    try:
        return "populated 1" in (cgroup / "cgroup.events").read_text()
    except OSError:
        return False


@contextmanager
def events(cgroup: Path) -> Iterator[set[int]]:
    """A descriptor with POLLPRI when the first process has come or the last one has ended: see `has_come`.

    None for the cgroup above all others, which is never empty.
    """
    with ExitStack() as opened:
        descriptors = set()
        with suppress(OSError):
            descriptors.add(opened.enter_context((cgroup / "cgroup.events").open("rb")).fileno())
        yield descriptors


def has_come(descriptors: Iterable[int]) -> bool:
    """Whether there are processes, by descriptors of `events`, which wait for the next news from then on."""
    for descriptor in descriptors:
        with suppress(OSError):
            return b"populated 1" in os.pread(descriptor, 4096, 0)
    return False


def make() -> Path:
    """A new cgroup below that of this process. Raises NoCgroups, OSError."""
    # In PID namespaces, of which each lab is one, several processes have the number that os.getpid() tells.
    path = of_process("self") / f"{PREFIX}{Path('/proc/self').readlink().name}"
    path.mkdir()
    if (path / "cgroup.type").read_text().startswith("domain invalid"):
        path.rmdir()
        raise NoCgroups(f"{path.parent} has threads of one program (cgroups(7)): others are to be elsewhere")
    return path


def sweep(kept: set[int]) -> None:
    """Remove cgroups of ours in which nobody is; not those with these inodes, nor of processes that live."""
    for folder, _, _ in os.walk(mount(), topdown=False):  # one may be in another
        path = Path(folder)
        if path.name.startswith(PREFIX) and not alive(path.name.removeprefix(PREFIX)):
            with suppress(OSError):  # it is not empty
                if path.stat().st_ino not in kept:
                    path.rmdir()


def alive(pid: int | str) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@contextmanager
def locked() -> Iterator[None]:
    """One at a time, of all that attach or detach on this host. Raises OSError."""
    # Where only root can wait: whoever may open what is locked can keep all others from it for ever.
    LOCK.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
