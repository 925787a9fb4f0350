"""`udpkit watch` beside `tcpdump -w`: packets lost, and CPU time, at the same rates. As root.

Two lab hosts on a cable. One sends datagrams of 100 bytes from 50 sockets at a given rate; the other discards
them in a socket's filter, so that only the capture costs it anything. What was lost is the kernel's own count
for the ring. CPU time is that of all threads, kernel included (schedstat), from the first datagram on; what
it takes to start stands apart.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, TemporaryFile

from udpkit.lab import Lab
from udpkit.lab.host import Host

UDPKIT = str(Path(sys.executable).with_name("udpkit"))
SECONDS = 3
ROUNDS = 3
"""Each is run so often, in turns; of CPU time the median is told, of losses the most."""
SIZE = 100
SOCKETS = 50
RATES = (20_000, 100_000, 300_000)
"""Datagrams a second that are asked for; what could be sent is printed."""
SO_ATTACH_FILTER = 26
BPF_RETURN_0 = struct.pack("HBBI", 0x06, 0, 0, 0)
SENDER = """
import sys, time
from udpkit import Socket
rate, seconds, size, sockets = map(int, sys.argv[1:])
batch = [(bytes(size), None)] * 32
clients = [Socket("192.0.2.1", peer=("192.0.2.2", 5000), gso=False) for _ in range(sockets)]
sent, turn, began = 0, 0, time.monotonic()
while (now := time.monotonic() - began) < seconds:
    if sent >= rate * now:
        time.sleep(0.0005)
        continue
    sent += clients[turn % sockets].send_many(batch)
    turn += 1
print(sent)
"""


def discard(host: Host) -> socket.socket:
    """A socket that takes nothing: its filter drops what arrives."""
    sink = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
    code = ctypes.create_string_buffer(BPF_RETURN_0)
    program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(code))  # struct sock_fprog
    sink.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    sink.bind(("192.0.2.2", 5000))
    return sink


def cpu(pid: int) -> float:
    """Seconds of all threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def capture(host: Host, sender: Host, rate: int, argv: list[str]) -> tuple[int, int, int, float, float]:
    """Datagrams sent, packets captured, lost; seconds of CPU to start, and to capture."""
    with TemporaryFile() as told:
        process = subprocess.Popen(argv, stdout=told, stderr=told)
        deadline = time.monotonic() + 10
        while len(host.read("/proc/net/packet").splitlines()) < 2:  # its head, and the packet socket
            assert time.monotonic() < deadline
            assert process.poll() is None, argv
            time.sleep(0.01)
        time.sleep(0.5)
        start = cpu(process.pid)
        run = sender.run(sys.executable, "-c", SENDER, *map(str, (rate, SECONDS, SIZE, SOCKETS)))
        run.wait(SECONDS + 20)
        time.sleep(0.3)
        took = cpu(process.pid) - start
        process.send_signal(signal.SIGINT)
        process.wait(20)
        told.seek(0)
        text = told.read().decode()
    packets, lost = (re.search(pattern, text) for pattern in (CAPTURED, LOST))
    return int(run.output), int(packets[1]) if packets else 0, int(lost[1]) if lost else 0, start, took


CAPTURED = r"(\d+) packets (?:captured|in)"
LOST = r"(\d+) packets (?:dropped by kernel|lost)"


def main() -> None:
    if os.geteuid() != 0 or not shutil.which("tcpdump"):
        sys.exit("skipped: this takes root and tcpdump")
    head = f"{'asked/s':>9} {'sent':>9}   {'':18} {'captured':>9} {'lost':>7} {'start, CPU s':>12}"
    print(f"{head} {'CPU s':>7} {'ns each':>8}")
    with Lab() as lab, TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)  # tcpdump writes as a user of its own
        a, b = lab.host("a"), lab.host("b")
        lab.link(a, "eth0", b, "eth0")
        a.address("eth0", "192.0.2.1/24")
        b.address("eth0", "192.0.2.2/24")
        tcpdump = ["nsenter", f"--net={b.namespace}", "tcpdump", "-ni", "eth0", "udp or icmp", "-w"]
        commands = {
            "tcpdump -w FILE": [*tcpdump, f"{folder}/file.pcap"],
            "tcpdump -w null": [*tcpdump, "/dev/null"],
            "udpkit watch": [UDPKIT, "watch", "--netns", b.namespace, "-i", "eth0"],
        }
        with discard(b):
            for rate in RATES:
                runs = [
                    {name: capture(b, a, rate, argv) for name, argv in commands.items()}
                    for _ in range(ROUNDS)
                ]
                for name in commands:
                    sent, packets, lost, start, took = zip(*(run[name] for run in runs), strict=True)
                    each = [1e9 * cpu / max(count, 1) for cpu, count in zip(took, packets, strict=True)]
                    counts = f"{rate:9} {max(sent):9}   {name:18} {max(packets):9} {max(lost):>7}"
                    print(f"{counts} {median(start):12.2f} {median(took):7.3f} {median(each):8.0f}")


if __name__ == "__main__":
    main()
