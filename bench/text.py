"""How fast `udpkit read` takes text: from the start of the program to its findings.

    .venv/bin/python bench/text.py [LINES]

Writes text of tcpdump and of strace with so many lines (2 million without LINES) to a temporary directory, as
a resolver with 20,000 clients would give it, one of which gets its answer from another address. Each is read
three times; the fastest counts.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

UDPKIT = Path(sys.executable).with_name("udpkit")
CLIENTS = 20_000
TIMES = 3
TEN_O_CLOCK = 36_000 * 100_000


def clock(number: int) -> str:
    """The time of day, one number each 10 microseconds."""
    seconds, fraction = divmod(number * 10, 1_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}"


def client(number: int) -> tuple[str, int]:
    number = number % CLIENTS
    return f"10.1.{number >> 8}.{number & 255}", 40000 + number % 1000


def tcpdump() -> Iterator[str]:
    yield "10:00:00.000000 IP 10.9.0.9.41000 > 10.0.0.1.53: 7+ A? www.example.org. (33)\n"
    yield "10:00:00.000100 IP 172.17.0.1.53 > 10.9.0.9.41000: 7 1/0/0 A 192.0.2.1 (49)\n"
    yield "10:00:00.000200 IP 10.9.0.9 > 172.17.0.1: ICMP 10.9.0.9 udp port 41000 unreachable, length 85\n"
    number = 0
    while True:
        address, port = client(number)
        now, query = clock(TEN_O_CLOCK + number), number & 65535
        yield f"{now} IP {address}.{port} > 10.0.0.1.53: {query}+ A? www.example.org. (33)\n"
        yield f"{now} IP 10.0.0.1.53 > {address}.{port}: {query} 1/0/0 A 192.0.2.1 (49)\n"
        number += 1


def strace() -> Iterator[str]:
    yield "socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = 4\n"
    yield 'bind(4, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("0.0.0.0")}, 16) = 0\n'
    number = 0
    while True:
        address, port = client(number)
        peer = f'{{sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr("{address}")}}'
        text = r'"\315\n\1 \0\1\0\0\0\0\0\0\3www\7example\3org\0\0\1"...'
        yield "epoll_wait(3, [{events=EPOLLIN, data={u32=4, u64=4}}], 64, -1) = 1\n"
        yield f"{clock(number)} recvfrom(4, {text}, 4096, 0, {peer}, [16]) = 33\n"
        yield f"{clock(number)} sendto(4, {text}, 49, 0, {peer}, 16) = 49\n"
        number += 1


def measure(kind: str, lines: Callable[[], Iterator[str]], count: int, directory: str) -> None:
    path = Path(directory) / kind
    with path.open("w") as file:
        file.writelines(islice(lines(), count))
    taken, worked = [], []
    for _ in range(TIMES):
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run([UDPKIT, "read", path], check=False, capture_output=True, text=True)
        taken.append(time.monotonic() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        worked.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if ended.returncode != 1:
            sys.exit(f"{kind}: no findings: {ended.stdout}{ended.stderr}")
    size = path.stat().st_size / 1e6
    print(
        f"{kind}: {count} lines, {size:.0f} MB: {min(taken):.2f} s, "
        f"{count / min(taken) / 1000:.0f} thousand lines/s; processor: {min(worked):.2f} s, "
        f"{count / min(worked) / 1000:.0f} thousand lines/s"
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    with tempfile.TemporaryDirectory() as directory:
        measure("tcpdump", tcpdump, count, directory)
        measure("strace", strace, count, directory)


main()
