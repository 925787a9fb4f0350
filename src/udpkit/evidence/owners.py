"""Which program holds a socket."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def socket_owners(proc: Path = Path("/proc")) -> dict[int, str]:
    """The name of a program for every socket inode whose holder we may look at (proc_pid_fd(5)).

    Without privilege these are the programs of one's own; a socket shared by several has one of them.
    """
    owners: dict[int, str] = {}
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            name = (process / "comm").read_bytes().decode(errors="replace").strip()
            descriptors = list((process / "fd").iterdir())
        except OSError:
            continue  # it ended meanwhile, or is not ours to see
        for descriptor in descriptors:
            with suppress(OSError):  # closed meanwhile
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    owners.setdefault(int(target[8:-1]), name)
    return owners
