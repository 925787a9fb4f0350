"""Which program holds a socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a socket open, and the descriptor under which it has it."""

    pid: int
    descriptor: int
    name: str


def socket_holders(proc: Path = Path("/proc")) -> dict[int, Holder]:
    """A holder for every socket inode whose holder we may look at (proc_pid_fd(5)).

    Without privilege these are the programs of one's own; a socket shared by several has one of them.
    """
    holders: dict[int, Holder] = {}
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            name = (process / "comm").read_bytes().decode(errors="replace").strip()
            descriptors = os.listdir(process / "fd")  # noqa: PTH208 - there may be a hundred thousand
        except OSError:
            continue  # it ended meanwhile, or is not ours to see
        pid = int(process.name)
        for descriptor, inode in _sockets(f"{process}/fd/", descriptors):
            holders.setdefault(inode, Holder(pid, descriptor, name))
    return holders


def _sockets(folder: str, descriptors: list[str]) -> Iterator[tuple[int, int]]:
    for descriptor in descriptors:
        with suppress(OSError):  # closed meanwhile
            target = os.readlink(folder + descriptor)  # noqa: PTH115
            if target.startswith("socket:["):
                yield int(descriptor), int(target[8:-1])


def socket_owners(proc: Path = Path("/proc")) -> dict[int, str]:
    """The name of a program for every socket inode whose holder we may look at."""
    return {inode: holder.name for inode, holder in socket_holders(proc).items()}
