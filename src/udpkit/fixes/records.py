"""What was applied to the hosts of this machine, to be taken back exactly. A reboot ends both."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from udpkit.evidence.namespaces import cookie

FOLDER = Path("/run/udpkit")
BOOT = Path("/proc/sys/kernel/random/boot_id")
"""It has another content after each reboot, which /run in a container may outlive (random(4))."""


class Step(msgspec.Struct, frozen=True):
    """One command with what takes it back, and how to ask whether it is in place: see `Check`."""

    command: str
    undo: str
    asks: str
    wants: str
    gone: bool = False


class Record(msgspec.Struct, kw_only=True):
    """A fix that was applied; `complete` only once it was verified. `tables`: those of nftables
    that there were not."""

    fix: str
    namespace: str
    place: str
    once: str
    since: float
    client: str
    server: str
    steps: list[Step]
    settle: list[str]
    complete: bool = False
    tables: list[str] = []
    path: str = ""

    @property
    def about(self) -> str:
        return f"{self.client} → {self.server}"

    def names(self, word: str) -> bool:
        """Whether it is about this client or server; its port may be left out."""
        ends = [self.client, self.server]
        return word in {*ends, *(end.rpartition(":")[0].strip("[]") for end in ends)}


def namespace_key() -> str:
    """What tells the calling thread's network namespace from all others, of earlier boots as well."""
    boot = BOOT.read_text().strip()
    with suppress(OSError):  # before Linux 5.14
        return f"{boot}-{cookie():016x}"
    return f"{boot}-inode-{Path('/proc/thread-self/ns/net').stat().st_ino}"


@contextmanager
def locked() -> Iterator[None]:
    """One at a time, of all that apply and undo. Raises OSError."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(FOLDER / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(record: Record) -> None:
    """Note it, or what has become of it. To be called locked. Raises OSError."""
    if not record.path:
        taken = {path.stem for path in FOLDER.glob("*.json")}
        number = next(one for one in range(1, len(taken) + 2) if str(one) not in taken)
        record.path = str(FOLDER / f"{number}.json")
    fresh = Path(f"{record.path}.new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(record))
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(record.path)


def read(namespace: str) -> list[Record]:
    """What was applied in a namespace, the latest last. Raises OSError."""
    found: list[Record] = []
    try:
        names = os.listdir(FOLDER)  # noqa: PTH208 - unlike glob(), it says that it may not look
    except FileNotFoundError:
        return []
    for path in (FOLDER / name for name in names if name.endswith(".json")):
        with suppress(FileNotFoundError, msgspec.MsgspecError):
            record = msgspec.json.decode(path.read_bytes(), type=Record)
            record.path = str(path)
            if record.namespace == namespace:
                found.append(record)
    return sorted(found, key=lambda record: record.since)


def forget(record: Record) -> None:
    Path(record.path).unlink(missing_ok=True)
