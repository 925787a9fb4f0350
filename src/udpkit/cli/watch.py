"""`udpkit watch`: live evidence, findings as they become certain."""

from __future__ import annotations

import math
import os
import pwd
import re
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from udpkit.cli import say
from udpkit.cli.check import choose, complete_netns
from udpkit.cli.durations import seconds
from udpkit.cli.exits import FINDINGS, INTERRUPTED, MISSING, OK, USAGE, Failure

if TYPE_CHECKING:
    from udpkit.cli.watching import Watching
    from udpkit.evidence.live import LiveEvidence
    from udpkit.evidence.namespaces import Namespace

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
SMALLEST = 10**5
"""Bytes of a capture file and its predecessor together."""
KEPT = 1 << 2 | 1 << 19
"""CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE (linux/capability.h): without them only the processes of one's own
user can be asked for the sockets that they hold."""


@click.command()
@click.option("-i", "--interface", "interfaces", multiple=True, help="Watch this one; may be given again.")
@click.option(
    "--netns", metavar="NAME|PATH", shell_complete=complete_netns, help="Watch in this network namespace."
)
@click.option("--pid", type=click.IntRange(min=1), help="Watch in the network namespace of this process.")
@click.option("--container", metavar="NAME", help="Watch in that of this container; a name or an id.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line and finding.")
@click.option(
    "--write",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the packets of conversations with findings (pcap).",
)
@click.option("--size", default="100M", show_default=True, help="Of FILE and its predecessor, FILE.1.")
@click.option("--duration", metavar="TIME", help="End after this time: 10s, 5m.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many findings.")
def verb(
    interfaces: Sequence[str],
    netns: str | None,
    pid: int | None,
    container: str | None,
    as_json: bool,
    write: Path | None,
    size: str,
    duration: str | None,
    count: int | None,
) -> int:
    """Watch UDP live, and say what is wrong as soon as that is certain.

    Without --interface: on all interfaces of this host, or of the namespace. Sends nothing and changes
    nothing; takes root to begin, and gives that up once everything is open.

    \b
    Exit codes: 0 nothing found, or only notes · 1 findings · 130 interrupted
                2 no such interface, namespace or file · 5 no permission to capture
    """
    ends = math.inf if duration is None else parse_duration(duration)
    limit = parse_size(size)
    from udpkit.cli.watching import Watching  # before packets come, since it takes a while

    evidence = open_evidence(choose(netns, pid, container), interfaces, whole=write is not None)
    give_up_privileges()
    try:
        evidence.start(write, limit)
    except OSError as error:
        raise Failure(f"{write}: {error.strerror or error}", USAGE) from error
    if evidence.without_drops:
        say(f"without the kernel's reasons for drops: {evidence.without_drops}")
    return run(Watching(evidence, as_json=as_json, writes=write is not None), ends, count or math.inf)


def run(watching: Watching, duration: float, count: float) -> int:
    """Watch until the time is over, there were enough findings, or Ctrl-C; returns the exit code."""
    began = time.monotonic()
    interrupted = False
    ended = {"now": False}

    def end(_number: int, _frame: FrameType | None) -> None:
        ended["now"] = True

    before = signal.signal(signal.SIGTERM, end)
    try:
        with suppress(KeyboardInterrupt), watching:
            interrupted = True
            while not ended["now"] and watching.told < count and time.monotonic() - began < duration:
                watching.look()
                watching.pause(began + duration)
            interrupted = ended["now"]
        watching.finish(time.monotonic() - began)
    finally:
        signal.signal(signal.SIGTERM, before)
    if interrupted:
        return INTERRUPTED
    return FINDINGS if watching.faults else OK


def open_evidence(namespace: Namespace, interfaces: Sequence[str], *, whole: bool) -> LiveEvidence:
    """Raises Failure."""
    from udpkit.evidence.live import open_live

    try:
        return open_live(namespace, interfaces, whole=whole)
    except PermissionError as error:
        raise Failure(
            "watching takes root (CAP_NET_RAW; for the reasons of drops CAP_BPF and CAP_PERFMON). Without "
            "it: `udpkit read` of a capture, `udpkit check` of this host's sockets",
            MISSING,
        ) from error
    except OSError as error:
        unknown = [name for name in interfaces if name not in known_interfaces(namespace)]
        what = (
            f"there is no interface {unknown[0]}" if unknown else f"cannot capture: {error.strerror or error}"
        )
        raise Failure(what, USAGE) from error


def known_interfaces(namespace: Namespace) -> set[str]:
    import socket

    from udpkit.evidence.namespaces import inside

    try:
        return {name for _, name in inside(namespace, socket.if_nameindex)}
    except OSError:
        return set()


def give_up_privileges() -> None:
    """Keep what it takes to find the processes that hold sockets; under sudo, be the user who called it."""
    from udpkit import _native

    user: int | None = None
    if os.geteuid() == 0 and (called := os.environ.get("SUDO_UID", "")).isdecimal() and int(called):
        with suppress(KeyError, OSError):
            entry = pwd.getpwuid(int(called))
            os.initgroups(entry.pw_name, entry.pw_gid)
            os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
            user = entry.pw_uid
    try:
        _native.give_up(KEPT, user)
    except OSError as error:
        raise Failure(f"privileges cannot be given up: {error.strerror or error}", MISSING) from error


def parse_duration(text: str) -> float:
    try:
        duration = seconds(text)
    except click.BadParameter as error:
        raise click.BadParameter(error.message, param_hint="--duration") from error
    if duration <= 0:
        raise click.BadParameter(f"{text} is no time to watch", param_hint="--duration")
    return duration


def parse_size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,12})([kMG]?)B?", text, re.ASCII)
    size = int(match[1]) * UNITS[match[2]] if match else 0
    if size < SMALLEST:
        raise click.BadParameter(f"{text} is not a size such as 100M, of 100k at least", param_hint="--size")
    return size
