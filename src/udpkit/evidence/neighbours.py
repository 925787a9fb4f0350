"""The kernel's neighbour tables: who on the link did not answer ARP or neighbour discovery."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from ipaddress import ip_address

from udpkit.facts import Address


def unanswered_neighbours() -> set[Address]:
    """The addresses that the kernel has asked its links for in vain, or does so now; without scopes.

    NUD_FAILED, NUD_INCOMPLETE: ip-neighbour(8). Empty where there is no `ip`.
    """
    unanswered: set[Address] = set()
    if ip := shutil.which("ip"):
        argv = [ip, "neighbour", "show", "nud", "failed", "nud", "incomplete"]
        told = subprocess.run(argv, capture_output=True, check=False, timeout=5)
        for line in told.stdout.decode(errors="replace").splitlines():
            with suppress(ValueError):
                unanswered.add(ip_address(line.partition(" ")[0]))
    return unanswered
