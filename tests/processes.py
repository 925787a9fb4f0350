"""Which processes there are, and who started them."""

from __future__ import annotations

from pathlib import Path


def parents() -> dict[int, int]:
    """The parent of every process; those that have ended and wait for init to notice do not count."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if state != "Z":
                found[int(entry.name)] = int(parent)
    return found


def descendants(root: int) -> set[int]:
    """Everything that descends from a process."""
    found, parent_of = {root}, parents()
    while more := {pid for pid, parent in parent_of.items() if parent in found} - found:
        found |= more
    return found - {root}
