"""One-way bulk senders: `python senders.py NAME PORT SECONDS SIZE` sends to 127.0.0.1:PORT.

As fast as the kernel takes it. Prints one line of figures, like `echo send`, its counterpart in C.
"""

from __future__ import annotations

import sys
import time

BATCH = 64
"""Datagrams per call. As in echo.c."""


def send(port: int, seconds: float, size: int, gso: bool) -> None:
    from udpkit import Socket

    batch = [(bytes(size), None)] * BATCH
    sent = 0
    with Socket("127.0.0.1", peer=("127.0.0.1", port), gso=gso) as client:
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            sent += client.send_many(batch)
    print(f"sent {sent} seconds {elapsed:.6f}")


SENDERS = {"gso": True, "sendmmsg": False}


if __name__ == "__main__":
    name, port, seconds, size = sys.argv[1:]
    try:
        send(int(port), float(seconds), int(size), SENDERS[name])
    except ImportError as error:
        sys.exit(f"cannot run: {error}")
