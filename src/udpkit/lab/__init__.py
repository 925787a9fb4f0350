"""Hosts, links, programs and captures on real Linux; experiments on them."""

from udpkit.lab.capture import Capture
from udpkit.lab.errors import CommandFailed, LabError, LabUnavailable, ProgramMissing, TimedOut
from udpkit.lab.host import Host
from udpkit.lab.lab import Lab
from udpkit.lab.program import Program
from udpkit.lab.waiting import wait_until

__all__ = [
    "Capture",
    "CommandFailed",
    "Host",
    "Lab",
    "LabError",
    "LabUnavailable",
    "Program",
    "ProgramMissing",
    "TimedOut",
    "wait_until",
]
