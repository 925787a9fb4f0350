"""How long `udpkit check` takes on a host with 10,000 UDP sockets: `python bench/check.py`.

The host is one of the lab, with two addresses. The sockets are unconnected wildcards without IP_PKTINFO, so
that all of them are findings, in one process or in a hundred; the ports are below those of clients.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from udpkit.lab import Lab
from udpkit.lab.host import Host
from udpkit.lab.waiting import wait_until

SOCKETS = 10_000
RUNS = 5
ALLOWED = 2.0
"""Seconds."""

HOLDER = """
import resource, socket, sys, time
first, number = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (number + 64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
kept = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(number)]
for port, one in enumerate(kept, first): one.bind(("0.0.0.0", port))
print("up", flush=True)
time.sleep(600)
"""
CHECK = [sys.executable, "-c", "from udpkit.cli import main; main()", "check"]


def hold(host: Host, processes: int) -> None:
    """Open the sockets on ports from 20,000 on."""
    each = SOCKETS // processes
    programs = [
        host.run(sys.executable, "-I", "-S", "-c", HOLDER, str(20_000 + number * each), str(each))
        for number in range(processes)
    ]
    for program in programs:
        wait_until(lambda: b"up" in program.output, [program], timeout=60, what="no sockets")  # noqa: B023


def measure(host: Host, *arguments: str) -> list[float]:
    """Seconds of each run, from start to end."""
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        program = host.run(*CHECK, *arguments)
        program.wait()
        seconds.append(time.perf_counter() - started)
        assert program.status == 1, program.last_words()
        if "--json" in arguments:
            assert len(json.loads(program.output)["hosts"][0]["sockets"]) == SOCKETS
    return seconds


def main() -> None:
    print(f"{'':40} {'median':>9} {'slowest':>9} {'allowed':>9}")
    for processes in (1, 100):
        with Lab() as lab:
            host = lab.host("server")
            for number in (1, 2):
                lab.plug(host, f"eth{number}")
                host.address(f"eth{number}", f"10.0.{number}.1/24", f"fd0{number}::1/64")
            hold(host, processes)
            for arguments in ([], ["--json"]):
                seconds = measure(host, *arguments)
                name = f"{SOCKETS} sockets, {processes} processes {' '.join(arguments)}"
                median = statistics.median(seconds)
                print(f"{name:40} {median:7.2f} s {max(seconds):7.2f} s {ALLOWED:7.2f} s")


if __name__ == "__main__":
    main()
