"""How long the lab's building blocks take: `make bench`.

Each figure is the median of several runs, beside what it has to be: a two-host lab at most 200 ms from start
to the first datagram that could cross it, the whole story at most 8 s, the catalogue at most 90 s (two CPUs),
`udpkit --help` at most 100 ms.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from udpkit.lab import Lab

UDPKIT = str(Path(sys.executable).with_name("udpkit"))


def two_hosts() -> None:
    """Two hosts on one cable, with an address each."""
    with Lab() as lab:
        a, b = lab.host("a"), lab.host("b")
        lab.link(a, "eth0", b, "eth0")
        a.address("eth0", "192.0.2.1/24")
        b.address("eth0", "192.0.2.2/24")


def command(*arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run([UDPKIT, *arguments], stdout=subprocess.DEVNULL, check=True)


BENCHES: list[tuple[str, Callable[[], object], int, float]] = [
    ("two-host lab, up and down", two_hosts, 15, 0.2),
    ("udpkit lab (the whole story)", command("lab"), 5, 8.0),
    ("udpkit lab --all (the catalogue)", command("lab", "--all"), 1, 90.0),
    ("udpkit --help", command("--help"), 15, 0.1),
]
"""(what, function, runs, seconds it may take)."""


def main() -> None:
    print(f"{'':34} {'median':>9} {'slowest':>9} {'allowed':>9}")
    for name, function, runs, allowed in BENCHES:
        seconds = []
        for _ in range(runs):
            started = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - started)
        median = statistics.median(seconds)
        print(f"{name:34} {median * 1e3:6.0f} ms {max(seconds) * 1e3:6.0f} ms {allowed * 1e3:6.0f} ms")


if __name__ == "__main__":
    main()
