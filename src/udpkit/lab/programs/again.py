"""Runs a program once more, on a copy of its file system that nobody keeps.

Its standard input begins with a line of JSON, `udpkit.lab.again.Remembered`; what follows is the program's.
It gets a mount namespace of its own. Every file system that the program sees is laid below an
overlay in memory, so that what it writes goes there, and sockets in the file system lead to nobody. It has
the user and the environment that it had, and none of the capabilities with which root could reach further.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS = 0x20000  # linux/sched.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32  # linux/mount.h
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
HARMLESS = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24  # linux/prctl.h
KEPT = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 18, 23, 24}
"""Capabilities of a server that root started: files, users, its own network, chroot (linux/capability.h)."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
TOP = Path("/sys")
"""Where the copy is put together: in our mount namespace, over what no server needs."""
NOT_FILES = ("/proc/", "/sys/", "/dev/")
MOST_LAYERS = 400
MEMORY = "256m"
"""What it may write."""


def first_line() -> bytes:
    """Byte by byte: what comes after it is not ours."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit("the program to start was not named")
        line += byte
    return line


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> bool:
    """mount(2): where the program lives there may be no mount(8)."""
    words = [os.fsencode(word) or None for word in (source, target, kind, options)]
    failed: int = LIBC.mount(*words[:3], ctypes.c_ulong(flags), words[3])
    return not failed


def apart(pid: int | None) -> None:
    """A mount namespace of our own, which begins as that of process `pid`, or as ours."""
    if pid is not None:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
        if LIBC.setns(namespace, CLONE_NEWNS):
            sys.exit("its mounts cannot be entered")
        os.close(namespace)
    if LIBC.unshare(CLONE_NEWNS) or not mount("none", "/", "", MS_REC | MS_PRIVATE):
        sys.exit("there is no mount namespace to be had")


class Copy:
    """A root directory in memory with what a program saw, changed by nobody but us.

    `mounts` are the directories at which file systems begin, outer ones first.
    """

    def __init__(self, mounts: list[str], *, real_root: bool) -> None:
        self.mounts, self.real_root = mounts, real_root
        self.layers = 0
        if not mount("tmpfs", str(TOP), "tmpfs", 0, f"size={MEMORY}"):
            sys.exit("there is no memory for what the program writes")
        self.root = TOP / "root"
        self.root.mkdir()
        self.lay("")
        if real_root:
            for path in mounts:
                if not f"{path}/".startswith(NOT_FILES) and Path(f"{self.root}{path}").is_dir():
                    self.overlay(path)

    def lay(self, path: str) -> None:
        """In a user namespace no directory with a mount beneath can be laid: then its parts, one by one."""
        beneath = any(one.startswith(f"{path}/") for one in self.mounts)
        if (self.real_root or not beneath) and self.overlay(path):
            return
        if not beneath:
            return  # we may not look into it, and so neither could the program
        with os.scandir(path or "/") as entries:
            for entry in entries:
                there, here = f"{path}/{entry.name}", Path(f"{self.root}{path}/{entry.name}")
                if entry.is_symlink():
                    here.symlink_to(Path(there).readlink())
                elif entry.is_dir():
                    here.mkdir()
                    if not f"{there}/".startswith(NOT_FILES):
                        self.lay(there)
                elif entry.is_file():
                    here.touch()
                    mount(there, str(here), "", MS_BIND)
                    if not mount("none", str(here), "", MS_REMOUNT | MS_BIND | MS_RDONLY):
                        LIBC.umount2(os.fsencode(here), 0)

    def overlay(self, path: str) -> bool:
        lower, target = path or "/", f"{self.root}{path}"
        if self.layers == MOST_LAYERS or set(lower) & set(":,\\"):
            return False
        self.layers += 1
        work = TOP / f"layer{self.layers}"
        (work / "upper").mkdir(parents=True)
        (work / "work").mkdir()
        layers = f"lowerdir={lower},upperdir={work}/upper,workdir={work}/work"
        return mount("overlay", target, "overlay", 0, layers + ("" if self.real_root else ",userxattr"))

    def proc_and_dev(self) -> None:
        mount("/proc", f"{self.root}/proc", "", MS_BIND | MS_REC)
        if not mount("none", f"{self.root}/proc", "", MS_REMOUNT | MS_BIND | HARMLESS):
            sys.exit("/proc cannot be kept from being written")
        mount("tmpfs", f"{self.root}/dev", "tmpfs", 0, "mode=755")
        (self.root / "dev/shm").mkdir(0o1777)
        for device in DEVICES:
            (self.root / "dev" / device).touch()
            mount(f"/dev/{device}", f"{self.root}/dev/{device}", "", MS_BIND)


def main() -> None:
    wanted = json.loads(first_line())
    apart(wanted["elsewhere"])
    real_root = wanted["real_root"]
    copy = Copy(wanted["mounts"], real_root=real_root)
    copy.proc_and_dev()
    os.chroot(copy.root)
    try:
        os.chdir(wanted["cwd"])
    except OSError:
        os.chdir("/")
    for capability in range(64):
        if capability not in KEPT:
            LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if real_root and wanted["uid"]:
        os.setgroups(wanted["groups"])
        os.setresgid(*[wanted["gid"]] * 3)
        os.setresuid(*[wanted["uid"]] * 3)
    surrogates = [one.encode("utf-8", "surrogateescape") for one in wanted["argv"]]
    variables = (one.encode("utf-8", "surrogateescape").partition(b"=") for one in wanted["environ"])
    os.execve(  # noqa: S606 - no shell, on purpose
        wanted["exe"], surrogates, {name: value for name, _, value in variables if name}
    )


main()
