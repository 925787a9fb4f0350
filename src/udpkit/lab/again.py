"""A program that runs on this machine, started once more on a lab host."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from udpkit.evidence import privilege
from udpkit.lab.commands import PROGRAMS
from udpkit.lab.host import Host
from udpkit.lab.program import Program

AGAIN = [
    *("unshare", "--ipc"),
    *(sys.executable, "-I", "-S", str(PROGRAMS / "again.py")),
]
MOST_MOUNTS = 200
LARGEST = 1 << 17
"""Bytes of a command line or an environment."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """How a process was started, and the file systems that it sees (proc(5)).

    `elsewhere`: its number, if it is in another mount namespace than we are.
    """

    argv: list[str]
    environ: list[str]
    exe: str
    cwd: str
    elsewhere: int | None
    mounts: list[str]
    uid: int
    gid: int
    groups: list[int]
    real_root: bool


def remember(pid: int) -> Remembered:
    """Raises OSError: the process has ended, may not be looked at, or was started with too much."""
    process = Path(f"/proc/{pid}")
    status = _status(process)
    exe = os.readlink(process / "exe")  # noqa: PTH115
    argv = _strings(process / "cmdline")
    if not argv or exe.endswith(" (deleted)"):
        raise FileNotFoundError(2, "its program is not there any more", exe)
    elsewhere = os.readlink(process / "ns/mnt") != os.readlink("/proc/self/ns/mnt")  # noqa: PTH115
    return Remembered(
        argv=argv,
        environ=_strings(process / "environ"),
        exe=exe,
        cwd=os.readlink(process / "cwd"),  # noqa: PTH115
        elsewhere=pid if elsewhere else None,
        mounts=_mounts(process),
        uid=int(status["Uid"].split()[1]),
        gid=int(status["Gid"].split()[1]),
        groups=[int(group) for group in status["Groups"].split()],
        real_root=privilege.is_in_first_user_namespace()
        and os.geteuid() == 0
        and not privilege.lacking("CAP_SYS_ADMIN"),
    )


def _status(process: Path) -> dict[str, str]:
    text = (process / "status").read_text(errors="replace")
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def start(host: Host, remembered: Remembered, under: Sequence[str] = ()) -> Program:
    """Start it on a lab host; `under` is the command line of a program that starts it. Raises LabError."""
    program = host.run(*under, *AGAIN)
    program.type(json.dumps(asdict(remembered)).encode() + b"\n")
    return program


def _strings(path: Path) -> list[str]:
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise OSError(errno.E2BIG, f"more than {LARGEST >> 10} kB of {path.name}", str(path))
    return [one.decode("utf-8", "surrogateescape") for one in data.split(b"\0")[:-1]]


def _mounts(process: Path) -> list[str]:
    """The directories at which file systems begin, outer ones first."""
    lines = (process / "mountinfo").read_text(errors="surrogateescape").splitlines()
    paths = {re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), line.split()[4]) for line in lines}
    return sorted(paths - {"/"}, key=lambda path: path.count("/"))[:MOST_MOUNTS]
