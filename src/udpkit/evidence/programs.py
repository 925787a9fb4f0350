"""Programs that tell what the kernel knows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

SEARCH_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
"""Where programs are looked for: Debian keeps iptables where an ordinary user's PATH does not lead."""
PATIENCE = 20
"""Seconds that a program has."""
NOT_FOUND = re.compile(r"([^:\s]+): (?:command )?not found$", re.MULTILINE)
"""What a shell says of a program that is missing."""


def find(name: str) -> str | None:
    """Its path, None if it is not installed."""
    return shutil.which(name, path=SEARCH_PATH)


def output(*argv: str, patience: float = PATIENCE) -> str | None:
    """What it printed; None if it could not be run, failed, or took longer than `patience` seconds."""
    try:
        run = subprocess.run(argv, capture_output=True, check=False, timeout=patience)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.decode(errors="replace") if run.returncode == 0 else None
