"""The exchanges with which every fix is tried: how it serves each kind of program.

What client and server say to each other is the experiment's; these are the programs that say it. `talk` is
the lab's own plain program, `nc` is OpenBSD's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exchange:
    """The command lines of a server and its client, with the placeholders of a fix."""

    server: str
    client: str


EXCHANGES = {
    "connected": Exchange("talk serve {wildcard} {port}", "talk ask --connect {address} {port}"),
    "unconnected": Exchange("talk serve {wildcard} {port}", "talk ask {address} {port}"),
    "nc": Exchange("nc -{six}ul {port}", "nc -{six}u {address} {port}"),
}
"""A server that leaves its source address to the kernel, asked by a client that takes an answer only from
whom it asked, and by one that takes it from anybody; and netcat with itself."""

NOT_TRIED: Mapping[str, None] = dict.fromkeys(EXCHANGES)
"""The programs of a fix that does not concern how a server answers."""
