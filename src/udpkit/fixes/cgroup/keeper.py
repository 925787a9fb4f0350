"""The process that holds a fix, and keeps it in step with the host."""

from __future__ import annotations

import itertools
import os
import resource
import secrets
import select
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from udpkit import _native
from udpkit._native import CgroupFix, LoadedFix
from udpkit.evidence import namespaces
from udpkit.evidence.namespaces import Namespace
from udpkit.fixes.cgroup import addresses, cgroups
from udpkit.fixes.cgroup.addresses import Addresses

FLOWS = 16384
"""Peers that are remembered, if nobody says otherwise: 1.5 MB."""
SLOTS = range(1, 64)
LOOKING = 0.25
"""Seconds between two looks whether the fix is asked to leave."""
NAMESPACES_LOOKING = 2.0
"""Seconds between two looks for new network namespaces."""
PATIENCE = 2.0
"""Seconds that the fix of a process which has been killed may take to vanish."""


class AlreadyFixed(Exception):
    """There is a fix on this cgroup."""


class Keeper:
    """A fix on a cgroup; a context manager.

    namespace: one that is served from the beginning. only: no others are, else all in which the cgroup has
    processes. connect: fix programs that connect() their listener, too; from its first rule on, a namespace
    looks up every route a little slower: the kernel no longer takes its short cut (fib_lookup, fib_unmerge).
    """

    def __init__(
        self,
        cgroup: Path,
        flows: int = FLOWS,
        namespace: Namespace | None = None,
        *,
        only: bool = False,
        connect: bool = True,
    ) -> None:
        """Raises PermissionError, OSError for what the kernel lacks, AlreadyFixed."""
        self.cgroup = cgroup
        self._first = [namespace] if namespace else []
        self._only = os.stat(namespace.path).st_ino if namespace and only else None  # noqa: PTH116
        self._own = os.stat(namespaces.own().path).st_ino  # noqa: PTH116
        self._connect = connect
        self._served: dict[int, Addresses] = {}
        self._is_blind = False
        descriptor = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._inode = os.fstat(descriptor).st_ino
            with cgroups.locked():
                others = self._others()
                slot = next((slot for slot in SLOTS if slot not in {one.slot for one in others}), None)
                if slot is None:
                    raise AlreadyFixed(f"{len(others)} fixes are attached on this host: that is the most")
                # By chance: those that were killed have left some behind.
                with memory():
                    self.fix = CgroupFix(slot, secrets.randbits(16), flows=flows)
                try:
                    self._serve()
                    self._attach(descriptor)
                except BaseException:
                    self.close()
                    raise
        finally:
            os.close(descriptor)

    def _attach(self, descriptor: int) -> None:
        """Raises NoCgroups, OSError."""
        try:
            self.fix.attach(descriptor, self._inode)
        except PermissionError as error:  # of which loading them has not been refused
            raise cgroups.NoCgroups(
                f"{self.cgroup} or one above it has BPF programs that let no others beside them: "
                "bpftool cgroup tree"
            ) from error

    def _others(self) -> list[LoadedFix]:
        """The fixes that there are. Raises AlreadyFixed."""
        end = time.monotonic() + PATIENCE
        while True:
            loaded = _native.loaded_fixes()
            if not any(one.cgroup == self._inode for one in loaded):
                return loaded
            if time.monotonic() > end or any(one.cgroup == self._inode and holder(one) for one in loaded):
                raise AlreadyFixed(f"{self.cgroup} has a fix already: udpkit fix list")
            time.sleep(0.01)  # its process was killed, and the kernel is about to take it away

    def _namespaces(self) -> dict[int, Namespace]:
        """Those to be served, by inode. Raises PermissionError."""
        inside = (
            Namespace(f"the namespace of process {pid}", f"/proc/{pid}/ns/net")
            for pid in cgroups.processes(self.cgroup)
        )
        found: dict[int, Namespace] = {}
        refused: PermissionError | None = None
        for namespace in itertools.chain(self._first, inside):
            try:
                inode = os.stat(namespace.path).st_ino  # noqa: PTH116
            except PermissionError as error:
                refused = error
            except OSError:  # the process has just ended
                pass
            else:
                if self._only in (None, inode):
                    found.setdefault(inode, namespace)
            if found and (self._only or not self.fix.namespaces):
                break
        if refused and not found:
            raise refused
        self._is_blind = refused is not None
        # Who comes into an empty cgroup is most likely there, and must not be answered wrong until we look.
        # Unlike that of a container, it does not live longer because of us.
        if self._only is None and (not found or (self.fix.namespaces and self._own in self._served)):
            found.setdefault(self._own, namespaces.own())
        return found

    def _serve(self) -> None:
        """Begin to serve namespaces that are new, and let go of those that are empty.

        To be called locked. Raises OSError if none can be served.
        """
        failed: OSError | None = None
        found = self._namespaces()
        for inode in self._served.keys() - found.keys():
            self._served.pop(inode).close()
        for inode in found.keys() - self._served.keys():
            try:
                served = Addresses(found[inode], self.fix, connect=self._connect)
            except OSError:
                continue  # its last process has just ended
            self._served[inode] = served
            try:
                served.follow({one.instance for one in _native.loaded_fixes()})
            except OSError as error:  # of one: the others shall not suffer, and it is tried again
                failed = error
        if failed and all(one.behind for one in self._served.values()):
            raise failed

    def keep(self, until: Callable[[], bool], descriptors: Iterable[int] = ()) -> None:
        """Keep in step until the fix is asked to leave, its cgroup or only namespace has gone, or `until()`.

        That is asked whenever one of `descriptors` is readable, and a few times a second.
        """
        descriptors = list(descriptors)
        with suppress(OSError):
            clear_left()
        looked = time.monotonic()
        with cgroups.events(self.cgroup) as events:
            while not (until() or self.fix.is_to_leave() or self.has_gone):
                poll = select.poll()
                for descriptor in [*descriptors, *(one.fileno() for one in self._served.values())]:
                    poll.register(descriptor, select.POLLIN)
                for descriptor in events:
                    poll.register(descriptor, select.POLLPRI)
                ready = {descriptor for descriptor, _ in poll.poll(1000 * LOOKING)}
                news = [one for one in self._served.values() if one.behind or one.fileno() in ready]
                for one in news:
                    one.hear()
                for one in news:
                    with suppress(OSError):
                        one.follow()
                if cgroups.has_come(events & ready) or time.monotonic() - looked > NAMESPACES_LOOKING:
                    looked = time.monotonic()
                    with suppress(OSError), cgroups.locked():
                        self._serve()

    @property
    def has_gone(self) -> bool:
        """Whether nobody is left whom this could serve."""
        try:
            is_there = self.cgroup.stat().st_ino == self._inode  # else a new one has its name
        except OSError:
            is_there = False
        return not is_there or (self._only is not None and not self._served)

    @property
    def is_whole(self) -> bool:
        """Whether this is the cgroup above all others."""
        return self.cgroup == cgroups.mount()

    @property
    def sentences(self) -> list[str]:
        """What could not be done."""
        limited = [one for one in self._served.values() if one.sentence]
        said = [": ".join(filter(None, (one.namespace.name, one.sentence))) for one in limited]
        if self._is_blind:
            said.append("some processes may not be looked at (CAP_SYS_PTRACE): they stay as they are")
        if not self.fix.namespaces and not self._only:
            said.append("before Linux 6.15 a fix serves one network namespace, the first of the cgroup's")
        return said

    def close(self) -> None:
        """Detach, and take back every rule and table."""
        self.fix.close()
        while self._served:
            self._served.popitem()[1].close()

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def clear_left() -> bool:
    """Remove what fixes that were killed have left on this host; whether there was any. Raises OSError."""
    with cgroups.locked():
        return addresses.clear_left({one.instance for one in _native.loaded_fixes()})


@contextmanager
def memory() -> Iterator[None]:
    """Before Linux 5.11 BPF maps count as locked memory (getrlimit(2)), of which even root has little."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with suppress(OSError, ValueError):  # not without CAP_SYS_RESOURCE; newer kernels need none of it
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


def holder(fix: LoadedFix) -> int | None:
    """The process that holds a fix, as /proc numbers it; None if it cannot be seen there."""
    others = (entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit())
    for pid in itertools.chain([str(fix.owner)], others):  # it may have another number for itself
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fdinfo").iterdir():
                with suppress(OSError):
                    if f"\nmap_id:\t{fix.map}\n" in descriptor.read_text():
                        return int(pid)
    return None
